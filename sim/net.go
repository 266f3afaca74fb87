package sim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// network says what happens to a message from one machine to another. Faults
// are set on it while messages travel.
type network struct {
	mu        sync.Mutex
	rng       *rand.Rand
	changed   chan struct{}        // closed and made anew at every change
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

func newNetwork(seed uint64) *network {
	return &network{rng: rand.New(rand.NewPCG(seed, 1)), changed: make(chan struct{}), cuts: map[link]int{}, off: map[string]int{},
		loss: map[string]float64{}, slow: map[string]float64{}, freed: map[link]time.Time{}, listeners: map[string]*listener{}, conns: map[*end]bool{}}
}

// change makes a fault, or ends it, and has all that wait look again.
func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// cut makes a link lose everything, one way, until the func returned is
// called.
func (n *network) cut(from, to string) (heal func()) {
	l := link{from, to}
	n.change(func() { n.cuts[l]++ })
	return func() { n.change(func() { n.cuts[l]--; n.freed[l] = time.Now() }) }
}

// power turns a machine's network off, or on again.
func (n *network) power(machine string, on bool) {
	n.change(func() {
		if n.off[machine]++; on {
			n.off[machine] -= 2
		}
	})
}

// path is how long a message takes now; false while it does not get through.
func (n *network) path(from, to string) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pathLocked(from, to)
}

func (n *network) pathLocked(from, to string) (time.Duration, bool) {
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

// open reports that messages get through.
func (n *network) open(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.openLocked(from, to)
}

func (n *network) openLocked(from, to string) bool {
	return n.cuts[link{from, to}] == 0 && n.off[from] == 0 && n.off[to] == 0
}
