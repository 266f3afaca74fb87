package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// Set says what the control plane has made of the mirror, and connects to legs
// whose bdevs are there: targets are attached, and members that were lost resume.
// It may be called again with the same set, as legs come back. EINVAL leaves the
// mirror as it was. EBUSY says that members that are to stay catch up, and the mirror is
// as it was, or that requests on former connections have not ended yet; EIO that a mirror
// that was not assembled cannot be now: call again. What a leg lacks to be connected is in
// the status.
func (m *Mirror) Set(ctx context.Context, term, gen uint64, legs []LegConfig) error {
	if err := checkLegs(m.conf.Name, legs); err != nil {
		return err
	}
	legs = slices.Clone(legs)
	m.setting.Lock()
	defer m.setting.Unlock()
	m.mu.Lock()
	if m.retired {
		m.mu.Unlock()
		return fmt.Errorf("mirror %q is being deleted: %w", m.conf.Name, syscall.ENODEV)
	}
	if !m.core.Assembled() {
		m.mu.Unlock()
		return m.reassemble(ctx, term, gen, legs)
	}
	m.indirect++
	d := m.closeDirectFor(legs)
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.indirect--
		m.carryLocked(nil)
	}()
	if err := m.settle(ctx, d); err != nil {
		return err
	}
	m.mu.Lock()
	err := m.names(legs)
	if err == nil {
		err = m.core.Set(term, gen, specs(legs))
	}
	if err == nil {
		m.conf.Gen, m.conf.Legs = gen, legs
		m.place()
	}
	m.carryLocked(nil)
	if err != nil {
		errno := syscall.EINVAL
		if errors.Is(err, core.ErrCatchingUp) {
			errno = syscall.EBUSY
		}
		return fmt.Errorf("mirror %q: %w: %w", m.conf.Name, err, errno)
	}
	m.resumeLost(ctx)
	m.enter(nil, func(*core.Core) { m.grow() })
	m.attachTargets(ctx)
	return nil
}

// SetRecovered says what core.Config calls Recovered, for when the mirror is assembled the
// next time.
func (m *Mirror) SetRecovered(gen uint64) {
	m.setting.Lock()
	defer m.setting.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conf.Recovered = gen
}

// closeDirectFor has I/O go through the core when legs are others than the one
// that I/O goes to past it, or that one is lost: what was under way when the way past
// the core was opened may have failed since, and the leg gets another handle as it
// resumes. m.mu is held.
func (m *Mirror) closeDirectFor(legs []LegConfig) *direct {
	if len(legs) == 1 && m.direct.Load() != nil {
		if i, l := m.legOf(legs[0].VD); l != nil && l.conf == legs[0] && !m.outgrown(l) && !m.core.Status().Legs[i].Lost {
			return nil
		}
	}
	return m.closeDirect()
}

// names refuses another bdev for a leg that is connected. m.mu is held.
func (m *Mirror) names(legs []LegConfig) error {
	for _, c := range legs {
		i, l := m.legOf(c.VD)
		if l == nil || l.h == nil || l.conf.Bdev == c.Bdev || c.Role == core.Absent {
			continue
		}
		if s := m.core.Status().Legs[i]; !s.Lost && s.Role != core.Absent {
			return fmt.Errorf("bdev_name %q of vd %v: the leg is connected on bdev %q; give that, or role absent first", c.Bdev, c.VD, l.conf.Bdev)
		}
	}
	return nil
}

// place gives each leg the place that it has in the core, and loses those whose
// disk node has started since they were connected. m.mu is held.
func (m *Mirror) place() {
	for _, c := range m.conf.Legs {
		i, known := m.core.Find(c.VD)
		if !known {
			continue
		}
		for len(m.legs) <= int(i) {
			m.legs = append(m.legs, &leg{})
		}
		if l := m.legs[i]; l.conf.VD != c.VD {
			if l.h != nil || l.under > 0 {
				m.detach(l)
				m.past = append(m.past, l)
			}
			m.legs[i] = &leg{}
		}
		was := m.legs[i].conf.Epoch
		m.legs[i].conf = c
		if none := (label.ID{}); was != none && c.Epoch != none && was != c.Epoch && m.legs[i].h != nil {
			m.core.Lost(i, "its disk node has another epoch, and may have lost what it had not flushed")
		}
	}
}

// outgrown reports that a leg had no room for a label, and has now.
func (m *Mirror) outgrown(l *leg) bool {
	if l.h == nil {
		return false
	}
	i := l.h.Info()
	return l.bare && i.Blocks*uint64(i.BlockSize) >= m.conf.DataSize+label.TailSize
}

// grow has labels written to legs that have got room for one. m.mu is held.
func (m *Mirror) grow() {
	for i, l := range m.legs {
		if m.outgrown(l) {
			l.bare = false
			m.core.Grow(core.Leg(i))
		}
	}
}

// pick returns the legs that f holds for, once nothing is under way on them. One
// that does not come to rest is left for the next call.
func (m *Mirror) pick(f func(s core.LegStatus, c *LegConfig) bool) (legs []LegConfig) {
	for end := time.Now().Add(readLimit); ; time.Sleep(time.Millisecond) {
		busy := false
		legs = nil
		m.mu.Lock()
		for _, s := range m.core.Status().Legs {
			_, l := m.legOf(s.VD)
			if l == nil || !f(s, &l.conf) {
				continue
			}
			if l.under > 0 {
				busy = true
			} else {
				legs = append(legs, l.conf)
			}
		}
		m.mu.Unlock()
		if !busy || time.Now().After(end) {
			return legs
		}
	}
}

// restPast waits for the orders of cores that have yielded, and returns how many
// have not ended.
func (m *Mirror) restPast() (under int) {
	for end := time.Now().Add(readLimit); ; time.Sleep(time.Millisecond) {
		m.mu.Lock()
		under = 0
		m.past = slices.DeleteFunc(m.past, func(l *leg) bool {
			under += l.under
			return l.under == 0
		})
		m.mu.Unlock()
		if under == 0 || time.Now().After(end) {
			return under
		}
	}
}

// attachTargets attaches targets whose bdevs are there.
func (m *Mirror) attachTargets(ctx context.Context) {
	legs := m.pick(func(s core.LegStatus, c *LegConfig) bool { return s.Role == core.Absent && c.Role == core.Target })
	m.connect(ctx, legs, func(c *core.Core, l core.Leg, t tail) error {
		return c.Attach(l, t.label, t.bits, t.epoch)
	})
}

// resumeLost goes on with members that were lost and are there again.
func (m *Mirror) resumeLost(ctx context.Context) {
	legs := m.pick(func(s core.LegStatus, _ *LegConfig) bool { return s.Lost })
	var old []*bdev.Handle
	m.mu.Lock()
	for _, c := range legs {
		if _, l := m.legOf(c.VD); l != nil && l.h != nil {
			old = append(old, l.h)
			l.h = nil
		}
	}
	m.mu.Unlock()
	for _, h := range old {
		h.Close()
	}
	m.connect(ctx, legs, func(c *core.Core, l core.Leg, t tail) error { return c.Resume(l, t.label, t.epoch) })
}

// connect opens legs and tells the core.
func (m *Mirror) connect(ctx context.Context, legs []LegConfig, tell func(c *core.Core, l core.Leg, t tail) error) {
	if len(legs) == 0 {
		return
	}
	for i, t := range m.openAll(ctx, legs) {
		vd, err := legs[i].VD, t.err
		m.mu.Lock()
		at, l := m.legOf(vd)
		switch {
		case l == nil || l.h != nil || l.under > 0:
			err = cmp.Or(err, errors.New("it is not a leg any more"))
		case err == nil && t.cut.Load(): // what it had said may not be so any more
			err = fmt.Errorf("bdev %q: %s while its label was read", legs[i].Bdev, connectionLost)
		case err == nil:
			l.hold(t.h)
			m.core.Clock(m.now())
			if err = tell(m.core, at, t); err != nil {
				l.h = nil
			} else if t.h.Removed() { // while nobody knew whose it was
				m.detach(l)
				m.core.Lost(at, core.Removed)
			}
			m.noteUnmap()
		}
		if err != nil && l != nil {
			l.why = err.Error()
		}
		m.mu.Unlock()
		if err != nil {
			m.mod.log.Warn("a leg is not connected", "mirror", m.conf.Name, "vd", vd, "bdev", legs[i].Bdev, "err", err)
			if t.h != nil {
				t.h.Close()
			}
		}
	}
	m.carry(nil)
}
