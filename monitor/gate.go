package monitor

import (
	"context"
	"slices"
	"sync"
)

// gate bounds the Syncs under way, so that heartbeats come first: half as many while the
// monitor is held up, and twice as many again while it is not. It begins with few. Those
// that bring something new pass before those that are only due. Safe for concurrent use.
type gate struct {
	most int

	mu      sync.Mutex
	limit   int // of now
	used    int
	waiting [2][]chan struct{} // first come, first served; those that are due wait in the second
}

// gateStart is how many Syncs may be under way in a monitor that has just begun.
const gateStart = 8

func newGate(most int) *gate { return &gate{most: most, limit: min(most, gateStart)} }

// enter waits for a place, which leave gives back; the error is ctx's.
func (g *gate) enter(ctx context.Context, due bool) error {
	g.mu.Lock()
	if g.used < g.limit && len(g.waiting[0]) == 0 && (!due || len(g.waiting[1]) == 0) {
		g.used++
		g.mu.Unlock()
		return nil
	}
	line := 0
	if due {
		line = 1
	}
	turn := make(chan struct{})
	g.waiting[line] = append(g.waiting[line], turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting[line], turn); i >= 0 {
		g.waiting[line] = slices.Delete(g.waiting[line], i, i+1)
	} else { // its turn came at the last moment
		g.used--
		g.serve()
	}
	return ctx.Err()
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used--
	g.serve()
}

// adjust makes room, or lets more in.
func (g *gate) adjust(heldUp bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if heldUp {
		g.limit = max(g.limit/2, 1)
	} else {
		g.limit = min(2*g.limit, g.most)
	}
	g.serve()
}

// serve lets in who may; g.mu is held.
func (g *gate) serve() {
	for line := range g.waiting {
		for len(g.waiting[line]) > 0 && g.used < g.limit {
			close(g.waiting[line][0])
			g.waiting[line] = g.waiting[line][1:]
			g.used++
		}
	}
}

// now is how many Syncs are under way, and how many may be.
func (g *gate) now() (used, limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used, g.limit
}
