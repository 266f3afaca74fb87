// Package simnet is a network of machines and the processes on them in one Go
// process, for use in a bubble of testing/synctest: connections are net.Conn
// that take fake time, and faults happen to links, machines and processes
// while real code talks over them.
//
//   - A link that is cut loses what is sent, silently and one way, until it
//     heals; what TCP still has to send gets through then.
//   - A connection keeps its order, so a message that is lost holds up those
//     behind it.
//   - A process that is killed resets its connections and closes its ports; a
//     machine without power does neither.
//   - A process that hangs stops at its next gate; its connections stay.
package simnet

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Network says what happens to a message from one machine to another. Faults
// are set on it while messages travel. Safe for concurrent use.
type Network struct {
	mu        sync.Mutex
	rng       *rand.Rand
	changed   chan struct{}        // closed and made again at every change
	cuts      map[link]int         // one-way; counts the faults that cut it
	off       map[string]int       // machines without power
	loss      map[string]float64   // by machine: the part of its messages that get lost once
	slow      map[string]float64   // by machine: how many times longer its messages take
	freed     map[link]time.Time   // when the last cut of a link healed
	listeners map[string]*listener // by address and port
	conns     map[*end]bool
}

type link struct{ from, to string }

// latency of a message on a healthy network.
const latency = 200 * time.Microsecond

// rto is the time after which a lost message is sent again; each time doubles.
const rto = 200 * time.Millisecond

// New returns a healthy network, whose seed decides how long messages take and
// which get lost.
func New(seed uint64) *Network {
	return &Network{rng: rand.New(rand.NewPCG(seed, 1)), changed: make(chan struct{}), cuts: map[link]int{}, off: map[string]int{},
		loss: map[string]float64{}, slow: map[string]float64{}, freed: map[link]time.Time{}, listeners: map[string]*listener{},
		conns: map[*end]bool{}}
}

// change makes a fault, or ends it, and has all that wait look again.
func (n *Network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// Cut makes a link lose everything, one way, until the func returned is
// called.
func (n *Network) Cut(from, to string) (heal func()) {
	l := link{from, to}
	n.change(func() { n.cuts[l]++ })
	return func() { n.change(func() { n.cuts[l]--; n.freed[l] = time.Now() }) }
}

// Power turns a machine's network off, or on again.
func (n *Network) Power(machine string, on bool) {
	n.change(func() {
		if n.off[machine]++; on {
			n.off[machine] -= 2
		}
	})
}

// Lose makes messages from and to a machine get lost once, with probability
// part, until the func returned is called.
func (n *Network) Lose(machine string, part float64) (heal func()) {
	n.change(func() { n.loss[machine] = part })
	return func() { n.change(func() { delete(n.loss, machine) }) }
}

// Slow makes messages from and to machines take so many times longer, until the
// func returned is called.
func (n *Network) Slow(times float64, machines ...string) (heal func()) {
	n.change(func() {
		for _, m := range machines {
			n.slow[m] = times
		}
	})
	return func() {
		n.change(func() {
			for _, m := range machines {
				delete(n.slow, m)
			}
		})
	}
}

// Between draws a duration from min up to max.
func (n *Network) Between(min, max time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return min + time.Duration(n.rng.Int64N(int64(max-min)))
}

// Path is how long a message takes now; false while it does not get through.
func (n *Network) Path(from, to string) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pathLocked(from, to)
}

func (n *Network) pathLocked(from, to string) (time.Duration, bool) {
	d := time.Duration((0.5 + n.rng.Float64()) * float64(latency))
	if from == to {
		return d / 4, n.openLocked(from, to)
	}
	for _, m := range []string{from, to} {
		if f := n.slow[m]; f > 1 {
			d = time.Duration(float64(d) * f)
		}
	}
	for again, p := rto, max(n.loss[from], n.loss[to]); p > 0 && n.rng.Float64() < p && again < 10*time.Second; again *= 2 {
		d += again
	}
	return d, n.openLocked(from, to)
}

// Travel returns when a message has got from one machine to another, or with
// ctx's error when ctx ends before it can set out.
func (n *Network) Travel(ctx context.Context, from, to string) error {
	for {
		n.mu.Lock()
		d, ok := n.pathLocked(from, to)
		changed := n.changed
		n.mu.Unlock()
		if ok {
			time.Sleep(d)
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Open reports that messages get through.
func (n *Network) Open(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.openLocked(from, to)
}

func (n *Network) openLocked(from, to string) bool {
	return n.cuts[link{from, to}] == 0 && n.off[from] == 0 && n.off[to] == 0
}
