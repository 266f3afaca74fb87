package mirror

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// Status is what vda_mirror_get_bdevs shows. The tags doc are the reference.
type Status struct {
	Name      string      `json:"name" doc:"name of the mirror"`
	UUID      string      `json:"uuid" doc:"UUID of its bdev"`
	Mirror    string      `json:"mirror" doc:"id of the mirror, 32 hexadecimal digits"`
	DA        string      `json:"da" doc:"id of the array, likewise"`
	Size      uint64      `json:"size" doc:"bytes of data"`
	Term      uint64      `json:"term" doc:"term of the array, of vda_mirror_create"`
	Gen       uint64      `json:"gen" doc:"of the last set that was taken"`
	Assembled bool        `json:"assembled" doc:"labels of this life are on all members"`
	Online    bool        `json:"online" doc:"I/O is served; false: it waits for a lost leg, or for labels"`
	Changes   uint64      `json:"changes" doc:"counts changes of all that is said here but numbers of bytes; see vda_mirror_wait"`
	Repair    uint64      `json:"repair_bytes" doc:"bytes in which legs may differ after an unclean end, and which are being repaired"`
	CopyMB    uint64      `json:"copy_mb_per_sec" doc:"MiB that are copied per second at most; 0: no bound"`
	Legs      []LegStatus `json:"legs" doc:"the legs, in no order"`
	Scrub     ScrubStatus `json:"scrub" doc:"the scrub that is running, or the last one since the mirror was created"`
}

// ScrubStatus is how far a scrub is.
type ScrubStatus struct {
	State      string   `json:"state" doc:"none, running, done, or stopped before its end"`
	Done       uint64   `json:"done_bytes" doc:"bytes that were compared; it is done at size"`
	Mismatches uint64   `json:"mismatches" doc:"blocks of 4096 bytes in which members differed, or which one could not read"`
	Repaired   uint64   `json:"repaired" doc:"blocks of these that were written again on the legs that were wrong"`
	Offsets    []uint64 `json:"offsets" doc:"offsets in bytes of the first 64 of these blocks"`
}

// LegStatus is an element of legs.
type LegStatus struct {
	VD         string `json:"vd" doc:"id of the vd, 32 hexadecimal digits"`
	Bdev       string `json:"bdev" doc:"name of its bdev"`
	Role       string `json:"role" doc:"member, target, joining (a target that lacks nothing, and that writes wait for) or absent"`
	Lost       bool   `json:"lost" doc:"I/O waits for it, until vda_mirror_set drops it or finds it back"`
	Why        string `json:"why,omitempty" doc:"it is lost, not connected, or a target that lacks what no member can read; not given when it is well; another why alone is no change"`
	CatchingUp bool   `json:"catching_up" doc:"a member that may lack writes until the repair is done; it must not become the last"`
	Connected  bool   `json:"connected" doc:"a member that answers and has all writes; it may become the last"`
	Ready      bool   `json:"ready" doc:"a joining leg that may be made a member, with a gen one greater"`
	Lack       uint64 `json:"lack_bytes" doc:"bytes that a target still lacks"`
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
		Term: c.Term, Gen: c.Gen, Assembled: c.Assembled, Online: c.Online, Changes: m.base + m.core.Changes(), Repair: c.Repair,
		CopyMB: m.conf.CopyRate >> 20,
		Legs:   []LegStatus{}, Scrub: scrubStatus(c.Scrub)}
	for i, l := range c.Legs {
		if i < len(m.legs) && m.legs[i].conf.VD == l.VD {
			why := l.Why
			if own := m.legs[i]; own.why != "" && own.h == nil && own.conf.Role != core.Absent {
				why = strings.TrimPrefix(why+": "+own.why, ": ")
			}
			s.Legs = append(s.Legs, LegStatus{VD: l.VD.String(), Bdev: m.legs[i].conf.Bdev, Role: l.Role.String(), Lost: l.Lost, Why: why,
				CatchingUp: l.CatchingUp, Connected: l.Connected, Ready: l.Ready, Lack: l.Lack})
		}
	}
	return s
}

// scrubStatus words the core's.
func scrubStatus(c core.ScrubStatus) ScrubStatus {
	s := ScrubStatus{State: "none", Done: c.Done, Mismatches: c.Mismatches, Repaired: c.Repaired, Offsets: c.Offsets}
	switch {
	case c.Running:
		s.State = "running"
	case c.Ended:
		s.State = "done"
	case c.Begun:
		s.State = "stopped"
	}
	if s.Offsets == nil {
		s.Offsets = []uint64{}
	}
	return s
}

// show wakes who waits for the status when it has changed. m.mu is held.
func (m *Mirror) show() {
	if n := m.base + m.core.Changes(); n != m.shown {
		m.shown = n
		m.noteNews()
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

// Scrub begins to compare all members. from is the vd that others are repaired
// from where they differ; zero: of three, one that differs from two is repaired,
// and two are left as they are. EBUSY when a scrub is running, EINVAL when from is
// not a member, or the mirror is not one of two members or more.
func (m *Mirror) Scrub(from label.ID) (err error) {
	errno := syscall.EINVAL
	m.enter(nil, func(c *core.Core) {
		s := c.Status()
		members := 0
		for _, l := range s.Legs {
			if l.Role == core.Member {
				members++
			}
		}
		if members < 2 {
			err = fmt.Errorf("it has %d member, and nothing to compare that with; a scrub takes two or three", members)
			return
		}
		if s.Scrub.Running {
			errno = syscall.EBUSY
		}
		err = c.Scrub(from)
	})
	if err != nil {
		return fmt.Errorf("mirror %q: %w: %w", m.conf.Name, err, errno)
	}
	return nil
}

// StopScrub ends a scrub, if one is running; what it has found stays in the status.
func (m *Mirror) StopScrub() { m.enter(nil, func(c *core.Core) { c.StopScrub() }) }

// SetCopyRate bounds how many bytes per second are copied; 0: no bound. It holds as
// long as the mirror is there, also when it is assembled again.
func (m *Mirror) SetCopyRate(rate uint64) {
	m.enter(nil, func(c *core.Core) {
		m.conf.CopyRate = rate
		c.SetCopyRate(rate)
	})
}

// RoleOf is the role of a name, and false for none that a control plane gives.
func RoleOf(name string) (core.Role, bool) {
	for _, r := range []core.Role{core.Absent, core.Target, core.Member} {
		if r.String() == name {
			return r, true
		}
	}
	return 0, false
}
