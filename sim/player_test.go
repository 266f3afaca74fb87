//go:build !race

// Stories run without the race detector, under which they take minutes; seeds show
// it the same code.

package sim

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// player tells a story: it is the host of the first array, the machines, and the
// administrator.
type player struct {
	s      *sim
	h      *host
	number uint64          // of the last write
	stuck  bool            // what the story waits for never came: the rest is left out
	left   map[uint64]bool // blocks whose last write was not acknowledged
	cached []cached

	mu   sync.Mutex
	rule map[string]func(a planetest.Access) planetest.Fate
}

// play simulates a story, told to so many dns and cns.
func play(t *testing.T, cfg Config, dns, cns int, tell func(p *player)) *Outcome {
	t.Helper()
	st := story{}
	if cfg.story != nil {
		st = *cfg.story
	}
	st.dns, st.cns = dns, cns
	st.tell = func(s *sim) {
		p := &player{s: s, h: s.hosts[0], number: 1000, left: map[uint64]bool{}, rule: map[string]func(planetest.Access) planetest.Fate{}}
		s.setGate(p.meets)
		tell(p)
		p.end()
	}
	cfg.Seed, cfg.story = 1, &st
	return run(t, cfg)
}

// end lets everything be well, and has the host write once more what it does not
// know to be there.
func (p *player) end() {
	p.mu.Lock()
	clear(p.rule)
	p.mu.Unlock()
	p.s.hookCommits(nil)
	for _, d := range p.s.daemons {
		d.hang(false)
		d.start()
	}
	p.s.log.printf("the story is over")
	for block := range p.left {
		p.write(block)
	}
}

func (p *player) meets(a planetest.Access) planetest.Fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	fate := planetest.Serve
	for _, f := range p.rule {
		fate = max(fate, f(a))
	}
	return fate
}

// when has commands that f describes meet a fate at their disks, until the func
// that it returns is called.
func (p *player) when(name string, fate planetest.Fate, f func(a planetest.Access) bool) (undo func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule[name] = func(a planetest.Access) planetest.Fate {
		if f(a) {
			return fate
		}
		return planetest.Serve
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.rule, name)
	}
}

// patience is how long a story waits for what must come, in fake time.
const patience = 10 * time.Minute

// until waits for something.
func (p *player) until(what string, ok func() bool) {
	for begun := time.Now(); !p.stuck && !ok(); {
		since := time.Since(begun)
		switch {
		case since > patience:
			p.stuck = true
			p.s.ledger.Wrong("the story stands still: it waits until %s", what)
		case since < 100*time.Millisecond:
			time.Sleep(time.Millisecond)
		case since < 10*time.Second:
			time.Sleep(10 * time.Millisecond)
		default:
			time.Sleep(100 * time.Millisecond)
		}
	}
	p.s.log.printf("STORY %s", what)
}

func (p *player) pass(d time.Duration) {
	if !p.stuck {
		time.Sleep(d)
	}
}

// attempt is a command of the host's that is under way.
type attempt struct {
	number uint64
	done   chan struct{}
	ok     bool
}

func (a *attempt) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// begin sends a write of the next number once: nobody sends it again.
func (p *player) begin(block uint64) *attempt {
	return p.send(block, func(cmd planetest.Command) bool {
		_, _, ok := p.h.try(cmd, 1)
		return ok
	})
}

// beginAt is begin on the path to a certain cn.
func (p *player) beginAt(n *simNode, block uint64) *attempt {
	return p.send(block, func(cmd planetest.Command) bool {
		p.h.mu.Lock()
		at := p.h.paths[n.machine+":"+cnSvc]
		p.h.mu.Unlock()
		_, status := at.link.Submit(cmd)
		return status == planetest.OK
	})
}

func (p *player) send(block uint64, try func(cmd planetest.Command) bool) *attempt {
	p.mu.Lock()
	p.number++
	a := &attempt{number: p.number, done: make(chan struct{})}
	p.mu.Unlock()
	p.left[block] = true
	p.h.work.Go(func() {
		defer close(a.done)
		a.ok = try(planetest.Command{Write: true, Off: p.h.off(block), Value: a.number})
	})
	return a
}

// watch returns a func that reports that a write of a number has come to a disk.
func (p *player) watch(number uint64) func() bool {
	came := false
	p.when("watch", planetest.Serve, func(a planetest.Access) bool {
		came = came || a.Write && a.Number == number
		return false
	})
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return came
	}
}

// moves is how often disks have admitted another primary.
func (p *player) moves() int {
	_, c := p.s.ledger.Verdict()
	return c.Moves
}

// write writes until the array has acknowledged it.
func (p *player) write(block uint64) {
	if p.stuck {
		return
	}
	p.mu.Lock()
	p.number++
	p.mu.Unlock()
	number, done := p.number, make(chan bool, 1)
	p.h.work.Go(func() {
		_, n := p.h.do(planetest.Command{Write: true, Off: p.h.off(block), Value: number})
		done <- n > 0
	})
	p.until("a write ends", func() bool {
		select {
		case ok := <-done:
			if ok {
				delete(p.left, block)
				p.s.ledger.Ack(p.h.array, block, number)
			}
			return true
		default:
			return false
		}
	})
}

// read reads a block so many times at once.
func (p *player) read(block uint64, times int) {
	if p.stuck {
		return
	}
	floor := p.s.ledger.Floor(p.h.array, block)
	values := make(chan uint64, times)
	for range times {
		p.h.work.Go(func() {
			if v, n := p.h.do(planetest.Command{Off: p.h.off(block)}); n > 0 {
				values <- v
			}
		})
	}
	p.until("reads end", func() bool { return len(values) == times })
	for range len(values) {
		p.s.ledger.Glimpsed(p.h.array, block, floor, <-values)
	}
}

// view looks at the database.
func (p *player) view(f func(tx store.Reader) error) {
	if err := p.s.db.View(context.Background(), f); err != nil {
		p.s.log.printf("STORY the database says: %v", err)
	}
}

// leg is a vd of the first array, and the dn that it is on.
type leg struct {
	vda.VD
	dn *simNode
}

// legs are those of the first array's mirrors, in the order of SQL.
func (p *player) legs() (legs []leg) {
	p.view(func(tx store.Reader) error {
		legs = nil
		da, err := tx.DAByName(p.h.array)
		if err != nil {
			return err
		}
		vds, err := tx.VDsOfDA(da.ID)
		if err != nil {
			return err
		}
		for _, vd := range vds {
			if vd.Deleted {
				continue
			}
			dn, err := tx.DN(vd.DNID)
			if err != nil {
				return err
			}
			legs = append(legs, leg{vd, p.s.nodeAt(dn.Listener.TrAddr)})
		}
		return nil
	})
	return legs
}

func (s *sim) nodeAt(machine string) *simNode {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.machine == machine })]
}

// gone is the role of a vd that SQL has no more.
const gone = vda.LegRole(255)

// role is what SQL says of a vd.
func (p *player) role(id string) vda.LegRole {
	for _, l := range p.legs() {
		if l.ID == id {
			return l.Role
		}
	}
	return gone
}

// primary is the cn that SQL calls the first array's primary.
func (p *player) primary() *simNode { return p.primaryOf(p.h.array) }

// primaryOf is the cn that SQL calls an array's primary.
func (p *player) primaryOf(array string) (n *simNode) {
	p.view(func(tx store.Reader) error {
		da, err := tx.DAByName(array)
		if err != nil {
			return err
		}
		cntlrs, err := tx.CntlrsOfDA(da.ID)
		if err != nil {
			return err
		}
		for _, c := range cntlrs {
			if c.Primary {
				cn, err := tx.CN(c.CNID)
				if err != nil {
					return err
				}
				n = p.s.nodeAt(cn.Listener.TrAddr)
			}
		}
		return nil
	})
	return n
}

// kill kills machines' programs at once; revive starts them again.
func (p *player) kill(ns ...*simNode) {
	for _, n := range ns {
		p.s.log.printf("STORY %s is killed", n.name)
		n.plane.kill()
		n.agent.kill()
	}
	time.Sleep(time.Microsecond) // the model hears of it
}

func (p *player) revive(ns ...*simNode) {
	for _, n := range ns {
		p.s.log.printf("STORY %s starts", n.name)
		n.plane.start()
		n.agent.start()
	}
}

// cut cuts what one machine sends to another.
func (p *player) cut(from, to *simNode) (heal func()) {
	p.s.log.printf("STORY what %s sends to %s is lost", from.name, to.name)
	return p.s.net.Cut(from.machine, to.machine)
}

// has reports that a number is on a leg's disk.
func (p *player) has(l leg, number uint64) bool { return p.s.planes.Has(l.ID, number) }

// drop has a leg's dn die, a write meet that, and SQL drop the leg.
func (p *player) drop(l leg) {
	p.kill(l.dn)
	p.write(7)
	p.until("the leg is dropped", func() bool { return p.role(l.ID) == vda.Stale })
}

// joins waits until a leg is a member.
func (p *player) joins(l leg) {
	p.until("the leg is a member", func() bool { return p.role(l.ID) == vda.Member })
}

// moved waits until the primary is on another cn.
func (p *player) moved(from *simNode) {
	p.until("another cn is primary", func() bool { return p.primary() != from })
}

// other is the cn that is not the primary, of two.
func (p *player) other() *simNode {
	cns := p.s.of("cn")
	return cns[1-slices.Index(cns, p.primary())]
}

// isolate cuts a machine off from all others but some, both ways.
func (p *player) isolate(n *simNode, but ...string) (heal func()) {
	p.s.log.printf("STORY %s is cut off, but from %v", n.name, but)
	return p.s.part(n.machine, slices.DeleteFunc(p.s.machines(), func(m string) bool { return slices.Contains(but, m) }))
}

const hostMachine = "10.0.3.1"

// readAt reads a block on the path to a certain cn, once.
func (p *player) readAt(n *simNode, block uint64) {
	p.h.mu.Lock()
	at := p.h.paths[n.machine+":"+cnSvc]
	p.h.mu.Unlock()
	floor := p.s.ledger.Floor(p.h.array, block)
	if v, status := at.link.Submit(planetest.Command{Off: p.h.off(block)}); status == planetest.OK {
		p.s.ledger.Glimpsed(p.h.array, block, floor, v)
	}
}

// keepReading has a block read all the time at a certain cn, until the func that it
// returns is called.
func (p *player) keepReading(n *simNode, block uint64) (stop func()) {
	over := make(chan struct{})
	p.h.work.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
				p.readAt(n, block)
			}
		}
	})
	return func() { close(over) }
}

// waits fails the run when a command ends well within so much time.
func (p *player) waits(why string, a *attempt, d time.Duration) {
	if p.pass(d); a.over() && a.ok && !p.stuck {
		p.s.ledger.Wrong("%s, and a write is acknowledged", why)
	}
}

// must notes that an administrator is refused what should be done.
func (p *player) must(what string, info *apiv1.ReplyInfo, err error) {
	if err := replied(info, err); err != nil {
		p.s.ledger.Wrong("%s: %v", what, err)
	}
	p.s.log.printf("STORY %s", what)
}

// volatile writes what may stay in write caches: it counts from the next flush on.
func (p *player) volatile(block uint64) {
	a := p.send(block, func(cmd planetest.Command) bool {
		cmd.Volatile = true
		_, n := p.h.do(cmd)
		return n > 0
	})
	p.until("a write to caches ends", a.over)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cached = append(p.cached, cached{block, a.number})
}

type cached struct{ block, number uint64 }

// flush makes durable what was written to caches.
func (p *player) flush() {
	a := &attempt{done: make(chan struct{})}
	p.h.work.Go(func() {
		defer close(a.done)
		_, n := p.h.do(planetest.Command{Flush: true})
		a.ok = n > 0
	})
	p.until("a flush ends", a.over)
	for _, c := range p.cached {
		delete(p.left, c.block)
		p.s.ledger.Ack(p.h.array, c.block, c.number)
	}
	p.cached = nil
}

// blackout has dns lose power for a moment, and their disks all that is in their caches.
func (p *player) blackout(ns ...*simNode) {
	p.kill(ns...)
	for _, n := range ns {
		lost := p.s.planes.LosePower(p.s.disk(n), func() bool { return true })
		p.s.log.printf("STORY %s loses %d blocks from its write cache", n.name, lost)
	}
	p.revive(ns...)
}

// anyLeg reports that f holds for a vd of an array.
func (p *player) anyLeg(array string, f func(vd *vda.VD) bool) (found bool) {
	p.view(func(tx store.Reader) error {
		found = false
		da, err := tx.DAByName(array)
		if err != nil {
			return err
		}
		vds, err := tx.VDsOfDA(da.ID)
		for i := range vds {
			found = found || f(&vds[i])
		}
		return err
	})
	return found
}

// legsOn are the first array's legs on a dn.
func (p *player) legsOn(n *simNode) []leg {
	return slices.DeleteFunc(p.legs(), func(l leg) bool { return l.dn != n })
}

// all reports that legs have a role now.
func (p *player) all(legs []leg, role vda.LegRole) bool {
	for _, l := range legs {
		if p.role(l.ID) != role {
			return false
		}
	}
	return len(legs) > 0
}
