package cn

import (
	"context"
	"sync"
)

// gate bounds the connections that are being made at once: all together, and those to
// one data plane, so that one that hangs does not keep connections to others from being
// made. Safe for concurrent use.
type gate struct {
	all  chan struct{} // a token for each
	most int           // to one data plane

	mu sync.Mutex
	to map[string]*entrance // by address
}

// entrance is that to one data plane.
type entrance struct {
	tokens chan struct{}
	users  int // that have a token or wait for one
}

// The bounds of an agent: four data planes that hang leave no token to others.
const (
	maxAttaching   = 64
	maxAttachingTo = 16
)

func newGate(all, most int) *gate {
	return &gate{all: make(chan struct{}, all), most: most, to: map[string]*entrance{}}
}

// enter waits for a turn to connect to an address; leave gives it back. The error is
// ctx's cause.
func (g *gate) enter(ctx context.Context, to string) (leave func(), err error) {
	g.mu.Lock()
	e := g.to[to]
	if e == nil {
		e = &entrance{tokens: make(chan struct{}, g.most)}
		g.to[to] = e
	}
	e.users++
	g.mu.Unlock()
	// That to the one data plane comes first: what waits there holds up nobody else.
	select {
	case e.tokens <- struct{}{}:
	case <-ctx.Done():
		g.leave(to, e)
		return nil, context.Cause(ctx)
	}
	select {
	case g.all <- struct{}{}:
		return func() {
			<-g.all
			<-e.tokens
			g.leave(to, e)
		}, nil
	case <-ctx.Done():
		<-e.tokens
		g.leave(to, e)
		return nil, context.Cause(ctx)
	}
}

// leave forgets an address that nobody connects to.
func (g *gate) leave(to string, e *entrance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(g.to, to)
	}
}
