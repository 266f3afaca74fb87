package nvmftgt

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/virtual-disk-array/vda/nvme"
)

// ANAState is how well a group of namespaces can be reached through a
// listener (base 2.0, section 8.1).
type ANAState uint8

// The ANA states with their values on the wire.
const (
	ANAOptimized      ANAState = 0x1
	ANANonOptimized   ANAState = 0x2
	ANAInaccessible   ANAState = 0x3
	ANAPersistentLoss ANAState = 0x4
	ANAChange         ANAState = 0xf
)

var anaNames = map[ANAState]string{
	ANAOptimized: "optimized", ANANonOptimized: "non_optimized", ANAInaccessible: "inaccessible",
	ANAPersistentLoss: "persistent_loss", ANAChange: "change",
}

func (a ANAState) String() string { return anaNames[a] }

// ParseANAState reads SPDK's name of a state.
func ParseANAState(name string) (ANAState, error) {
	for s, n := range anaNames {
		if n == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("ana_state %q: must be optimized, non_optimized or inaccessible: %w", name, syscall.EINVAL)
}

// anaTable holds a listener's state for every group; index 0 is unused.
type anaTable []atomic.Uint32

func newANATable(groups uint32, state ANAState) anaTable {
	t := make(anaTable, groups+1)
	for i := range t {
		t[i].Store(uint32(state))
	}
	return t
}

// status is what a command to a namespace of the group gets without being
// executed, or Success.
func (t anaTable) status(group uint32) nvme.Status {
	switch ANAState(t[group].Load()) {
	case ANAOptimized, ANANonOptimized:
		return nvme.Success
	case ANAInaccessible:
		return nvme.ANAInaccessible
	case ANAPersistentLoss:
		return nvme.ANAPersistentLoss
	}
	return nvme.ANATransition
}

// SetANAState sets the state of an ANA group, or of all with group 0, on a
// listener, and tells the hosts. ENOENT without such a listener, EINVAL when
// the subsystem does not report ANA or has no such group.
func (s *Subsystem) SetANAState(a Addr, group uint32, state ANAState) error {
	if !s.cfg.ANAReporting {
		return fmt.Errorf("subsystem %s was created without ana_reporting: %w", s.cfg.NQN, syscall.EINVAL)
	}
	if anaNames[state] == "" || state > ANAInaccessible {
		return fmt.Errorf("ana_state %d: must be optimized, non_optimized or inaccessible: %w", state, syscall.EINVAL)
	}
	if group > s.cfg.MaxNamespaces {
		return fmt.Errorf("anagrpid %d: must be at most max_namespaces %d: %w", group, s.cfg.MaxNamespaces, syscall.EINVAL)
	}
	l, err := s.listener(a)
	if err != nil {
		return err
	}
	for g := uint32(1); g <= s.cfg.MaxNamespaces; g++ {
		if group == 0 || group == g {
			l.ana[g].Store(uint32(state))
		}
	}
	l.anaCount.Add(1)
	s.anaChanged(func(c *controller) bool { return c.lis == l })
	return nil
}

// SetNamespaceANAGroup moves a namespace to another ANA group.
func (s *Subsystem) SetNamespaceANAGroup(nsid, group uint32) error {
	if group == 0 || group > s.cfg.MaxNamespaces {
		return fmt.Errorf("anagrpid %d: must be from 1 to max_namespaces %d: %w", group, s.cfg.MaxNamespaces, syscall.EINVAL)
	}
	n := s.namespace(nsid)
	if n == nil {
		return fmt.Errorf("namespace %d of %s: %w", nsid, s.cfg.NQN, syscall.ENOENT)
	}
	n.group.Store(group)
	s.lastGroup[nsid-1].Store(group)
	s.mu.Lock()
	for _, l := range s.listeners {
		l.anaCount.Add(1)
	}
	s.mu.Unlock()
	s.namespaceChanged(nsid)
	s.anaChanged(func(*controller) bool { return true })
	return nil
}
