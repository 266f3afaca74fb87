package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// job is the repair of a region, or its copy to a target, step by step.
type job struct {
	region int
	off    uint64 // where the next step begins
	flying int
	bad    bool // a step has failed, or the region must be done once more
}

// retry is how long a region that could not be copied rests.
const retry = time.Second

// mustRepair notes that legs may differ in a region.
func (c *Core) mustRepair(r int) {
	c.repair.Set(r)
	for _, j := range c.repairs {
		if j.region == r {
			j.bad = true
		}
	}
	for i := range c.legs {
		l := &c.legs[i]
		if l.role != Target || l.settling {
			continue // it is not written to, or takes part in the repair
		}
		l.lack.Set(r)
		l.copied = slices.DeleteFunc(l.copied, func(k int) bool { return k == r })
		for _, j := range l.jobs {
			j.bad = j.bad || j.region == r
		}
		l.pages.touch()
		c.write(l.lack, &l.pages, set(Leg(i)), true)
	}
}

// end returns where a region's data end.
func (c *Core) regionEnd(r int) uint64 { return min(uint64(r+1)*c.regionSize, c.cfg.DataSize) }

// step starts the next step of one of the jobs, or of a new one.
func (c *Core) step(jobs *[]*job, next func() int, io *IO) bool {
	if !c.mayCopy() {
		return false
	}
	i := slices.IndexFunc(*jobs, func(j *job) bool { return j.off < c.regionEnd(j.region) })
	if i < 0 {
		r := next()
		if r < 0 {
			return false
		}
		*jobs = append(*jobs, &job{region: r, off: uint64(r) * c.regionSize})
		i = len(*jobs) - 1
	}
	j := (*jobs)[i]
	size := c.cfg.CopyStep
	if c.hostsAreBusy() {
		size = min(size, c.cfg.HostStep)
	}
	io.Off, io.Len = j.off, min(size, c.regionEnd(j.region)-j.off)
	j.off += io.Len
	j.flying++
	c.copies++
	c.spend(io.Len)
	c.enqueue(io)
	io.job = j
	return true
}

// Beside I/O of hosts, and for hostsRest after it, there are two steps at a time, as one
// is read from a leg while the other is written to another. They are small: what a host
// sends next waits behind them on the disk.
const (
	besideHosts = 2
	hostsRest   = 100 * time.Millisecond
)

// hostsAreBusy reports that hosts have I/O under way, or had a moment ago: one that
// sends its next when it has the answer has none in between.
func (c *Core) hostsAreBusy() bool {
	return c.foreground > 0 || c.served && c.now-c.servedAt < hostsRest
}

// mayCopy reports that another step may start: hosts come first.
func (c *Core) mayCopy() bool {
	depth := c.cfg.CopyDepth
	if c.hostsAreBusy() {
		depth = min(depth, besideHosts)
	}
	return c.copies < depth && (c.cfg.CopyRate == 0 || c.tokens > 0) && (c.cfg.Budget == nil || c.cfg.Budget.Left() > 0)
}

// spend notes that so many bytes are copied or compared.
func (c *Core) spend(n uint64) {
	c.tokens -= float64(n)
	c.counters.Copied += n
	if c.cfg.Budget != nil {
		c.cfg.Budget.Spend(n)
	}
}

// SetCopyRate is Config.CopyRate from now on.
func (c *Core) SetCopyRate(rate uint64) {
	c.cfg.CopyRate = rate
	c.tokens = 0
	c.pump()
}

// stepDone ends a step; true when its job has ended, too.
func (c *Core) stepDone(jobs *[]*job, io *IO, r Result) bool {
	c.copies--
	j := io.job
	j.flying--
	j.bad = j.bad || r != OK
	if r == Media && !slices.Contains(c.unread, j.region) {
		c.unread = append(c.unread, j.region)
	}
	if j.flying > 0 || j.off < c.regionEnd(j.region) && !j.bad {
		return false
	}
	*jobs = slices.DeleteFunc(*jobs, func(k *job) bool { return k == j })
	if j.bad {
		c.rest = c.now + retry
	} else {
		c.unread = slices.DeleteFunc(c.unread, func(r int) bool { return r == j.region })
	}
	return true
}

// another returns the next region of a map that no job has, from r on and then
// from the start.
func another(next func(r int) int, r int, jobs []*job) int {
	for range 2 {
		for i := next(r); i >= 0; i = next(i + 1) {
			if !slices.ContainsFunc(jobs, func(j *job) bool { return j.region == i }) {
				return i
			}
		}
		r = 0
	}
	return -1
}

// startRepairs has the regions that legs may differ in read from the source and
// written to the others.
func (c *Core) startRepairs() {
	for !c.held() && !c.stopping && c.repair.Count() > 0 && c.now >= c.rest {
		if c.waited()&^set(c.source) == 0 { // one leg is equal to itself
			for r := c.repair.Next(0); r >= 0; r = c.repair.Next(r + 1) {
				c.repair.Clear(r)
			}
			break
		}
		if !c.step(&c.repairs, func() int {
			r := another(c.repair.Next, c.hand, c.repairs)
			c.hand = max(r, 0)
			return r
		}, &IO{Op: repairOp}) {
			break
		}
		c.startWaiting()
	}
	if c.repair.Count() == 0 && c.catch != 0 && len(c.repairs) == 0 && !c.held() {
		c.catch = 0
		c.changes++
		c.relabel = true
		c.nextLabel()
	}
}

func (c *Core) repaired(io *IO, r Result) {
	switch {
	case !c.stepDone(&c.repairs, io, r):
	case io.job.bad:
		c.hand = io.job.region + 1 // others are not held up by one that cannot be read
	default:
		c.repair.Clear(io.job.region)
	}
}

// startCopies copies to targets what they lack.
func (c *Core) startCopies() {
	for i := range c.legs {
		l := &c.legs[i]
		for l.role == Target && l.attached && !l.settling && !c.held() && !c.stopping && c.now >= c.rest {
			if !c.step(&l.jobs, func() int {
				return another(func(r int) int {
					for r = l.lack.Next(r); r >= 0 && (slices.Contains(l.copied, r) || c.repair.Has(r)); {
						r = l.lack.Next(r + 1)
					}
					return r
				}, l.hand, l.jobs)
			}, &IO{Op: copyOp, to: Leg(i)}) {
				break
			}
			c.startWaiting()
		}
		c.flushCopied(Leg(i))
	}
}

func (c *Core) wasCopied(io *IO, r Result) {
	l := &c.legs[io.to]
	jobs := &l.jobs
	if !slices.Contains(*jobs, io.job) {
		c.copies-- // of a connection that is no more
		return
	}
	switch {
	case !c.stepDone(jobs, io, r):
	case io.job.bad:
		l.hand = io.job.region + 1 // as of repairs: all but what no member can read is copied
	default:
		l.copied = append(l.copied, io.job.region)
	}
}

// unreadable says why a target that lacks regions does not become a member before what is
// in some can be read, or has been written again; "" when all can, as far as was tried.
func (c *Core) unreadable(lack *label.Map) string {
	n, first := 0, 0
	for _, r := range c.unread {
		if lack.Has(r) || c.repair.Has(r) {
			if n == 0 || r < first {
				first = r
			}
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("no member can read all of %d regions, the first from byte %d to %d: the leg is not made a member before they can be "+
		"read, or hosts have written what cannot be read", n, uint64(first)*c.regionSize, c.regionEnd(first))
}

// flushBatch is how many regions are copied, or in how much time some are, before
// the target is flushed and its map forgets them, so that a copy that is cut off
// goes on from there.
const (
	flushBatch = 64
	flushEvery = time.Second
)

// flushCopied flushes a target when enough was copied to it, or all.
func (c *Core) flushCopied(i Leg) {
	l := &c.legs[i]
	if l.role != Target || l.flushing || c.held() || c.stopping {
		return
	}
	all := len(l.copied) == l.lack.Count() && len(l.jobs) == 0
	if len(l.copied) == 0 || len(l.copied) < flushBatch && !all && c.now < l.flushAt {
		return
	}
	l.flushing, l.flushed, l.flushAt = true, slices.Clone(l.copied), c.now+flushEvery
	c.enqueue(&IO{Op: syncOp, need: set(i), to: i, target: true})
	c.startWaiting()
}

// targetFlushed has the map of a target forget what was copied and flushed.
func (c *Core) targetFlushed(i Leg, r Result) {
	l := &c.legs[i]
	if l.role != Target || !l.flushing {
		return
	}
	l.flushing = false
	if r != OK {
		return
	}
	if l.settling {
		l.whole = true
		return
	}
	for _, reg := range l.flushed {
		if i := slices.Index(l.copied, reg); i >= 0 {
			l.lack.Clear(reg)
			l.copied = slices.Delete(l.copied, i, i+1)
		}
	}
	l.pages.touch()
	c.write(l.lack, &l.pages, set(i), true)
}

// join has targets that lack nothing become part of D: new writes wait for them,
// older ones are let end, all is flushed, the intent map is on them, and then
// labels say so.
func (c *Core) join() {
	for i := range c.legs {
		l := &c.legs[i]
		if l.role != Target || !l.attached || l.drained || c.held() || c.stopping || c.repair.Count() > 0 {
			continue
		}
		if !l.settling {
			if l.lack.Count() > 0 || !l.pages.settled() || l.flushing || len(l.jobs) > 0 {
				continue
			}
			l.settling = true
			c.pages.touch()
			c.writeIntent()
		}
		if c.cfg.Break == NoJoining {
			l.ready = true
		}
		older := slices.ContainsFunc(c.running, func(io *IO) bool {
			return io.stage >= writing && io.access == changes && !io.Own() && !io.need.Has(Leg(i))
		})
		switch {
		case older || l.flushing:
		case !l.whole:
			l.flushing = true
			c.enqueue(&IO{Op: syncOp, need: set(Leg(i)), to: Leg(i), target: true})
			c.startWaiting()
		case c.pages.settled():
			l.drained, c.relabel = true, true
			c.nextLabel()
		}
	}
}

// Stop ends the mirror's service: I/O that waits ends with Path, and labels say
// that it is clean, if it is.
func (c *Core) Stop() {
	c.stopping = true
	c.StopScrub()
	for _, io := range slices.Clone(c.waiting) {
		c.end(io, Path)
	}
	c.pump()
}

// clean reports that nothing is to be repaired after the end that is coming.
func (c *Core) clean() bool { return c.stopping && c.intent.Count() == 0 && c.pages.settled() }

// stop goes on with Stop when I/O has ended.
func (c *Core) stop() {
	if !c.stopping || c.stopped {
		return
	}
	if c.held() { // what waits for a leg waits in vain
		for _, io := range slices.Concat(c.waiting, c.running) {
			if io.pend == 0 {
				c.end(io, Path)
			}
		}
	}
	if len(c.running)+len(c.waiting) > 0 || c.labels.pend != 0 {
		return
	}
	switch {
	case c.held() || c.repair.Count() > 0 || !c.mayClear():
		c.stopped = true
		c.do(Action{Kind: Stopped})
	case c.intent.Count() > 0 && c.clear.regions == nil:
		for r := c.intent.Next(0); r >= 0; r = c.intent.Next(r + 1) {
			c.clear.regions = append(c.clear.regions, r)
		}
		c.flushToClear()
	case c.clean():
		c.relabel = true
		c.nextLabel()
	}
}
