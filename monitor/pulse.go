package monitor

import (
	"context"
	"sync"
	"time"
)

// A monitor whose machine has no processor to spare reads answers late. Whatever it then
// takes for a node's silence is its own. So heartbeats are timed by a clock that stands
// still while the monitor is held up, and a miss that met that is not counted as another.

const (
	// pulsePeriod is how often a monitor looks whether it is held up.
	pulsePeriod = 50 * time.Millisecond
	// pulseSlack is how late it may be for that without being held up.
	pulseSlack = 10 * time.Millisecond
)

// pulse measures for how long a monitor is held up. Safe for concurrent use.
type pulse struct {
	mu   sync.Mutex
	last time.Time     // when it beat
	held time.Duration // in all, until then
}

func newPulse(now time.Time) *pulse { return &pulse{last: now} }

// beat is to come once per pulsePeriod.
func (p *pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held += p.late(now)
	p.last = now
}

// late is how long a beat is overdue; p.mu is held.
func (p *pulse) late(now time.Time) time.Duration {
	if d := now.Sub(p.last) - pulsePeriod; d > pulseSlack {
		return d
	}
	return 0
}

// heldUp is for how long the monitor has been held up in all, a stop that still lasts
// included. The difference between two of them is for how long it was in between.
func (p *pulse) heldUp(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held + p.late(now)
}

// timeout calls fn when the monitor has run for limit, but for times in which it was held
// up: those are added, up to maxStretch times limit. stop ends it; it says whether fn was
// called.
func (p *pulse) timeout(limit time.Duration, fn func()) (stop func() bool) {
	var mu sync.Mutex
	var timer *time.Timer
	begin := time.Now()
	before := p.heldUp(begin)
	stopped, called := false, false
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		left := min(limit+p.heldUp(now)-before, maxStretch*limit) - now.Sub(begin)
		switch {
		case stopped:
		case left > 0:
			timer.Reset(left)
		default:
			called = true
			fn()
		}
	}
	mu.Lock()
	timer = time.AfterFunc(limit, look)
	mu.Unlock()
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
		return called
	}
}

// maxStretch bounds what being held up adds to a time-out.
const maxStretch = 4

// watchPulse beats, and has Syncs make room while the monitor is held up, until ctx ends.
func (m *Monitor) watchPulse(ctx context.Context) {
	tick := time.NewTicker(pulsePeriod)
	defer tick.Stop()
	adjusted := time.Now()
	before := m.pulse.heldUp(adjusted)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if m.hold != nil {
			m.hold()
		}
		now := time.Now()
		m.pulse.beat(now)
		if now.Sub(adjusted) < m.cfg.Timing.Period {
			continue
		}
		held := m.pulse.heldUp(now)
		m.metrics.held(held - before)
		m.gate.adjust(held-before > m.cfg.Timing.Period/10 || m.beatsSlow())
		adjusted, before = now, held
	}
}

// beatsSlow reports whether many of the heartbeats since it was last asked took more than
// half of their time: then the monitor, or the network at it, has more to do than it can.
func (m *Monitor) beatsSlow() bool {
	all, slow := m.beatsDone.Swap(0), m.beatsLate.Swap(0)
	return slow > 2 && slow*8 > all
}

// lenient is a context whose deadline is what servers are told; what ends it is something else.
type lenient struct {
	context.Context
	deadline time.Time
}

func (l lenient) Deadline() (time.Time, bool) { return l.deadline, true }
