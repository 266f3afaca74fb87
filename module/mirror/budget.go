package mirror

import (
	"math"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// budget is what all mirrors of a node may copy together, a core.Budget: a bucket
// that holds a second's worth.
type budget struct {
	mu     sync.Mutex
	rate   uint64 // bytes per second; 0: no bound
	tokens float64
	filled time.Time
}

// Left implements core.Budget.
func (b *budget) Left() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == 0 {
		return math.MaxInt64
	}
	b.fill(time.Now())
	return int64(b.tokens)
}

func (b *budget) fill(now time.Time) {
	b.tokens = min(b.tokens+float64(b.rate)*now.Sub(b.filled).Seconds(), float64(b.rate))
	b.filled = now
}

// Spend implements core.Budget.
func (b *budget) Spend(bytes uint64) {
	b.mu.Lock()
	b.tokens -= float64(bytes)
	b.mu.Unlock()
}

func (b *budget) set(rate uint64) {
	b.mu.Lock()
	b.rate, b.tokens, b.filled = rate, 0, time.Now()
	b.mu.Unlock()
}

// SetCopyRate bounds how many bytes per second all mirrors copy together, beside
// the bound of each; 0: no bound.
func (m *Module) SetCopyRate(rate uint64) { m.budget.set(rate) }

// turn returns the mirrors, each time another first, so that all have their share
// of what may be copied.
func (m *Module) turn() []*Mirror {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.mirrors)
	if n == 0 {
		return nil
	}
	m.first = (m.first + 1) % n
	return append(append([]*Mirror(nil), m.mirrors[m.first:]...), m.mirrors[:m.first]...)
}

// Reasons are the keys of Stats.Drops.
var Reasons = core.Reasons

// Stats is what a node's mirrors are and have done.
type Stats struct {
	core.Counters
	Mirrors int
	Waiting int            // mirrors that serve no I/O now
	Legs    map[string]int // by role; lost ones under "lost"
	Lack    uint64         // bytes that targets lack
	Repair  uint64         // bytes in which legs may differ
}

// Stats adds up all mirrors, and for counters those that are gone.
func (m *Module) Stats() Stats {
	s := Stats{Legs: map[string]int{"member": 0, "joining": 0, "target": 0, "absent": 0, "lost": 0}}
	m.mu.Lock()
	s.Counters.Add(m.counted)
	mirrors := append([]*Mirror(nil), m.mirrors...)
	m.mu.Unlock()
	for _, x := range mirrors {
		s.Counters.Add(x.counters())
		st := x.Status()
		s.Mirrors++
		if !st.Online {
			s.Waiting++
		}
		s.Repair += st.Repair
		for _, l := range st.Legs {
			role := l.Role
			if l.Lost {
				role = "lost"
			}
			s.Legs[role]++
			s.Lack += l.Lack
		}
	}
	return s
}

func (m *Mirror) counters() (n core.Counters) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n.Add(m.counted)
	if m.core != nil {
		n.Add(m.core.Counters())
	}
	return n
}
