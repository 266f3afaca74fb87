package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// settings are what the core is told of the mirror. m.mu is held, or nobody else
// knows the mirror.
func (m *Mirror) settings() core.Config {
	return core.Config{DA: m.conf.DA, Mirror: m.conf.Mirror, DataSize: m.conf.DataSize, Term: m.conf.Term, Gen: m.conf.Gen,
		Fresh: m.conf.Fresh, Recovered: m.conf.Recovered, CopyRate: m.conf.CopyRate, Budget: &m.mod.budget, Legs: specs(m.conf.Legs),
		Break: cmp.Or(m.conf.Break, breach)}
}

func specs(legs []LegConfig) (out []core.LegSpec) {
	for _, l := range legs {
		out = append(out, core.LegSpec{VD: l.VD, Role: l.Role, Name: l.Bdev, Bare: l.Bare})
	}
	return out
}

// assemble makes a core of the legs that are there; it takes the place of one that
// has served nothing, or of none. On an error all is as before.
func (m *Mirror) assemble(ctx context.Context) error {
	legs := m.conf.Legs
	tails := m.openAll(ctx, legs)
	var seen []core.Seen
	var why []error
	for i, l := range legs {
		switch t := tails[i]; {
		case l.Role == core.Absent:
		case t.err != nil:
			why = append(why, t.err)
		default:
			seen = append(seen, core.Seen{VD: l.VD, Label: t.label, Map: t.bits, Epoch: t.epoch, NoTail: t.bare})
		}
	}
	m.mu.Lock()
	c, err := core.New(m.settings(), seen)
	switch {
	case errors.Is(err, core.ErrAhead):
		err = fmt.Errorf("%w: %w", err, syscall.ESTALE)
	case err != nil:
		err = fmt.Errorf("%w: %w", inOne(append(why, err)), syscall.EIO)
	default:
		if err = m.describe(tails); err != nil {
			err = inOne(append(why, err))
		}
	}
	if err != nil {
		m.mu.Unlock()
		for _, t := range tails {
			if t.h != nil {
				t.h.Close()
			}
		}
		return fmt.Errorf("mirror %q: %w", m.conf.Name, err)
	}
	m.legs = nil
	var unused []*bdev.Handle
	for i, t := range tails {
		l := &leg{conf: legs[i]}
		switch {
		case t.h == nil:
		case c.Status().Legs[i].Role == core.Absent: // a target: attachTargets opens it
			unused = append(unused, t.h)
		default:
			l.hold(t.h)
			l.bare = t.bare
		}
		if t.err != nil {
			l.why = t.err.Error()
		}
		m.legs = append(m.legs, l)
	}
	c.Clock(m.now())
	for i := range m.legs {
		c.Heard(core.Leg(i))
	}
	m.replace(c)
	m.noteUnmap()
	for i, l := range m.legs {
		if l.h != nil && l.h.Removed() { // while nobody knew whose it was
			m.detach(l)
			c.Lost(core.Leg(i), core.Removed)
		}
	}
	m.mu.Unlock()
	for i, t := range tails {
		if t.h != nil && t.cut.Load() { // likewise
			m.cutOff(legs[i].VD)
		}
	}
	for _, h := range unused {
		h.Close()
	}
	return nil
}

// replace has another core take the place of the present one, if there is one.
// m.mu is held.
func (m *Mirror) replace(c *core.Core) {
	if m.core != nil {
		m.base += m.core.Changes() + 1
		m.counted.Add(m.core.Counters())
		c.Adopt(m.core.Yield())
	}
	m.core = c
}

// inOne joins errors on one line.
func inOne(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// describe makes the mirror's description of its legs'.
func (m *Mirror) describe(legs []tail) error {
	info := bdev.Info{Name: m.conf.Name, UUID: m.conf.UUID, Product: "VDA Mirror", UnmapZeroes: true,
		Ops: bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpReset)}
	first := ""
	for _, t := range legs {
		if t.h == nil {
			continue
		}
		of := t.h.Info()
		if info.BlockSize == 0 {
			info.BlockSize, first = of.BlockSize, of.Name
		}
		if of.BlockSize != info.BlockSize {
			return fmt.Errorf("bdev %q has blocks of %d bytes, and bdev %q of %d; all legs must have the same: %w", first, info.BlockSize,
				of.Name, of.BlockSize, syscall.EINVAL)
		}
		info.WriteCache = info.WriteCache || of.WriteCache
		info.Align = max(info.Align, of.Align)
		info.UnmapUnit = max(info.UnmapUnit, of.UnmapUnit)
		info.UnmapZeroes = info.UnmapZeroes && of.Ops.Has(bdev.OpWriteZeroes)
	}
	if info.BlockSize == 0 {
		return fmt.Errorf("none of its legs is there: %w", syscall.ENODEV)
	}
	info.Blocks = m.conf.DataSize / uint64(info.BlockSize)
	m.info.Store(&info)
	return nil
}

// noteUnmap notes whether all legs read zeros where they were unmapped. m.mu is
// held.
func (m *Mirror) noteUnmap() {
	m.unmaps.Store(!slices.ContainsFunc(m.legs, func(l *leg) bool {
		return l.h != nil && (!l.h.Info().UnmapZeroes || !l.h.Info().Ops.Has(bdev.OpUnmap))
	}))
}

// reassemble is Set of a mirror that has not been online: it is assembled once
// more, as a member that was not there may be there now. When that fails, I/O
// waits until the next Set, as long as I/O ever waits.
func (m *Mirror) reassemble(ctx context.Context, term, gen uint64, legs []LegConfig) error {
	m.mu.Lock()
	if err := m.core.Follows(term, gen, specs(legs)); err != nil {
		m.mu.Unlock()
		return fmt.Errorf("mirror %q: %w: %w", m.conf.Name, err, syscall.EINVAL)
	}
	m.conf.Gen, m.conf.Legs = gen, legs
	m.replace(core.Waiting(m.settings(), m.now()))
	for _, l := range m.legs {
		m.detach(l)
		m.past = append(m.past, l)
	}
	m.legs = nil
	for _, c := range legs {
		m.legs = append(m.legs, &leg{conf: c})
	}
	m.carryLocked(nil)
	if n := m.restPast(); n > 0 {
		return fmt.Errorf("mirror %q: %d requests on connections that its legs had before are still under way; set it once more: %w",
			m.conf.Name, n, syscall.EBUSY)
	}
	if err := m.assemble(ctx); err != nil {
		return err
	}
	m.carry(nil)
	m.attachTargets(ctx)
	return nil
}
