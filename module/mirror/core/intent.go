package core

import (
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// pages are the pages of a map on the legs that have it. A page is written
// whole, by one round over its legs at a time.
type pages struct {
	ver     []uint64 // counts the changes of a page
	flying  []uint64 // the version that is being written
	durable []uint64 // the version that all legs have
	pend    []LegSet // that have not yet answered
}

func newPages(regions int) pages {
	n := label.Pages(regions)
	return pages{ver: make([]uint64, n), flying: make([]uint64, n), durable: make([]uint64, n), pend: make([]LegSet, n)}
}

// touch says that all pages have changed, or have to be on another leg too.
func (p *pages) touch() {
	for i := range p.ver {
		p.ver[i]++
	}
}

// settled reports that all pages are durable as they are.
func (p *pages) settled() bool {
	for i := range p.ver {
		if p.durable[i] != p.ver[i] {
			return false
		}
	}
	return true
}

// done notes that a leg has answered, or never will. It reports that a page has
// become durable.
func (p *pages) done(page int, l Leg) bool {
	if !p.pend[page].Has(l) {
		return false
	}
	if p.pend[page] &^= set(l); p.pend[page] != 0 {
		return false
	}
	p.durable[page] = p.flying[page]
	return true
}

// write begins to write the pages of a map that have changed.
func (c *Core) write(m *label.Map, p *pages, legs LegSet, own bool) {
	for i := range p.ver {
		if p.pend[i] != 0 || p.durable[i] == p.ver[i] || legs == 0 {
			continue
		}
		p.flying[i], p.pend[i] = p.ver[i], legs
		b := make([]byte, label.SlotSize)
		m.EncodePage(b, c.cfg.Mirror, i)
		for l := range c.legs {
			if legs.Has(Leg(l)) {
				c.counters.IntentWrites++
				c.do(Action{Kind: WriteMap, Leg: Leg(l), Page: i, Bytes: b, own: own})
			}
		}
	}
}

// rewriteIntent has all of the intent map written again, and writes wait for it:
// there is a leg in D that may lack bits.
func (c *Core) rewriteIntent() {
	c.pages.touch()
	for r := c.intent.Next(0); r >= 0; r = c.intent.Next(r + 1) {
		c.setAt[r] = c.pages.ver[label.PageOf(r)]
	}
	c.writeIntent()
}

func (c *Core) writeIntent() {
	legs := c.waited() &^ c.lost()
	tails := legs &^ c.with(func(l *leg) bool { return l.bare })
	if legs != 0 && tails == 0 { // the map is in memory alone
		copy(c.pages.durable, c.pages.ver)
		clear(c.setAt)
		return
	}
	c.write(c.intent, &c.pages, tails, false)
}

func (c *Core) mapWritten(a Action, r Result) {
	l := &c.legs[a.Leg]
	if r != OK {
		c.lose(a.Leg, NoMap)
	}
	if a.own {
		if l.role == Target && l.pages.done(a.Page, a.Leg) {
			c.write(l.lack, &l.pages, set(a.Leg), true)
			c.attach(a.Leg)
		}
		return
	}
	c.mapDone(a.Page, a.Leg)
}

// mapDone goes on after a page of the intent map is on a leg, or will never be.
func (c *Core) mapDone(page int, l Leg) {
	if !c.pages.done(page, l) {
		return
	}
	for r, ver := range c.setAt {
		if label.PageOf(r) == page && ver <= c.pages.durable[page] {
			delete(c.setAt, r)
		}
	}
	c.writeIntent()
	for _, io := range append([]*IO(nil), c.running...) {
		c.proceed(io)
	}
}

// mark sets the bits of a write, and writes its data once they are durable.
func (c *Core) mark(io *IO) {
	io.stage = mapping
	for r := io.first; r <= io.last; r++ {
		page := label.PageOf(r)
		if !c.intent.Has(r) {
			c.intent.Set(r)
			c.pages.ver[page]++
			c.setAt[r] = c.pages.ver[page]
		}
		c.used[r] = c.now
	}
	c.writeIntent()
	c.proceed(io)
}

// proceed writes the data of a write whose bits are durable.
func (c *Core) proceed(io *IO) {
	if io.stage != mapping || c.held() {
		return
	}
	for r := io.first; r <= io.last; r++ {
		if _, pending := c.setAt[r]; pending && c.cfg.Break != NoIntent {
			return
		}
	}
	legs := c.written()
	if io.need = c.waited(); io.Op == scrubOp { // those that are right have it
		legs &^= io.need & c.members() &^ io.rewrite
		io.need &= legs
	}
	c.each(io, legs, WriteLeg)
}

// clearing is the state of taking bits away.
type clearing struct {
	regions []int // that a flush under way allows to clear
	begun   time.Duration
	next    time.Duration // when to look again
}

// clearBatch bounds how many bits are cleared behind one flush.
const clearBatch = 1024

// mayClear reports that no leg lacks what regions have had written: all are in
// D or are targets whose own map has what they lack.
func (c *Core) mayClear() bool {
	if c.held() {
		return false
	}
	for i := range c.legs {
		l := &c.legs[i]
		whole := l.role >= Joining || l.role == Target && l.attached
		if l.vd != (label.ID{}) && !whole && c.cfg.Break != ClearWhileAbsent {
			return false
		}
	}
	return len(c.absent) == 0 || c.cfg.Break == ClearWhileAbsent
}

// startClearing looks for regions that have rested, and flushes the legs.
func (c *Core) startClearing() {
	if c.clear.regions != nil || c.now < c.clear.next || c.stopping || !c.mayClear() {
		return
	}
	c.clear.next = c.now + time.Second
	over := c.intent.Count() - c.cfg.Hot
	for r := c.intent.Next(0); r >= 0 && len(c.clear.regions) < clearBatch; r = c.intent.Next(r + 1) {
		if rested := c.now - c.used[r]; rested >= c.cfg.Idle || over > 0 && rested > time.Second {
			if !c.order.busy(r) && !c.repair.Has(r) {
				c.clear.regions = append(c.clear.regions, r)
				over--
			}
		}
	}
	c.flushToClear()
}

func (c *Core) flushToClear() {
	if c.clear.regions == nil {
		return
	}
	c.clear.begun = c.now
	io := &IO{Op: syncOp, need: c.written()}
	if c.cfg.Break == ClearWithoutFlush {
		io.core = c
		c.synced(io, OK)
		return
	}
	c.enqueue(io)
	c.startWaiting()
}

// synced goes on after a flush of the mirror's own.
func (c *Core) synced(io *IO, r Result) {
	if io.target {
		c.targetFlushed(io.to, r)
		return
	}
	regions := c.clear.regions
	c.clear.regions = nil
	if r != OK || !c.mayClear() {
		return
	}
	for _, reg := range regions {
		if !c.order.busy(reg) && !c.repair.Has(reg) && (c.used[reg] < c.clear.begun || c.stopping) && c.intent.Has(reg) {
			c.intent.Clear(reg)
			delete(c.used, reg)
			delete(c.setAt, reg)
			c.pages.ver[label.PageOf(reg)]++
		}
	}
	c.writeIntent()
}
