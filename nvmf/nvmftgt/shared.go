package nvmftgt

import (
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// An array is exported by several targets, its controllers. One of them, the primary, has
// the array's device; the others have devices that lead to a namespace of the primary's,
// on a subsystem that may be the same or another one. All commands end at the primary, so
// the primary alone has the reservation and judges commands by it, whatever way they come:
//
//	host A ── namespace (remote) ── bdevnvme ── NVMe/TCP ──┐ Host of each command: A
//	                                                       ├─ namespace ── reservation, device
//	host B ────────────────────────────────────────────────┘ Host of the connection: B
//
// A target that passes commands on says in each of which host it is (nvme.Command.SetHost),
// and passes reservation commands on as they are. It is believed where its NQN is among the
// forwarders of the subsystem; what others write there is not looked at. A command that says
// no host is one of a host that is not registered.
//
// The reservation is kept beside the device's data (bdev.Keeper), written before the
// command is answered, and read when a namespace gets the device, while its gate is shut. So
// the target that has the device next has it before the first command.

// Reservations say how a subsystem takes part in the reservations of an array that several
// targets export, or one by several subsystems.
type Reservations struct {
	// ID names the reservation: it is the same for all subsystems that show the array to the
	// same hosts, or to those that pass their commands on. One that is on the media is in
	// force by this alone.
	ID uuid.UUID
	// Offered: hosts are told of reservations and may make them.
	Offered bool
	// Forwarders are the NQNs of hosts that pass on commands of others and say of which.
	Forwarders []string
}

// sharedNSID is the namespace of a subsystem with Reservations, its only one.
const sharedNSID = 1

// sharedRegistrants bounds the hosts registered at an array, so that all stand in a record.
const sharedRegistrants = 128

// SetReservations has the subsystem take part in an array's reservations; the zero value
// ends that. Hosts are told when it changes whether it offers some. EINVAL for a subsystem with
// other namespaces than number 1, a bad NQN, the discovery subsystem, or a record that is
// damaged.
func (s *Subsystem) SetReservations(c Reservations) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	none := c.ID == uuid.Nil
	switch {
	case s.discovery:
		return fmt.Errorf("the discovery subsystem has no reservations: %w", syscall.EINVAL)
	case none && (c.Offered || len(c.Forwarders) > 0):
		return fmt.Errorf("a reservation that is offered or forwarded needs an id: %w", syscall.EINVAL)
	}
	for _, nqn := range c.Forwarders {
		if err := nvme.CheckNQN(nqn); err != nil {
			return fmt.Errorf("forwarder: %w: %w", err, syscall.EINVAL)
		}
	}
	for _, n := range *s.nss.Load() {
		switch {
		case n == nil || none:
		case n.nsid != sharedNSID:
			return fmt.Errorf("namespace %d: a subsystem with an array's reservations has namespace %d alone: %w", n.nsid, sharedNSID,
				syscall.EINVAL)
		case n.resv.Load().file != nil:
			return fmt.Errorf("namespace %d has ptpl_file %q, and an array's reservations are kept on the array: %w", n.nsid,
				n.resv.Load().path(), syscall.EINVAL)
		}
	}
	was := s.resv.Load()
	c.Forwarders = slices.Clone(c.Forwarders)
	is := &c
	if none {
		is = nil
	}
	offered := s.reserves()
	if n := s.namespace(sharedNSID); n != nil && (was == nil || was.ID != c.ID) {
		if err := n.rejoin(is); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.resv.Store(is)
	for _, ctrl := range s.ctrls {
		ctrl.forwards.Store(s.forwards(ctrl.host))
	}
	s.mu.Unlock()
	if s.reserves() != offered {
		s.namespaceChanged(sharedNSID)
	}
	return nil
}

// Reservations is what SetReservations has set.
func (s *Subsystem) Reservations() Reservations {
	if c := s.resv.Load(); c != nil {
		return *c
	}
	return Reservations{}
}

// forwards reports whether a host may say of which host its commands are.
func (s *Subsystem) forwards(host string) bool {
	c := s.resv.Load()
	return c != nil && slices.Contains(c.Forwarders, host)
}

// own gives a namespace a reservation of its own.
func (n *namespace) own() {
	r := &reservation{}
	r.members.Store(&[]*namespace{n})
	n.resv.Store(r)
}

// share gives a namespace that hosts do not see yet the reservation of its subsystem, if
// that has one, as it is for the device h.
func (n *namespace) share(h *bdev.Handle) {
	c := n.sub.resv.Load()
	if c == nil {
		return
	}
	n.join(c.ID)
	n.adopt(h)
}

// rejoin gives a namespace that is in use another reservation.
func (n *namespace) rejoin(c *Reservations) error {
	h := n.handle.Load()
	if h != nil {
		if err := n.readable(c, h); err != nil {
			return err
		}
	}
	n.alone(func() {
		n.leave()
		if c == nil {
			n.own()
			n.remote.Store(false)
			return
		}
		n.join(c.ID)
		if h != nil {
			n.adopt(h)
		}
	})
	return nil
}

// join makes n one of those that have the target's reservation of an id.
func (n *namespace) join(id uuid.UUID) {
	t := n.sub.tgt
	t.sharedMu.Lock()
	defer t.sharedMu.Unlock()
	r := t.shared[id]
	if r == nil {
		r = &reservation{id: id}
		r.members.Store(&[]*namespace{})
		if t.shared == nil {
			t.shared = map[uuid.UUID]*reservation{}
		}
		t.shared[id] = r
	}
	all := append(slices.Clone(*r.members.Load()), n)
	r.members.Store(&all)
	n.resv.Store(r)
}

// leave ends that. The last one that leaves has the target forget the reservation; what is on
// the media stays.
func (n *namespace) leave() {
	r, t := n.resv.Load(), n.sub.tgt
	if r.id == uuid.Nil {
		return
	}
	t.sharedMu.Lock()
	defer t.sharedMu.Unlock()
	left := slices.DeleteFunc(slices.Clone(*r.members.Load()), func(m *namespace) bool { return m == n })
	r.members.Store(&left)
	if len(left) == 0 && t.shared[r.id] == r {
		delete(t.shared, r.id)
	}
}

// adopt has n's reservation be the one that stands beside the data of a device that n is about
// to have; a device that leads to another target has none. Nobody is inside of n's gate.
func (n *namespace) adopt(h *bdev.Handle) {
	r := n.resv.Load()
	if r.id == uuid.Nil {
		return
	}
	remote := leadsOn(h)
	if k := h.Keeper(); !remote && k != nil {
		r.mu.Lock()
		s, err := decodeRecord(k.Kept(recordName(r.id)))
		if err != nil { // it was looked at before
			n.sub.tgt.log.Error("nvmf: the record of a reservation cannot be read", "subsystem", n.sub.cfg.NQN, "err", err)
			s = r.state.Load()
		}
		r.state.Store(s)
		r.mu.Unlock()
	}
	n.remote.Store(remote)
}

// leadsOn reports that a device is a namespace of another target.
func leadsOn(h *bdev.Handle) bool { return h.Info().Ops.Has(bdev.OpNVMeIO) }

// readable returns the error of a device whose record cannot be read: a reservation must not get
// lost unnoticed.
func (n *namespace) readable(c *Reservations, h *bdev.Handle) error {
	k := h.Keeper()
	if c == nil || k == nil || leadsOn(h) {
		return nil
	}
	if _, err := decodeRecord(k.Kept(recordName(c.ID))); err != nil {
		return fmt.Errorf("the reservation %s that bdev %q has on its media: %w", c.ID, h.Info().Name, err)
	}
	return nil
}

// keepRecord writes a new state of the array's reservation id beside the data.
func (n *namespace) keepRecord(id uuid.UUID, s *resvState) nvme.Status {
	h := n.handle.Load()
	if h == nil {
		return n.lostStatus()
	}
	if leadsOn(h) { // it has just become another target's
		return nvme.InternalPathError
	}
	k := h.Keeper()
	if k == nil { // of a device without a place for it, it ends with the process
		return nvme.Success
	}
	st := k.Keep(recordName(id), encodeRecord(s))
	if st != nvme.Success {
		n.sub.tgt.log.Error("nvmf: a reservation cannot be kept", "subsystem", n.sub.cfg.NQN, "bdev", h.Info().Name, "err", st)
		return st
	}
	if n.handle.Load() != h {
		// The namespace was removed meanwhile. One that has come since, with the reservation as it is on
		// the media, may have read it before.
		return nvme.InternalPathError
	}
	return nvme.Success
}

// recordName is that of a reservation's record beside a device's data.
func recordName(id uuid.UUID) string { return "reservation." + id.String() }

// The record of a reservation, integers little-endian:
//
//	0  version, 1              6   holder's host id, 16 bytes
//	1  type, 0 to 6            22  per registrant: host id, 16 bytes; key, 8 bytes
//	2  generation, 4 bytes
const (
	recordVersion  = 1
	recordHeader   = 22
	recordPerEntry = 24
)

func encodeRecord(s *resvState) []byte {
	p := make([]byte, recordHeader, recordHeader+recordPerEntry*len(s.regs))
	p[0], p[1] = recordVersion, byte(s.typ)
	binary.LittleEndian.PutUint32(p[2:], s.gen)
	copy(p[6:], s.holder[:])
	for _, g := range s.regs {
		p = append(p, g.host[:]...)
		p = binary.LittleEndian.AppendUint64(p, g.key)
	}
	return p
}

// decodeRecord reads a record; without one it returns nil. EILSEQ for one that does not add up.
func decodeRecord(p []byte) (*resvState, error) {
	if p == nil {
		return nil, nil
	}
	bad := func(format string, args ...any) (*resvState, error) {
		return nil, fmt.Errorf("%s; the exporter has to be deleted and made again, which forgets the reservation: %w",
			fmt.Sprintf(format, args...), syscall.EILSEQ)
	}
	switch {
	case len(p) > 0 && p[0] != recordVersion:
		return bad("it is of version %d, and this program reads version %d", p[0], recordVersion)
	case len(p) < recordHeader || (len(p)-recordHeader)%recordPerEntry != 0:
		return bad("it has %d bytes, which is not a whole number of registrants", len(p))
	case nvme.ReservationType(p[1]) > nvme.ExclusiveAccessAll:
		return bad("it has type %d, and types are 0 to %d", p[1], nvme.ExclusiveAccessAll)
	}
	s := &resvState{typ: nvme.ReservationType(p[1]), gen: binary.LittleEndian.Uint32(p[2:]), holder: uuid.UUID(p[6:22])}
	for p = p[recordHeader:]; len(p) > 0; p = p[recordPerEntry:] {
		g := registrant{host: uuid.UUID(p[:16]), key: binary.LittleEndian.Uint64(p[16:])}
		if g.key == 0 || g.host == uuid.Nil || s.find(g.host) >= 0 {
			return bad("registrant %s with key %d: it must have a key and be there once", g.host, g.key)
		}
		s.regs = append(s.regs, g)
	}
	if s.typ != 0 && (len(s.regs) == 0 || !s.typ.AllRegistrants() && s.find(s.holder) < 0) {
		return bad("nobody holds it")
	}
	return s, nil
}

// ForgetReservation removes the record of a reservation from beside a device's data, for
// an exporter that is gone. ENODEV without the device, EINVAL for one that keeps no records.
func (t *Target) ForgetReservation(name string, id uuid.UUID) error {
	h, err := t.cfg.Registry.Open(name, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	k := h.Keeper()
	if k == nil {
		return fmt.Errorf("bdev %q keeps no reservations: %w", name, syscall.EINVAL)
	}
	if s := k.Keep(recordName(id), nil); s != nvme.Success {
		return fmt.Errorf("the reservation %s of bdev %q: %w", id, name, s)
	}
	return nil
}

// passOn has the target that has the array execute a reservation command.
func (c *cmd) passOn(h *bdev.Handle, b *bdev.Batch) {
	r := &c.req
	if c.sqe.Opcode() == nvme.IOResvReport {
		c.setData(make([]byte, c.n))
		c.step.kind, c.toHost = stepReport, true
	}
	r.Op, r.Offset, r.Blocks, r.Iov, r.FUA = bdev.OpNVMeIO, 0, 0, c.iov, false
	c.to(away)
	h.Submit(r, b)
}

// nameControllers has a report that another target has made name the controllers of this one,
// for hosts that are connected here: that one knows its own alone.
func (c *cmd) nameControllers() {
	p, now := c.iov[0], map[uuid.UUID]uint16{}
	c.conn.sub.hostControllers(now)
	nvme.EditReservationStatus(p, func(host [16]byte, id uint16) uint16 {
		if here, connected := now[host]; connected && id == nvme.CNTLIDDynamic {
			return here
		}
		return id
	})
}
