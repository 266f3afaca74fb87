package nvmftgt

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/virtual-disk-array/vda/nvme"
)

// SubsystemConfig describes a subsystem; SPDK's nvmf_create_subsystem.
type SubsystemConfig struct {
	NQN           string // starts with "nqn."; at most 223 bytes
	Serial        string // 1 to 20 printable ASCII characters; default "00000000000000000000"
	Model         string // 1 to 40 printable ASCII characters; default "VDA Controller"
	AllowAnyHost  bool   // admit hosts that were not added
	MaxNamespaces uint32 // largest NSID, at most 1024; default 32
	MinCntlid     uint16 // controller ids are given from MinCntlid
	MaxCntlid     uint16 // to MaxCntlid, 1 to 65519; default all
	ANAReporting  bool   // tell hosts the ANA state of namespaces
}

const maxNamespaces = 1024

func (c *SubsystemConfig) validate() error {
	if c.Serial == "" {
		c.Serial = "00000000000000000000"
	}
	if c.Model == "" {
		c.Model = "VDA Controller"
	}
	if c.MaxNamespaces == 0 {
		c.MaxNamespaces = 32
	}
	if c.MinCntlid == 0 {
		c.MinCntlid = 1
	}
	if c.MaxCntlid == 0 {
		c.MaxCntlid = nvme.MaxCNTLID
	}
	if err := nvme.CheckSubsystemNQN(c.NQN); err != nil {
		return fmt.Errorf("nqn: %w: %w", err, syscall.EINVAL)
	}
	switch {
	case c.Serial == "" || !nvme.IsASCII(c.Serial, nvme.SerialMax):
		return fmt.Errorf("serial_number %q: must be 1 to 20 printable ASCII characters: %w", c.Serial, syscall.EINVAL)
	case c.Model == "" || !nvme.IsASCII(c.Model, nvme.ModelMax):
		return fmt.Errorf("model_number %q: must be 1 to 40 printable ASCII characters: %w", c.Model, syscall.EINVAL)
	case c.MaxNamespaces > maxNamespaces:
		return fmt.Errorf("max_namespaces %d: must be at most %d: %w", c.MaxNamespaces, maxNamespaces, syscall.EINVAL)
	case c.MinCntlid > c.MaxCntlid || c.MaxCntlid > nvme.MaxCNTLID:
		return fmt.Errorf("min_cntlid %d and max_cntlid %d: must be ordered and from 1 to %d: %w", c.MinCntlid, c.MaxCntlid,
			nvme.MaxCNTLID, syscall.EINVAL)
	}
	return nil
}

// Subsystem is an NVM subsystem as hosts see it, or the discovery subsystem.
type Subsystem struct {
	tgt       *Target
	cfg       SubsystemConfig
	discovery bool

	mu        sync.Mutex
	hosts     []string
	keys      map[string][]HostKeys // of hosts that have to authenticate; the newest first
	anyHost   bool
	listeners []*listener
	ctrls     map[uint16]*controller
	nextID    uint16
	conns     map[*conn]struct{}
	single    bool // see SetSingleAssociation
	deleted   bool
	changing  sync.Mutex // held through AddNamespace, RemoveNamespace, SwapNamespace

	resv      atomic.Pointer[Reservations] // nil: each namespace has its own, if any
	nss       atomic.Pointer[[]*namespace] // index is NSID-1, nil where none
	lastGroup []atomic.Uint32              // ANA group that an NSID had last

	mediaErrors atomic.Uint64 // commands that failed on a medium
}

func newSubsystem(t *Target, c SubsystemConfig) *Subsystem {
	s := &Subsystem{tgt: t, cfg: c, anyHost: c.AllowAnyHost, ctrls: map[uint16]*controller{}, conns: map[*conn]struct{}{}, nextID: c.MinCntlid}
	nss := make([]*namespace, c.MaxNamespaces)
	s.lastGroup = make([]atomic.Uint32, c.MaxNamespaces)
	s.nss.Store(&nss)
	return s
}

// Config returns what the subsystem was made with; AllowAnyHost is current.
func (s *Subsystem) Config() SubsystemConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cfg
	c.AllowAnyHost = s.anyHost
	return c
}

// NQN returns the subsystem's name.
func (s *Subsystem) NQN() string { return s.cfg.NQN }

// IsDiscovery reports whether this is the discovery subsystem.
func (s *Subsystem) IsDiscovery() bool { return s.discovery }

// Hosts returns the allow-list in the order of addition.
func (s *Subsystem) Hosts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hosts)
}

// AddHost admits a host; with keys it has to authenticate. EEXIST when it is
// admitted already, EINVAL for a bad name, EBUSY while a host that was removed has
// commands under way: anyone who removed it and did not wait for the end would take
// those for settled.
func (s *Subsystem) AddHost(nqn string, keys ...HostKeys) error {
	if err := nvme.CheckNQN(nqn); err != nil {
		return fmt.Errorf("host: %w: %w", err, syscall.EINVAL)
	}
	s.mu.Lock()
	if slices.Contains(s.hosts, nqn) {
		s.mu.Unlock()
		return fmt.Errorf("host %s: %w", nqn, syscall.EEXIST)
	}
	if old := s.leaving(); old != "" {
		s.mu.Unlock()
		return fmt.Errorf("host %s is not admitted yet: commands of host %s, which was removed, are under way still; try again when they "+
			"have ended: %w", nqn, old, syscall.EBUSY)
	}
	s.hosts = append(s.hosts, nqn)
	s.setKeys(nqn, keys)
	s.mu.Unlock()
	s.tgt.discoveryChanged()
	return nil
}

// RemoveHost takes a host off the allow-list, closes its connections and
// returns when nothing of it can write any more. ENOENT when it was not on the
// list; its connections are closed then as well unless any host is allowed.
func (s *Subsystem) RemoveHost(nqn string) error {
	s.mu.Lock()
	i := slices.Index(s.hosts, nqn)
	if i >= 0 {
		s.hosts = slices.Delete(s.hosts, i, i+1)
		s.setKeys(nqn, nil)
	}
	any := s.anyHost
	s.mu.Unlock()
	if i >= 0 || !any {
		s.closeConns(func(c *conn) bool { return c.hostNQN() == nqn })
	}
	if i < 0 {
		return fmt.Errorf("host %s: %w", nqn, syscall.ENOENT)
	}
	s.tgt.discoveryChanged()
	return nil
}

// AllowAnyHost switches the allow-list off or on. Switching it on closes the
// connections of hosts that are not on the list and waits for their I/O.
func (s *Subsystem) AllowAnyHost(allow bool) {
	s.mu.Lock()
	s.anyHost = allow
	hosts := slices.Clone(s.hosts)
	s.mu.Unlock()
	if !allow {
		s.closeConns(func(c *conn) bool { return !slices.Contains(hosts, c.hostNQN()) })
	}
	s.tgt.discoveryChanged()
}

// leaving returns a host that is not admitted any more and has a connection that
// has not settled, "" for none; s.mu is held.
func (s *Subsystem) leaving() string {
	for c := range s.conns {
		if host := c.hostNQN(); !s.admits(host) {
			return host
		}
	}
	return ""
}

// admits reports whether the host may connect; s.mu is held.
func (s *Subsystem) admits(host string) bool { return s.anyHost || slices.Contains(s.hosts, host) }

// destroy closes everything of the subsystem, which is no longer in the
// target's list.
func (s *Subsystem) destroy() {
	s.mu.Lock()
	s.deleted = true
	ls := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	s.closeConns(func(*conn) bool { return true })
	for _, l := range ls {
		s.tgt.leavePortal(l.portal)
	}
	for _, n := range *s.nss.Load() {
		if n != nil {
			_ = s.RemoveNamespace(n.nsid)
		}
	}
	s.tgt.discoveryChanged()
}
