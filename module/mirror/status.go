package mirror

import (
	"context"
	"strings"

	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// Status is what vda_mirror_get_bdevs shows.
type Status struct {
	Name      string      `json:"name"`
	UUID      string      `json:"uuid"`
	Mirror    string      `json:"mirror"` // id
	DA        string      `json:"da"`     // id
	Size      uint64      `json:"size"`   // bytes of data
	Term      uint64      `json:"term"`
	Gen       uint64      `json:"gen"`
	Assembled bool        `json:"assembled"`
	Online    bool        `json:"online"`
	Changes   uint64      `json:"changes"`      // of what is said here, but for numbers of bytes
	Repair    uint64      `json:"repair_bytes"` // in which legs may differ
	Legs      []LegStatus `json:"legs"`
}

// LegStatus is an element of legs.
type LegStatus struct {
	VD         string `json:"vd"`
	Bdev       string `json:"bdev"`
	Role       string `json:"role"`
	Lost       bool   `json:"lost"`
	Why        string `json:"why,omitempty"` // it is lost or not connected; another why alone is no change
	CatchingUp bool   `json:"catching_up"`
	Connected  bool   `json:"connected"`
	Ready      bool   `json:"ready"`
	Lack       uint64 `json:"lack_bytes"`
}

// Status describes the mirror now.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status()
}

func (m *Mirror) status() Status {
	c := m.core.Status()
	s := Status{Name: m.conf.Name, UUID: m.conf.UUID.String(), Mirror: m.conf.Mirror.String(), DA: m.conf.DA.String(), Size: m.conf.DataSize,
		Term: c.Term, Gen: c.Gen, Assembled: c.Assembled, Online: c.Online, Changes: m.core.Changes(), Repair: c.Repair, Legs: []LegStatus{}}
	for i, l := range c.Legs {
		if i < len(m.legs) && m.legs[i].conf.VD == l.VD {
			why := l.Why
			if own := &m.legs[i]; own.why != "" && own.h == nil && own.conf.Role != core.Absent {
				why = strings.TrimPrefix(why+": "+own.why, ": ")
			}
			s.Legs = append(s.Legs, LegStatus{VD: l.VD.String(), Bdev: m.legs[i].conf.Bdev, Role: l.Role.String(), Lost: l.Lost, Why: why,
				CatchingUp: l.CatchingUp, Connected: l.Connected, Ready: l.Ready, Lack: l.Lack})
		}
	}
	return s
}

// show wakes who waits for the status when it has changed. m.mu is held.
func (m *Mirror) show() {
	if n := m.core.Changes(); n != m.shown {
		m.shown = n
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

// Wait returns the status when changes is not its Changes, or when ctx ends.
func (m *Mirror) Wait(ctx context.Context, changes uint64) Status {
	for {
		m.mu.Lock()
		s, changed := m.status(), m.changed
		m.mu.Unlock()
		if s.Changes != changes {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s
		}
	}
}

// SetCopyRate bounds how many bytes per second are copied; 0: no bound.
func (m *Mirror) SetCopyRate(rate uint64) { m.enter(nil, func(c *core.Core) { c.SetCopyRate(rate) }) }

// RoleOf is the role of a name, and false for none that a control plane gives.
func RoleOf(name string) (core.Role, bool) {
	for _, r := range []core.Role{core.Absent, core.Target, core.Member} {
		if r.String() == name {
			return r, true
		}
	}
	return 0, false
}
