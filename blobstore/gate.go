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
// waits until the old one runs dry. A request that meets the flip between
// reading the phase and counting itself takes back its count and tries again.
type gate struct {
	state    atomic.Uint32 // gatePhase, gateFrozen
	inflight [2]struct {
		n atomic.Int64
		_ [56]byte // a cache line each
	}

	mu     sync.Mutex
	parked []*bdev.Request // arrived while frozen
	frozen int             // freezes not yet thawed; guarded by Store.md
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
	g.frozen++
	if g.frozen > 1 {
		return
	}
	old := g.state.Load()
	g.state.Store((old ^ gatePhase) | gateFrozen)
	g.dry(old & gatePhase)
}

// thaw undoes one freeze and returns the requests to submit again.
func (g *gate) thaw() []*bdev.Request {
	g.frozen--
	if g.frozen > 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Store(g.state.Load() &^ gateFrozen)
	parked := g.parked
	g.parked = nil
	return parked
}

func (g *gate) dry(phase uint32) {
	for i := 0; g.inflight[phase].n.Load() != 0; i++ {
		if i < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(min(time.Duration(i-99)*10*time.Microsecond, time.Millisecond))
		}
	}
}
