package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

// leg is what the module has of one. The mirror's mu guards it.
type leg struct {
	conf    LegConfig
	h       *bdev.Handle // nil while it is not attached
	shift   uint         // of the block size
	under   int          // orders that are not yet reported
	heard   time.Time
	probing bool
	why     string // it could not be opened or connected; empty when it could
}

func (l *leg) detach() {
	if h := l.h; h != nil {
		l.h = nil
		go h.Close() // it may call back
	}
}

// readLimit bounds how long a leg's tail is waited for.
const readLimit = 1500 * time.Millisecond

// tail is what was read from a leg.
type tail struct {
	h     *bdev.Handle
	label *label.Label
	bits  *label.Map
	err   error
}

// open opens and claims a leg's bdev and reads its tail. The handle is closed
// when there is an error.
func (m *Mirror) open(ctx context.Context, c LegConfig) (t tail) {
	var gone sync.Once
	lost := make(chan struct{})
	t.h, t.err = m.mod.reg.Open(c.Bdev, func(k bdev.EventKind) {
		if k == bdev.Removed {
			gone.Do(func() { close(lost) })
			go m.removed(c.VD)
		}
	})
	if t.err != nil {
		return t
	}
	if t.err = t.h.Claim(claimName); t.err == nil {
		t.err = m.fits(t.h.Info())
	}
	if t.err == nil {
		t.err = m.readTail(ctx, &t)
	}
	select {
	case <-lost:
		t.err = errors.Join(t.err, fmt.Errorf("bdev %q was removed: %w", c.Bdev, syscall.ENODEV))
	default:
	}
	if t.err != nil {
		t.h.Close()
		t.h = nil
	}
	return t
}

// fits checks that a bdev can be a leg.
func (m *Mirror) fits(i *bdev.Info) error {
	if have := i.Blocks * uint64(i.BlockSize); have < label.TailSize || have-label.TailSize < m.conf.DataSize {
		return fmt.Errorf("bdev %q has %d bytes; a leg of mirror %q takes %d, and %d more: %w",
			i.Name, have, m.conf.Name, m.conf.DataSize, label.TailSize, syscall.EINVAL)
	}
	if own := m.info.Load(); own != nil && own.BlockSize != i.BlockSize {
		return fmt.Errorf("bdev %q has blocks of %d bytes, mirror %q has %d: %w", i.Name, i.BlockSize, m.conf.Name, own.BlockSize, syscall.EINVAL)
	}
	return nil
}

// readTail reads the label and the map of a leg.
func (m *Mirror) readTail(ctx context.Context, t *tail) error {
	regions := int(label.Regions(m.conf.DataSize, label.RegionSize(m.conf.DataSize)))
	buf := make([]byte, label.PageOffset(label.Pages(regions)))
	if err := m.readAt(ctx, t.h, m.conf.DataSize, buf); err != nil {
		return err
	}
	l, err := label.Decode(buf)
	if err != nil || l.Mirror != m.conf.Mirror {
		return nil // a new leg
	}
	t.label, t.bits = &l, label.NewMap(regions)
	for i := range label.Pages(regions) {
		t.bits.DecodePage(buf[label.PageOffset(i):label.PageOffset(i+1)], m.conf.Mirror, i)
	}
	return nil
}

// readAt reads from a leg, and waits for it.
func (m *Mirror) readAt(ctx context.Context, h *bdev.Handle, off uint64, buf []byte) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	i := h.Info()
	done := make(chan nvme.Status, 1)
	r := &bdev.Request{Op: bdev.OpRead, Offset: off / uint64(i.BlockSize), Blocks: uint64(len(buf)) / uint64(i.BlockSize), Iov: [][]byte{buf},
		Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}
	var b bdev.Batch
	h.Submit(r, &b)
	b.Flush()
	select {
	case s := <-done:
		if s != nvme.Success {
			return fmt.Errorf("bdev %q: read of its label: %v: %w", i.Name, s, syscall.EIO)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("bdev %q: no answer to the read of its label: %w", i.Name, syscall.ETIMEDOUT)
	}
}

// openAll opens legs at the same time.
func (m *Mirror) openAll(ctx context.Context, legs []LegConfig) []tail {
	tails := make([]tail, len(legs))
	var wg sync.WaitGroup
	for i, l := range legs {
		if l.Role != core.Absent {
			wg.Go(func() { tails[i] = m.open(ctx, l) })
		}
	}
	wg.Wait()
	return tails
}

// assemble makes a core of the legs that are there. m has no users yet, or none
// whose I/O was served.
func (m *Mirror) assemble(ctx context.Context) error {
	tails := m.openAll(ctx, m.conf.Legs)
	cfg := core.Config{DA: m.conf.DA, Mirror: m.conf.Mirror, DataSize: m.conf.DataSize, Term: m.conf.Term,
		Gen: m.conf.Gen, Fresh: m.conf.Fresh,
		CopyRate: m.conf.CopyRate}
	var seen []core.Seen
	var why []error
	for i, l := range m.conf.Legs {
		cfg.Legs = append(cfg.Legs, core.LegSpec{VD: l.VD, Role: l.Role})
		switch t := tails[i]; {
		case l.Role == core.Absent:
		case t.err != nil:
			why = append(why, t.err)
		default:
			seen = append(seen, core.Seen{VD: l.VD, Label: t.label, Map: t.bits, Epoch: l.Epoch})
		}
	}
	var unused []*bdev.Handle
	defer func() {
		for _, h := range unused {
			h.Close()
		}
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := core.New(cfg, seen)
	if err != nil { // the places of m.legs stay those of the core that there is
		for _, t := range tails {
			if t.h != nil {
				unused = append(unused, t.h)
			}
		}
		m.stopped = true
	}
	switch {
	case errors.Is(err, core.ErrAhead):
		return fmt.Errorf("mirror %q: %w: %w", m.conf.Name, err, syscall.ESTALE)
	case err != nil:
		return fmt.Errorf("mirror %q: %w: %w", m.conf.Name, inOne(append(why, err)), syscall.EIO)
	}
	m.legs = make([]leg, len(tails))
	for i, t := range tails {
		m.legs[i] = leg{conf: m.conf.Legs[i], h: t.h, heard: time.Now()}
		if t.h != nil {
			m.legs[i].shift = uint(bits.TrailingZeros32(t.h.Info().BlockSize))
		}
		if t.err != nil {
			m.legs[i].why = t.err.Error()
		}
	}
	c.Tick(time.Since(m.begun))
	m.core = c
	if err := m.describe(); err != nil {
		return fmt.Errorf("mirror %q: %w", m.conf.Name, inOne(append(why, err)))
	}
	return nil
}

// inOne joins errors on one line.
func inOne(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// describe makes the mirror's description of its legs'. m.mu is held.
func (m *Mirror) describe() error {
	info := bdev.Info{Name: m.conf.Name, UUID: m.conf.UUID, Product: "VDA Mirror", UnmapZeroes: true,
		Ops: bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpReset)}
	for i := range m.legs {
		h := m.legs[i].h
		if h == nil {
			continue
		}
		of := h.Info()
		if info.BlockSize == 0 {
			info.BlockSize = of.BlockSize
		}
		if of.BlockSize != info.BlockSize {
			return fmt.Errorf("legs have blocks of %d and of %d bytes: %w", info.BlockSize, of.BlockSize, syscall.EINVAL)
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

// unmaps reports that all legs read zeros where they were unmapped.
func (m *Mirror) unmaps() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.legs, func(l leg) bool {
		return l.h != nil && (!l.h.Info().UnmapZeroes || !l.h.Info().Ops.Has(bdev.OpUnmap))
	})
}

// Set says what the control plane has made of the mirror, and connects to legs
// whose bdevs are there: targets are attached, and members that were lost resume.
// It may be called again with the same set, as legs come back. EINVAL, ESTALE
// and EBUSY leave the mirror as it was; what a leg lacks to be connected is in
// the status.
func (m *Mirror) Set(ctx context.Context, term, gen uint64, legs []LegConfig) error {
	if err := checkLegs(m.conf.Name, legs); err != nil {
		return err
	}
	m.setting.Lock()
	defer m.setting.Unlock()
	var specs []core.LegSpec
	for _, l := range legs {
		specs = append(specs, core.LegSpec{VD: l.VD, Role: l.Role})
	}
	m.mu.Lock()
	err := m.core.Set(term, gen, specs)
	if err == nil {
		m.conf.Gen, m.conf.Legs = gen, slices.Clone(legs)
		m.place()
	}
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", err, syscall.EINVAL)
	}
	m.carry(nil)
	if !m.Status().Assembled {
		return m.reassemble(ctx)
	}
	m.resumeLost(ctx)
	m.attachTargets(ctx)
	return nil
}

// place gives each leg the place that it has in the core. m.mu is held.
func (m *Mirror) place() {
	for _, l := range m.conf.Legs {
		i, known := m.core.Find(l.VD)
		if !known {
			continue
		}
		for len(m.legs) <= int(i) {
			m.legs = append(m.legs, leg{})
		}
		if m.legs[i].conf.VD != l.VD {
			m.legs[i] = leg{under: m.legs[i].under}
		}
		m.legs[i].conf = l
	}
}

// reassemble assembles the mirror once more when a member that was not there may be
// there now. Nothing has been served yet.
func (m *Mirror) reassemble(ctx context.Context) error {
	m.enter(nil, func(c *core.Core) { c.Stop() })
	m.mu.Lock()
	for i := range m.legs {
		if m.legs[i].under > 0 {
			m.mu.Unlock()
			return fmt.Errorf("mirror %q: its legs are still busy: %w", m.conf.Name, syscall.EBUSY)
		}
		if h := m.legs[i].h; h != nil {
			m.legs[i].h = nil
			h.Close()
		}
	}
	m.stopped = false
	m.mu.Unlock()
	if err := m.assemble(ctx); err != nil {
		return err
	}
	m.carry(nil)
	m.attachTargets(ctx)
	return nil
}

// pick returns the legs that f holds for, once nothing is under way on them. One
// that does not come to rest is left for the next call.
func (m *Mirror) pick(f func(s core.LegStatus) bool) (legs []LegConfig) {
	for end := time.Now().Add(readLimit); ; time.Sleep(time.Millisecond) {
		busy := false
		legs = nil
		m.mu.Lock()
		for i, s := range m.core.Status().Legs {
			if i >= len(m.legs) || s.VD != m.legs[i].conf.VD || !f(s) {
				continue
			}
			if m.legs[i].under > 0 {
				busy = true
			} else {
				legs = append(legs, m.legs[i].conf)
			}
		}
		m.mu.Unlock()
		if !busy || time.Now().After(end) {
			return legs
		}
	}
}

// attachTargets attaches targets whose bdevs are there.
func (m *Mirror) attachTargets(ctx context.Context) {
	legs := m.pick(func(s core.LegStatus) bool { return s.Role == core.Absent })
	legs = slices.DeleteFunc(legs, func(l LegConfig) bool { return l.Role != core.Target })
	m.connect(ctx, legs, func(c *core.Core, l core.Leg, t tail) error {
		return c.Attach(l, t.label, t.bits, m.legs[l].conf.Epoch)
	})
}

// resumeLost goes on with members that were lost and are there again.
func (m *Mirror) resumeLost(ctx context.Context) {
	legs := m.pick(func(s core.LegStatus) bool { return s.Lost })
	m.mu.Lock()
	for _, l := range legs {
		if i, known := m.core.Find(l.VD); known && m.legs[i].h != nil {
			m.legs[i].h.Close()
			m.legs[i].h = nil
		}
	}
	m.mu.Unlock()
	m.connect(ctx, legs, func(c *core.Core, l core.Leg, t tail) error { return c.Resume(l, t.label, m.legs[l].conf.Epoch) })
}

// connect opens legs and tells the core.
func (m *Mirror) connect(ctx context.Context, legs []LegConfig, tell func(c *core.Core, l core.Leg, t tail) error) {
	if len(legs) == 0 {
		return
	}
	for i, t := range m.openAll(ctx, legs) {
		if t.err != nil {
			m.mod.log.Warn("a leg is not there", "mirror", m.conf.Name, "vd", legs[i].VD, "err", t.err)
			m.mu.Lock()
			if l, known := m.core.Find(legs[i].VD); known {
				m.legs[l].why = t.err.Error()
			}
			m.mu.Unlock()
			continue
		}
		m.mu.Lock()
		l, known := m.core.Find(legs[i].VD)
		err := errors.New("it is not a leg any more")
		if known && m.legs[l].h == nil && m.legs[l].under == 0 {
			m.legs[l].h, m.legs[l].shift, m.legs[l].heard = t.h, uint(bits.TrailingZeros32(t.h.Info().BlockSize)), time.Now()
			m.legs[l].why = ""
			if err = tell(m.core, l, t); err != nil {
				m.legs[l].h, m.legs[l].why = nil, err.Error()
			}
		}
		m.mu.Unlock()
		if err != nil {
			m.mod.log.Warn("a leg is not connected", "mirror", m.conf.Name, "vd", legs[i].VD, "err", err)
			t.h.Close()
		}
	}
	m.carry(nil)
}

// removed is told that the bdev of a leg goes.
func (m *Mirror) removed(vd label.ID) {
	m.mu.Lock()
	if m.core != nil {
		if l, known := m.core.Find(vd); known && int(l) < len(m.legs) {
			m.legs[l].detach()
			m.core.Lost(l, "its bdev was removed")
		}
		m.mu.Unlock()
		m.carry(nil)
		return
	}
	m.mu.Unlock()
}

// silence is how long a member may be silent until it is asked for a sign.
const silence = time.Second

// probe reads a block of members that have been silent, so that reads may be
// served and a broken leg is noticed without I/O.
func (m *Mirror) probe(b *bdev.Batch) {
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		return
	}
	var asked []*bdev.Request
	var of []*bdev.Handle
	for i, s := range m.core.Status().Legs {
		l := &m.legs[i]
		if s.Role < core.Joining || s.Lost || l.h == nil || l.probing || time.Since(l.heard) < silence {
			continue
		}
		l.probing = true
		block := make([]byte, label.SlotSize)
		asked = append(asked, &bdev.Request{Op: bdev.OpRead, Offset: m.conf.DataSize >> l.shift, Blocks: uint64(len(block)) >> l.shift,
			Iov: [][]byte{block}, Done: func(r *bdev.Request, b *bdev.Batch) { m.probed(s.VD, r.Status, b) }})
		of = append(of, l.h)
	}
	m.mu.Unlock()
	for i, r := range asked {
		of[i].Submit(r, b)
	}
}

func (m *Mirror) probed(vd label.ID, s nvme.Status, b *bdev.Batch) {
	m.enter(b, func(c *core.Core) {
		l, known := c.Find(vd)
		if !known || !m.legs[l].probing {
			return
		}
		m.legs[l].probing = false
		switch {
		case s == nvme.Success:
			m.legs[l].heard = time.Now()
			c.Heard(l)
		case s != nvme.CommandInterrupted:
			c.Lost(l, "it does not answer")
		}
	})
}

// atRest reports that nothing is under way on any leg.
func (m *Mirror) atRest() bool {
	return !slices.ContainsFunc(m.legs, func(l leg) bool { return l.under > 0 || l.probing })
}

// release lets go of all legs.
func (m *Mirror) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.legs {
		if h := m.legs[i].h; h != nil {
			m.legs[i].h = nil
			h.Close()
		}
	}
}
