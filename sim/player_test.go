package sim

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/store"
)

// player tells a story: it is the host of the first array, the machines, and the
// administrator.
type player struct {
	s      *sim
	h      *host
	number uint64 // of the last write
	stuck  bool   // what the story waits for never came: the rest is left out
	left   map[uint64]bool

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
		case since < 5*time.Second:
			time.Sleep(time.Millisecond)
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
func (p *player) primary() (n *simNode) {
	p.view(func(tx store.Reader) error {
		da, err := tx.DAByName(p.h.array)
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
