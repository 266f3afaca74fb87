package core

import (
	"slices"
	"time"
)

// Op is what an I/O does.
type Op uint8

// The operations. Unmap is Zero where not all legs read zeros after it.
const (
	Read Op = iota
	Write
	Zero
	Flush

	repairOp // reads from the source and writes to the other members
	copyOp   // reads from a member and writes to a target
	syncOp   // flushes legs so that bits can be cleared
	scrubOp  // reads all members, and writes to those that are wrong
)

// IO is a request of anyone who uses the mirror, or the mirror's own. The caller
// sets the first five fields, hands it to Submit, and has it back with Complete.
type IO struct {
	Op       Op
	Off, Len uint64 // bytes; of a Flush 0
	// Pass is the same of I/Os that are submitted together, and whose actions are sent
	// together; 0: of none. Reads of a pass go to one leg, up to a limit, as several in
	// one piece cost less than one each to several legs.
	Pass int64
	// Data is the caller's. It is nil in the mirror's own I/Os, for which anyone who
	// carries the actions out has memory of Len bytes from the first action to
	// Complete.
	Data any

	core        *Core
	access      access
	first, last int // regions; none when last < first
	begun       time.Duration
	stage       stage
	pend        LegSet // legs that something is under way on
	need        LegSet // legs that must have it before it ends
	failed      LegSet // of need: legs that do not have it
	short       bool   // a leg of need was dropped: labels must say so first

	from    Leg    // that a read is served by
	tried   LegSet // that could not serve it
	rewrite LegSet // members that get what was read
	to      Leg    // of copyOp, and of a syncOp of one target
	target  bool   // a syncOp is of one target
	job     *job

	links links
	at    int // its place in running, from 1; 0: it does not run
}

type stage uint8

const (
	queued    stage = iota // waits for its range, or until nothing is held
	labelling              // waits for a label
	mapping                // waits for bits to be durable
	reading
	writing
	ended // waits until it may be acknowledged
	over
)

// Scrubs reports that the I/O compares legs: what is read from one is kept apart
// from what is read from another, and what is written is what was read from From.
func (io *IO) Scrubs() bool { return io.Op == scrubOp }

// From is the leg that was read last, or is right.
func (io *IO) From() Leg { return io.from }

// Own reports that the I/O is the mirror's.
func (io *IO) Own() bool { return io.Op > Flush }

func (io *IO) overlaps(other *IO) bool {
	if io.core.cfg.Break == NoOrder && !io.Own() && !other.Own() {
		return false
	}
	return io.Off < other.Off+other.Len && other.Off < io.Off+io.Len
}

// Submit starts an I/O, whose range must lie in the mirror. After Stop it ends
// with Path.
func (c *Core) Submit(io *IO) {
	c.prepare(io)
	switch {
	case c.stopping:
		c.end(io, Path)
	case c.held() || !c.start(io):
		c.waiting = append(c.waiting, io)
	}
	c.pump()
}

// enqueue has an I/O start when it may.
func (c *Core) enqueue(io *IO) {
	c.prepare(io)
	c.waiting = append(c.waiting, io)
}

// prepare gives an I/O its place in the order.
func (c *Core) prepare(io *IO) {
	data := io.Data
	*io = IO{Op: io.Op, Off: io.Off, Len: io.Len, Pass: io.Pass, Data: data, to: io.to, target: io.target, need: io.need, core: c,
		begun: c.now, first: 0, last: -1}
	if io.Len > 0 {
		io.first, io.last = int(io.Off/c.regionSize), int((io.Off+io.Len-1)/c.regionSize)
	}
	switch io.Op {
	case Write, Zero, repairOp:
		io.access = changes
	case copyOp, scrubOp:
		io.access = copies
	}
	if !io.Own() {
		c.foreground++
	}
	c.order.enter(io)
}

// startWaiting starts the I/Os that may. What it starts may add others to the end.
func (c *Core) startWaiting() {
	if len(c.waiting) == 0 || c.starting || c.held() {
		return
	}
	c.starting = true
	for i := 0; i < len(c.waiting) && !c.held(); i++ {
		if io := c.waiting[i]; io.stage == queued && c.start(io) {
			c.waiting[i] = nil
		}
	}
	c.starting = false
	c.waiting = slices.DeleteFunc(c.waiting, func(io *IO) bool { return io == nil || io.stage != queued })
}

// start starts an I/O; false when it has to wait.
func (c *Core) start(io *IO) bool {
	if c.stopping && !io.Own() {
		return false
	}
	if io.Op == Read {
		if !c.heardOfAll() {
			return false
		}
		if io.access = shares; c.unequal(io) {
			io.access = changes
		}
	}
	if !c.order.free(io) {
		return false
	}
	if to := &c.legs[io.to]; io.Op == copyOp && !slices.Contains(to.jobs, io.job) || io.target && !to.flushing {
		c.end(io, Path) // its target is no more
		return true
	}
	c.running = append(c.running, io)
	io.at = len(c.running)
	switch io.Op {
	case Read, repairOp, copyOp:
		c.read(io)
	case Write, Zero:
		c.mark(io)
	case scrubOp:
		c.compareAll(io)
	case Flush:
		io.need = c.waited()
		c.each(io, c.written(), FlushLeg)
	case syncOp:
		if !io.target {
			io.need = c.written()
		}
		c.each(io, io.need, FlushLeg)
	}
	return true
}

// heardOfAll reports that every member was heard of a moment ago. A primary that has
// been cut off from one of them might read what another has overwritten.
func (c *Core) heardOfAll() bool {
	for i := range c.legs {
		if l := &c.legs[i]; l.role == Member && c.now-l.heard > c.cfg.Heard {
			return false
		}
	}
	return true
}

// unequal reports that legs may differ in the range of an I/O.
func (c *Core) unequal(io *IO) bool {
	if c.cfg.Break == NoRepair {
		return false
	}
	for r := io.first; r <= io.last; r++ {
		if c.repair.Has(r) {
			return true
		}
	}
	return false
}

// each starts an action for an I/O on each of some legs.
func (c *Core) each(io *IO, legs LegSet, kind Kind) {
	io.stage = writing
	io.pend |= legs
	for i := range c.legs {
		if legs.Has(Leg(i)) {
			c.do(Action{Kind: kind, Leg: Leg(i), IO: io})
		}
	}
	if legs == 0 {
		c.check(io)
	}
}

// passMost is how many more reads a leg may serve than another because they came in
// one pass.
const passMost = 8

// read has a member serve an I/O: the source where legs may differ, else the one
// that serves the others of its pass, or the fewest. Any member may replace one that fails, as each
// has all that was acknowledged.
func (c *Core) read(io *IO) {
	best := Leg(-1)
	if io.access == changes && !io.tried.Has(c.source) {
		best = c.source
	} else {
		for i := range c.legs {
			if l := &c.legs[i]; c.readable(io).Has(Leg(i)) && (best < 0 || l.reads < c.legs[best].reads) {
				best = Leg(i)
			}
		}
		if l := c.passLeg; io.Pass != 0 && io.Pass == c.pass && c.readable(io).Has(l) && c.legs[l].reads < c.legs[best].reads+passMost {
			best = l
		}
		c.pass, c.passLeg = io.Pass, max(best, 0)
	}
	if best < 0 {
		c.end(io, Media)
		return
	}
	io.stage, io.from = reading, best
	io.pend |= set(best)
	c.legs[best].reads++
	c.do(Action{Kind: ReadLeg, Leg: best, IO: io})
}

// readable is the set of legs that may still serve an I/O.
func (c *Core) readable(io *IO) LegSet { return c.members() &^ c.catch &^ io.tried }

// wasRead goes on after a member has served an I/O.
func (c *Core) wasRead(io *IO, r Result) {
	c.legs[io.from].reads--
	from := io.from
	if r == OK && io.Op == Read && !c.heardOfAll() { // long ago: another primary may have written since
		c.again(io)
		return
	}
	switch {
	case r == Path:
		c.lose(from, NotRead)
		c.again(io)
		return
	case r == Media:
		io.tried |= set(from)
		io.rewrite |= set(from)
		c.read(io)
		return
	}
	to := io.rewrite & c.d()
	switch {
	case io.Op == copyOp:
		to = set(io.to)
	case io.access == changes: // repairs
		to = c.waited() &^ set(from)
	}
	io.need = to & c.waited()
	c.each(io, to, WriteLeg)
}

// yieldPlace takes an I/O out of those that run.
func (c *Core) yieldPlace(io *IO) {
	last := c.running[len(c.running)-1]
	c.running[io.at-1], last.at, io.at = last, io.at, 0
	c.running[len(c.running)-1] = nil
	c.running = c.running[:len(c.running)-1]
}

// again has an I/O wait once more, in its place.
func (c *Core) again(io *IO) {
	io.stage, io.tried, io.rewrite = queued, 0, 0
	c.yieldPlace(io)
	c.waiting = append(c.waiting, io)
}

// Done says how an action ended.
func (c *Core) Done(a Action, r Result) {
	c.legs[a.Leg].under--
	if c.yielded {
		return
	}
	if r == OK {
		c.Heard(a.Leg)
	}
	switch a.Kind {
	case WriteMap:
		c.mapWritten(a, r)
	case WriteLabel:
		c.labelWritten(a, r)
	case ReadLeg:
		if a.IO.pend &^= set(a.Leg); a.IO.Op == scrubOp {
			c.scrubRead(a.IO, a.Leg, r)
		} else {
			c.wasRead(a.IO, r)
		}
	case WriteLeg, FlushLeg:
		io := a.IO
		io.pend &^= set(a.Leg)
		if r != OK {
			c.failedOn(io, a.Leg, r)
		}
		c.check(io)
	}
	c.pump()
}

// failedOn notes that a leg does not have what was written.
func (c *Core) failedOn(io *IO, l Leg, r Result) {
	if io.need.Has(l) {
		io.failed |= set(l)
	}
	what := NotWritten
	if r == Media {
		what = BadWrite
	}
	c.lose(l, what)
}

// check ends an I/O when all that it needs is done.
func (c *Core) check(io *IO) {
	if io.stage != writing && io.stage != ended || io.pend != 0 {
		return
	}
	io.stage = ended
	if io.need&io.failed != 0 || io.short && c.held() {
		return
	}
	c.end(io, OK)
}

// end completes an I/O.
func (c *Core) end(io *IO, r Result) {
	c.order.leave(io)
	if !io.Own() {
		c.foreground--
		c.served, c.servedAt = true, c.now
	}
	if io.at > 0 {
		c.yieldPlace(io)
	} else if io.stage == queued && !c.starting { // else startWaiting takes it out
		if i := slices.Index(c.waiting, io); i >= 0 {
			c.waiting = slices.Delete(c.waiting, i, i+1)
		}
	}
	io.stage = over
	switch io.Op {
	case Write, Zero:
		for reg := io.first; reg <= io.last; reg++ {
			c.used[reg] = c.now
		}
	case repairOp:
		c.repaired(io, r)
	case copyOp:
		c.wasCopied(io, r)
	case syncOp:
		c.synced(io, r)
	case scrubOp:
		c.scrubbed(io, r)
	}
	c.do(Action{Kind: Complete, IO: io, Result: r})
}

// expire ends I/Os that have waited for a lost leg for too long: the host sends
// them again. Legs may differ in what a write has begun.
func (c *Core) expire() {
	held, silent := c.held(), !c.heardOfAll()
	if !held && !silent {
		return
	}
	for _, list := range [][]*IO{c.waiting, c.running} {
		for _, io := range slices.Clone(list) {
			if io.Own() || io.pend != 0 || c.now-io.begun < c.cfg.Hold || !held && io.stage != queued {
				continue
			}
			if io.stage == ended && io.access == changes {
				for r := io.first; r <= io.last; r++ {
					c.mustRepair(r)
				}
			}
			c.end(io, Path)
		}
	}
}
