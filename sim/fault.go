package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// fault is one thing that goes wrong. What it hits has been drawn already, so
// that a seed's plan does not depend on how the run goes.
type fault struct {
	kind  string
	what  string // for the journal
	at    time.Duration
	lasts time.Duration
	begin func() (undo func())
}

// kind is a kind of fault.
type kind struct {
	weight int
	name   string
	draw   func(s *sim) (what string, begin func() (undo func()))
}

// kinds are all, by weight.
var kinds = []kind{
	{4, "cut", (*sim).drawCut},
	{3, "one-way cut", (*sim).drawOneWay},
	{3, "isolate", (*sim).drawIsolate},
	{2, "cut from control plane", (*sim).drawNoControl},
	{2, "loss", (*sim).drawLoss},
	{1, "slow network", (*sim).drawSlow},
	{1, "slow everything", (*sim).drawSlowAll},
	{6, "kill", (*sim).drawKill},
	{3, "kill node", (*sim).drawKillNode},
	{3, "power cut of a node", (*sim).drawPower},
	{6, "hang", (*sim).drawHang},
	{3, "hang node", (*sim).drawHangNode},
	{2, "database down", (*sim).drawDBDown},
	{1, "slow database", (*sim).drawDBSlow},
	{2, "slow disk", (*sim).drawDisk},
	{4, "planned switch", (*sim).drawSwitch},
	{2, "drain", (*sim).drawDrain},
	{3, "create and delete", (*sim).drawChurn},
	{1, "kill everything", (*sim).drawKillAll},
}

// plan draws the faults of a run, in the order of their times.
func (s *sim) plan() []fault {
	// Between calm runs and storms.
	mean := time.Duration(2+s.rng.IntN(6)) * time.Second
	all := slices.Concat(s.draw(kinds, mean), s.changePlan(), s.volumePlan(), s.securityPlan())
	slices.SortStableFunc(all, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return all
}

// draw draws what of some kinds happens, in the order of times that are mean apart.
func (s *sim) draw(kinds []kind, mean time.Duration) []fault {
	total := 0
	some := slices.Clone(kinds)
	if len(s.cfg.Kinds) > 0 {
		some = slices.DeleteFunc(some, func(k kind) bool { return !slices.Contains(s.cfg.Kinds, k.name) })
	}
	for _, k := range some {
		total += k.weight
	}
	var all []fault
	if total == 0 {
		return nil
	}
	for at := time.Duration(0); ; {
		at += time.Duration(s.rng.ExpFloat64() * float64(mean))
		if at >= s.cfg.Faults {
			return all
		}
		n := s.rng.IntN(total)
		k := some[slices.IndexFunc(some, func(k kind) bool {
			n -= k.weight
			return n < 0
		})]
		f := fault{kind: k.name, at: at, lasts: time.Duration(float64(time.Second) * (0.1 + s.rng.ExpFloat64()*5))}
		if s.rng.IntN(8) == 0 {
			f.lasts = time.Duration(15+s.rng.IntN(30)) * time.Second
		}
		if s.cfg.Long {
			f.lasts = time.Duration(20+s.rng.IntN(25)) * time.Second
		}
		f.what, f.begin = k.draw(s)
		all = append(all, f)
	}
}

// makeFaults carries the plan out and returns when the last fault has ended.
func (s *sim) makeFaults() {
	begun := time.Now()
	var running sync.WaitGroup
	for _, f := range s.plan() {
		time.Sleep(f.at - time.Since(begun))
		s.faults[f.kind]++
		s.log.printf("FAULT %s: %s, for %v", f.kind, f.what, f.lasts.Round(time.Millisecond))
		undo := f.begin()
		running.Go(func() {
			time.Sleep(f.lasts)
			undo()
			s.log.printf("FAULT %s: %s is over", f.kind, f.what)
		})
	}
	running.Wait()
	for _, d := range s.daemons { // one fault may have ended what another began
		d.hang(false)
		d.start()
	}
	s.log.printf("all faults are over")
}

// machines are all that can be parted.
func (s *sim) machines() []string {
	all := []string{dbMachine, portalMachine}
	for i := range 3 {
		all = append(all, fmt.Sprintf("10.0.0.%d", 11+i))
	}
	for _, n := range s.nodes {
		all = append(all, n.machine)
	}
	for i := range s.hosts {
		all = append(all, fmt.Sprintf("10.0.3.%d", i+1))
	}
	return all
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// two draws two machines, often two that talk to each other.
func (s *sim) two() (a, b string) {
	if s.rng.IntN(3) > 0 {
		a = pick(s.rng, s.of("cn")).machine
		others := slices.DeleteFunc(s.machines(), func(m string) bool { return m == a })
		return a, pick(s.rng, others)
	}
	a = pick(s.rng, s.machines())
	return a, pick(s.rng, slices.DeleteFunc(s.machines(), func(m string) bool { return m == a }))
}

func (s *sim) drawCut() (string, func() func()) {
	a, b := s.two()
	return a + " and " + b, func() func() { return both(s.net.Cut(a, b), s.net.Cut(b, a)) }
}

func both(fs ...func()) func() {
	return func() {
		for _, f := range fs {
			f()
		}
	}
}

func (s *sim) drawOneWay() (string, func() func()) {
	a, b := s.two()
	if s.rng.IntN(2) == 0 {
		a, b = b, a
	}
	return a + " to " + b, func() func() { return s.net.Cut(a, b) }
}

// part cuts a machine off from others, both ways.
func (s *sim) part(m string, others []string) func() {
	var heal []func()
	for _, o := range others {
		if o != m {
			heal = append(heal, s.net.Cut(m, o), s.net.Cut(o, m))
		}
	}
	return both(heal...)
}

func (s *sim) drawIsolate() (string, func() func()) {
	m := pick(s.rng, s.machines())
	return m, func() func() { return s.part(m, s.machines()) }
}

func (s *sim) drawNoControl() (string, func() func()) {
	m := pick(s.rng, s.nodes).machine
	return m, func() func() { return s.part(m, s.machines()[:5]) }
}

func (s *sim) drawLoss() (string, func() func()) {
	m, p := pick(s.rng, s.machines()), 0.02+0.3*s.rng.Float64()
	return fmt.Sprintf("%s loses %.0f %%", m, 100*p), func() func() {
		return s.net.Lose(m, p)
	}
}

func (s *sim) drawSlow() (string, func() func()) {
	m, f := pick(s.rng, s.machines()), float64(10+s.rng.IntN(1000))
	return fmt.Sprintf("%s %.0f times", m, f), func() func() {
		return s.net.Slow(f, m)
	}
}

func (s *sim) drawSlowAll() (string, func() func()) {
	f := float64(10 + s.rng.IntN(500))
	return fmt.Sprintf("%.0f times", f), func() func() {
		return s.net.Slow(f, s.machines()...)
	}
}

func (s *sim) drawDisk() (string, func() func()) {
	m, d := pick(s.rng, s.of("dn")).machine, time.Duration(5+s.rng.IntN(400))*time.Millisecond
	set := func(d time.Duration) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.disks[m] = d
	}
	return fmt.Sprintf("%s takes %v a command", m, d), func() func() {
		set(d)
		return func() { set(0) }
	}
}

func (s *sim) drawDBDown() (string, func() func()) {
	return "refuses", func() func() {
		s.db.set(true, 0)
		return func() { s.db.set(false, 0) }
	}
}

func (s *sim) drawDBSlow() (string, func() func()) {
	d := time.Duration(100+s.rng.IntN(3000)) * time.Millisecond
	return fmt.Sprint(d, " a transaction"), func() func() {
		s.db.set(false, d)
		return func() { s.db.set(false, 0) }
	}
}

// begin has f run, and what it returns wait for that.
func begin(f func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return func() { <-done }
}
