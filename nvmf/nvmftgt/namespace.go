package nvmftgt

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
)

// NamespaceConfig describes a namespace; SPDK's nvmf_subsystem_add_ns.
type NamespaceConfig struct {
	NSID     uint32    // 0: the lowest free one
	Bdev     string    // name, alias or UUID of the block device
	UUID     uuid.UUID // zero: the device's
	NGUID    [16]byte  // zero: the UUID's bytes
	EUI64    [8]byte   // zero: none
	ANAGroup uint32    // 0: the NSID

	// PTPLFile is the absolute path of the file that keeps reservations over
	// the end of the process, for hosts that ask for it; "": they are not kept.
	PTPLFile string
}

// NamespaceInfo describes a namespace as it is.
type NamespaceInfo = NamespaceConfig

// namespace is one namespace of a subsystem. Identity never changes while it
// exists; the block device behind it may be swapped, or be lost: then the
// namespace is orphaned, answers with a path or ANA status, and is not listed
// any more, but an AddNamespace with its NSID gives it a device again without
// the hosts noticing anything but a pause.
type namespace struct {
	sub   *Subsystem
	nsid  uint32
	uuid  uuid.UUID
	nguid [16]byte
	eui64 [8]byte
	group atomic.Uint32

	gate   gate
	handle atomic.Pointer[bdev.Handle] // nil: orphaned
	orphan atomic.Bool
	last   atomic.Pointer[bdev.Info] // of the device, also of one that was lost
	epoch  atomic.Pointer[uuid.UUID] // of the last opening of a device

	mu   sync.Mutex
	bdev string // its name, not an alias that it was named by
	held []*cmd // commands that wait for the end of a swap
	hold bool

	resv   atomic.Pointer[reservation] // changed while the gate is shut, or before hosts see the namespace
	remote atomic.Bool                 // another target has it: commands are passed on; likewise
}

func (n *namespace) info() NamespaceInfo {
	n.mu.Lock()
	name := n.bdev
	n.mu.Unlock()
	return NamespaceInfo{NSID: n.nsid, Bdev: name, UUID: n.uuid, NGUID: n.nguid, EUI64: n.eui64,
		ANAGroup: n.group.Load(), PTPLFile: n.resv.Load().path()}
}

// namespace returns the namespace or nil; lock-free.
func (s *Subsystem) namespace(nsid uint32) *namespace {
	nss := *s.nss.Load()
	if nsid-1 >= uint32(len(nss)) { // also for 0
		return nil
	}
	return nss[nsid-1]
}

// Namespaces returns the namespaces by NSID. One whose block device was
// removed is left out.
func (s *Subsystem) Namespaces() []NamespaceInfo {
	var out []NamespaceInfo
	for _, n := range *s.nss.Load() {
		if n != nil && !n.orphan.Load() {
			out = append(out, n.info())
		}
	}
	return out
}

// AddNamespace opens and claims a block device and shows it to the hosts. It
// returns the NSID. ENODEV without the device, EPERM when it is claimed,
// EEXIST when NSID, UUID or NGUID are in use, EINVAL otherwise.
func (s *Subsystem) AddNamespace(c NamespaceConfig) (uint32, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	nss := slices.Clone(*s.nss.Load())
	if s.discovery {
		return 0, fmt.Errorf("the discovery subsystem has no namespaces: %w", syscall.EINVAL)
	}
	if c.NSID > uint32(len(nss)) {
		return 0, fmt.Errorf("nsid %d: must be at most max_namespaces %d: %w", c.NSID, len(nss), syscall.EINVAL)
	}
	for i, n := range nss {
		if c.NSID == 0 && (n == nil || n.orphan.Load()) {
			c.NSID = uint32(i) + 1
		}
	}
	if c.NSID == 0 {
		return 0, fmt.Errorf("all %d namespaces are in use: %w", len(nss), syscall.EINVAL)
	}
	old := nss[c.NSID-1]
	if old != nil && !old.orphan.Load() {
		return 0, fmt.Errorf("nsid %d: %w", c.NSID, syscall.EEXIST)
	}
	if c.ANAGroup == 0 {
		c.ANAGroup = c.NSID
	}
	if c.ANAGroup > s.cfg.MaxNamespaces {
		return 0, fmt.Errorf("anagrpid %d: must be at most max_namespaces %d: %w", c.ANAGroup, s.cfg.MaxNamespaces, syscall.EINVAL)
	}
	if old != nil && old.revive(c) {
		return c.NSID, nil
	}
	if s.resv.Load() != nil && c.NSID != sharedNSID {
		return 0, fmt.Errorf("nsid %d: subsystem %s has an array's reservations, and so namespace %d alone: %w", c.NSID, s.cfg.NQN,
			sharedNSID, syscall.EINVAL)
	}
	n := &namespace{sub: s, nsid: c.NSID, eui64: c.EUI64, gate: newGate()}
	n.group.Store(c.ANAGroup)
	h, err := n.open(c.Bdev)
	if err != nil {
		return 0, err
	}
	n.mu.Lock()
	n.bdev = h.Info().Name
	n.mu.Unlock()
	n.handle.Store(h)
	n.last.Store(h.Info())
	s.lastGroup[c.NSID-1].Store(c.ANAGroup)
	n.uuid, n.nguid = c.UUID, c.NGUID
	if n.uuid == uuid.Nil {
		n.uuid = h.Info().UUID
	}
	if n.nguid == [16]byte{} {
		n.nguid = n.uuid
	}
	n.own()
	if c.PTPLFile != "" {
		if err := n.keepReservation(c.PTPLFile); err != nil {
			h.Close()
			return 0, err
		}
	}
	for _, o := range nss {
		if o != nil && o != old && (o.uuid == n.uuid || o.nguid == n.nguid) {
			h.Close()
			return 0, fmt.Errorf("namespace %d has the same uuid or nguid: %w", o.nsid, syscall.EEXIST)
		}
	}
	n.share(h)
	nss[c.NSID-1] = n
	s.mu.Lock()
	if s.deleted {
		s.mu.Unlock()
		n.leave()
		h.Close()
		return 0, fmt.Errorf("subsystem %s: %w", s.cfg.NQN, syscall.ENOENT)
	}
	s.nss.Store(&nss)
	s.mu.Unlock()
	s.namespaceChanged(c.NSID)
	if old != nil {
		old.leave()
		s.anaCountAll()
		s.anaChanged(func(*controller) bool { return true })
	}
	return c.NSID, nil
}

// keepReservation has the reservation kept in a file, and restores what that has.
func (n *namespace) keepReservation(path string) error {
	if !n.sub.reserves() || n.sub.resv.Load() != nil {
		return fmt.Errorf("ptpl_file %q: subsystem %s has a part of the controller ids and offers no reservations: %w", path,
			n.sub.cfg.NQN, syscall.EINVAL)
	}
	r := n.resv.Load()
	r.file = &resvFile{path: path, log: n.sub.tgt.log, bdev: func() uuid.UUID { return n.last.Load().UUID }}
	return r.file.load(r)
}

// revive gives an orphaned namespace a device again when c describes the same
// namespace, so that commands of hosts that are under way go on with it.
func (n *namespace) revive(c NamespaceConfig) bool {
	if c.UUID != n.uuid || c.NGUID != n.nguid && c.NGUID != ([16]byte{}) || c.EUI64 != n.eui64 || c.PTPLFile != n.resv.Load().path() {
		return false
	}
	h, err := n.open(c.Bdev)
	if err != nil {
		return false
	}
	if was, is := n.last.Load(), h.Info(); was.BlockSize != is.BlockSize || was.Blocks > is.Blocks {
		h.Close()
		return false
	}
	n.group.Store(c.ANAGroup)
	n.sub.lastGroup[n.nsid-1].Store(c.ANAGroup)
	n.replace(h)
	n.sub.anaCountAll()
	n.sub.namespaceChanged(n.nsid)
	n.sub.anaChanged(anyController)
	return true
}

// open opens and claims the device for n.
func (n *namespace) open(name string) (*bdev.Handle, error) {
	var self atomic.Pointer[bdev.Handle]
	h, err := n.sub.tgt.cfg.Registry.Open(name, func(k bdev.EventKind) {
		switch k {
		case bdev.Removed:
			go n.lose(&self)
		case bdev.Resized:
			go n.sub.namespaceChanged(n.nsid)
		}
	})
	if err != nil {
		return nil, err
	}
	// Shared: an array's volume stands behind all of its exporters.
	if err := h.ClaimShared("NVMe-oF Target"); err != nil {
		h.Close()
		return nil, err
	}
	if err := n.readable(n.sub.resv.Load(), h); err != nil {
		h.Close()
		return nil, err
	}
	self.Store(h)
	epoch := uuid.New() // the device may have lost what another opening had written
	n.epoch.Store(&epoch)
	h.OnSettle(func() { n.quiesce(h) })
	return h, nil
}

// RemoveNamespace hides the namespace from the hosts, waits until its I/O has
// settled and closes its device. ENOENT when there is none.
func (s *Subsystem) RemoveNamespace(nsid uint32) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	n := s.namespace(nsid)
	if n == nil {
		return fmt.Errorf("namespace %d of %s: %w", nsid, s.cfg.NQN, syscall.ENOENT)
	}
	nss := slices.Clone(*s.nss.Load())
	nss[nsid-1] = nil
	s.nss.Store(&nss)
	orphan := n.orphan.Load()
	n.leave()
	n.drain() // for good: commands that arrive now are refused
	if h := n.handle.Swap(nil); h != nil {
		h.Close()
	}
	s.namespaceChanged(nsid)
	if orphan {
		return fmt.Errorf("namespace %d of %s: %w", nsid, s.cfg.NQN, syscall.ENOENT)
	}
	return nil
}

// SwapNamespace puts another block device behind a namespace in one step:
// commands that arrive meanwhile are held, those under way are waited for.
// Hosts see a pause. ENOENT without the namespace, ENODEV without the device,
// EINVAL when block size differs or the device is smaller.
func (s *Subsystem) SwapNamespace(nsid uint32, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	n := s.namespace(nsid)
	if n == nil {
		return fmt.Errorf("namespace %d of %s: %w", nsid, s.cfg.NQN, syscall.ENOENT)
	}
	h, err := n.open(name)
	if err != nil {
		return err
	}
	if old := n.handle.Load(); old != nil {
		was, is := old.Info(), h.Info()
		if was.BlockSize != is.BlockSize || was.Blocks > is.Blocks {
			h.Close()
			return fmt.Errorf("bdev %q has %d blocks of %d bytes, the namespace %d of %d: %w", name, is.Blocks, is.BlockSize, was.Blocks,
				was.BlockSize, syscall.EINVAL)
		}
	}
	old := n.replace(h)
	if old != nil {
		old.Close()
	}
	n.moved()
	s.anaCountAll()
	s.namespaceChanged(nsid)
	s.anaChanged(func(*controller) bool { return true })
	return nil
}

func (s *Subsystem) anaCountAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.anaCount.Add(1)
	}
}
