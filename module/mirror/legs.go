package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
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
	bare    bool         // it has no room for a label
	under   int          // orders that are not yet reported
	probing bool
	ages    ages   // of orders and the probe
	why     string // it could not be opened or connected; empty when it could
}

// hold takes a handle.
func (l *leg) hold(h *bdev.Handle) {
	l.h, l.why = h, ""
	l.shift = uint(bits.TrailingZeros32(h.Info().BlockSize))
}

// stall is how long a leg may leave one thing unanswered until it is lost, whatever
// else it answers. A leg that is slow and not dead is waited for that long once.
var stall = 10 * time.Second

// ages counts what is under way by when it began, in turns of stall/stallTurns. Turns
// end only while the mirror's clock ticks, so that a data plane that was stopped for
// a while does not take its own time for a leg's.
type ages [2 * stallTurns]int32

const stallTurns = 8

// begin notes that something is under way since the turn that it returns, for end.
func (a *ages) begin(turn uint32) uint32 {
	a[turn%uint32(len(a))]++
	return turn
}

func (a *ages) end(turn uint32) { a[turn%uint32(len(a))]-- }

// stuck reports that something is under way for longer than stall.
func (a *ages) stuck(turn uint32) bool {
	for i := uint32(stallTurns + 1); i < uint32(len(a)); i++ {
		if a[(turn-i)%uint32(len(a))] > 0 {
			return true
		}
	}
	return false
}

// stalled loses legs that leave something unanswered. m.mu is held.
func (m *Mirror) stalled(c *core.Core) {
	if now := m.now(); now-m.turned < stall/stallTurns {
		return
	} else {
		m.turn, m.turned = m.turn+1, now
	}
	if m.direct.Load() != nil {
		return // one leg alone is waited for
	}
	for i, s := range c.Status().Legs {
		if i < len(m.legs) && s.Role != core.Absent && !s.Lost {
			if m.legs[i].ages.stuck(m.turn) {
				c.Lost(core.Leg(i), core.Silent)
			}
		}
	}
}

// detach closes the handle of a leg, when nobody uses memory any more that the leg
// has lent. m.mu is held.
func (m *Mirror) detach(l *leg) {
	h := l.h
	if l.h = nil; h == nil {
		return
	}
	lent := false
	if d := m.direct.Load(); d != nil && d.h == h {
		m.closeDirect()
		lent = d.mapped.Load()
	}
	m.closing++
	go func() { // closing may call back
		if lent {
			m.mod.reg.Settle(m.conf.Name)
		}
		h.Close()
		m.mu.Lock()
		m.closing--
		m.mu.Unlock()
		m.closed.Broadcast()
	}()
}

// awaitClosed returns when all handles are closed that detach has begun to close.
func (m *Mirror) awaitClosed() {
	m.mu.Lock()
	for m.closing > 0 {
		m.closed.Wait()
	}
	m.mu.Unlock()
}

// readLimit bounds how long a leg's tail is waited for.
const readLimit = 1500 * time.Millisecond

// tail is what was read from a leg.
type tail struct {
	h     *bdev.Handle
	bare  bool // there is no room for one
	label *label.Label
	bits  *label.Map
	epoch label.ID     // see LegConfig.Epoch
	cut   *atomic.Bool // its connection was lost since
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
	cut := &atomic.Bool{}
	t.cut = cut
	t.h.OnCutOff(func() {
		cut.Store(true)
		go m.cutOff(c.VD)
	})
	t.epoch = c.Epoch
	if t.epoch == (label.ID{}) { // of this connection: a control plane could know that of an earlier one only
		t.epoch = label.ID(t.h.Info().Epoch)
	}
	if t.err = t.h.Claim(claimName); t.err == nil {
		t.bare, t.err = m.fits(c, t.h.Info())
	}
	if t.err == nil && !t.bare {
		t.err = m.readTail(ctx, &t)
	}
	t.h.OnSettle(func() { m.mod.reg.Settle(m.conf.Name) })
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

// fits checks that a bdev can be a leg. bare: it has no room for a label, and need
// not have.
func (m *Mirror) fits(c LegConfig, i *bdev.Info) (bare bool, err error) {
	have := i.Blocks * uint64(i.BlockSize)
	if bare = have < m.conf.DataSize+label.TailSize; bare && (!c.Bare || c.Role != core.Member || have < m.conf.DataSize) {
		return bare, fmt.Errorf("bdev %q has %d bytes; a leg of mirror %q takes %d, and %d more: %w",
			i.Name, have, m.conf.Name, m.conf.DataSize, label.TailSize, syscall.EINVAL)
	}
	if own := m.info.Load(); own != nil && own.BlockSize != i.BlockSize {
		return bare, fmt.Errorf("bdev %q has blocks of %d bytes, mirror %q has %d: %w", i.Name, i.BlockSize, m.conf.Name, own.BlockSize,
			syscall.EINVAL)
	}
	return bare, nil
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
	m.awaitClosed() // else a leg's claim may still be the mirror's own
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

// removed is told that the bdev of a leg goes.
func (m *Mirror) removed(vd label.ID) {
	m.mu.Lock()
	if m.core == nil {
		m.mu.Unlock()
		return
	}
	if i, l := m.legOf(vd); l != nil {
		m.detach(l)
		m.core.Lost(i, core.Removed)
	}
	m.carryLocked(nil)
}

// connectionLost is why a leg is lost that cannot be reached.
const connectionLost = "its connection is lost"

// cutOff is told that a leg's connection is lost. The only leg of a mirror is not
// lost for that: nobody can go on without it, and its requests wait for it.
func (m *Mirror) cutOff(vd label.ID) {
	m.mu.Lock()
	if m.core == nil || m.direct.Load() != nil {
		m.mu.Unlock()
		return
	}
	legs := m.core.Status().Legs
	i, l := m.legOf(vd)
	waited := slices.DeleteFunc(slices.Clone(legs), func(s core.LegStatus) bool { return s.Role < core.Joining })
	if l != nil && l.h != nil && (legs[i].Role < core.Joining || len(waited) > 1) {
		m.core.Lost(i, connectionLost)
	}
	m.carryLocked(nil)
}

// silence is how long a member may be silent until it is asked for a sign.
const silence = time.Second

// probe reads a block of members that have been silent, so that reads may be
// served and a broken leg is noticed without I/O. A leg that I/O goes to past the
// core needs neither.
func (m *Mirror) probe(b *bdev.Batch) {
	m.mu.Lock()
	if m.stopped || m.direct.Load() != nil {
		m.mu.Unlock()
		return
	}
	var asked []*bdev.Request
	var of []*bdev.Handle
	for i, s := range m.core.Status().Legs {
		if i >= len(m.legs) {
			break
		}
		l := m.legs[i]
		if s.Role < core.Joining || s.Lost || l.h == nil || l.probing || m.core.Silent(core.Leg(i)) < silence {
			continue
		}
		l.probing = true
		turn := l.ages.begin(m.turn)
		block, at := make([]byte, label.SlotSize), m.conf.DataSize
		if l.bare {
			at = 0
		}
		asked = append(asked, &bdev.Request{Op: bdev.OpRead, Offset: at >> l.shift, Blocks: uint64(len(block)) >> l.shift,
			Iov: [][]byte{block}, Done: func(r *bdev.Request, b *bdev.Batch) { m.probed(l, turn, r.Status, b) }})
		of = append(of, l.h)
	}
	m.mu.Unlock()
	for i, r := range asked {
		of[i].Submit(r, b)
	}
}

func (m *Mirror) probed(l *leg, turn uint32, s nvme.Status, b *bdev.Batch) {
	m.enter(b, func(c *core.Core) {
		l.probing = false
		l.ages.end(turn)
		i, now := m.legOf(l.conf.VD)
		if now != l {
			return
		}
		switch {
		case s == nvme.Success:
			c.Clock(m.now())
			c.Heard(i)
		case s == nvme.CommandInterrupted:
		case s.IsPath():
			c.Lost(i, core.Silent)
		default:
			c.Lost(i, core.BadRead)
		}
	})
}

// atRest reports that nothing is under way on any leg.
func (m *Mirror) atRest() bool {
	busy := func(l *leg) bool { return l.under > 0 || l.probing }
	return !slices.ContainsFunc(m.legs, busy) && !slices.ContainsFunc(m.past, busy)
}

// release lets go of all legs.
func (m *Mirror) release() {
	m.mu.Lock()
	var all []*bdev.Handle
	for _, l := range m.legs {
		if l.h != nil {
			all = append(all, l.h)
			l.h = nil
		}
	}
	m.mu.Unlock()
	for _, h := range all {
		h.Close()
	}
	m.awaitClosed()
}
