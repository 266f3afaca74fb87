package blobstore

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
)

// gate counts a blob's I/O in flight, so that metadata code can wait until no
// request uses a cluster any more, and can hold new requests back.
//
// Requests count themselves in one of two phases. A freeze flips the phase and
// waits until both run dry. A request that meets the flip between
// reading the phase and counting itself takes back its count and tries again.
type gate struct {
	state    atomic.Uint32 // gatePhase, gateFrozen
	inflight [2]struct {
		n atomic.Int64
		_ [56]byte // a cache line each
	}

	mu     sync.Mutex
	parked []*bdev.Request // arrived while frozen
	frozen int             // freezes not yet thawed
}

const (
	gatePhase  = 1
	gateFrozen = 2
)

// enter counts a request in and returns its phase; false while frozen.
func (g *gate) enter() (uint32, bool) {
	for {
		s := g.state.Load()
		if s&gateFrozen != 0 {
			return 0, false
		}
		g.inflight[s&gatePhase].n.Add(1)
		if g.state.Load() == s {
			return s & gatePhase, true
		}
		g.inflight[s&gatePhase].n.Add(-1)
	}
}

// leave counts a request out.
func (g *gate) leave(phase uint32) { g.inflight[phase].n.Add(-1) }

// park keeps r until the gate thaws; false when it has thawed already.
func (g *gate) park(r *bdev.Request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Load()&gateFrozen == 0 {
		return false
	}
	g.parked = append(g.parked, r)
	return true
}

// freeze holds new requests back and waits for those in flight.
func (g *gate) freeze() {
	g.shut()
	g.dry(time.Time{})
}

// freezeBy is freeze that gives up at a time: it undoes what it did and returns the
// requests to submit again.
func (g *gate) freezeBy(until time.Time) (parked []*bdev.Request, ok bool) {
	g.shut()
	if g.dry(until) {
		return nil, true
	}
	return g.thaw(), false
}

// shut holds new requests back.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen++
	if old := g.state.Load(); g.frozen == 1 {
		g.state.Store((old ^ gatePhase) | gateFrozen)
	}
}

// thaw undoes one freeze and returns the requests to submit again.
func (g *gate) thaw() []*bdev.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen--
	if g.frozen > 0 {
		return nil
	}
	g.state.Store(g.state.Load() &^ gateFrozen)
	parked := g.parked
	g.parked = nil
	return parked
}

// dry waits for the requests in flight while the gate is shut; zero: as long as it takes. It
// reports that there are none. Another may be waiting for the same ones.
func (g *gate) dry(until time.Time) bool {
	// Both phases: a freeze that was given up has left requests in the other one.
	for i := 0; g.inflight[0].n.Load() != 0 || g.inflight[1].n.Load() != 0; i++ {
		if i < 100 {
			runtime.Gosched()
			continue
		}
		if !until.IsZero() && !time.Now().Before(until) {
			return false
		}
		time.Sleep(min(time.Duration(i-99)*10*time.Microsecond, time.Millisecond))
	}
	return true
}
