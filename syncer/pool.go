package syncer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
)

// Dialer gives clients of agents.
type Dialer interface {
	Dn(at vda.At) (apiv1.DnAgentClient, error)
	Cn(at vda.At) (apiv1.CnAgentClient, error)
}

// Pool is a Dialer that keeps one connection per agent. Connections are made
// when first used and again by themselves when lost; an idle one is closed.
// Safe for concurrent use.
type Pool struct {
	cfg rpc.DialConfig

	mu    sync.Mutex
	conns map[vda.At]*grpc.ClientConn
}

// NewPool returns an empty pool that dials as cfg says, with room for an
// agent's messages.
func NewPool(cfg rpc.DialConfig) *Pool {
	cfg.MaxMessage = rpc.MaxAgentMessage
	return &Pool{conns: map[vda.At]*grpc.ClientConn{}, cfg: cfg}
}

// Dn implements Dialer.
func (p *Pool) Dn(at vda.At) (apiv1.DnAgentClient, error) {
	c, err := p.conn(at)
	if err != nil {
		return nil, err
	}
	return apiv1.NewDnAgentClient(c), nil
}

// Cn implements Dialer.
func (p *Pool) Cn(at vda.At) (apiv1.CnAgentClient, error) {
	c, err := p.conn(at)
	if err != nil {
		return nil, err
	}
	return apiv1.NewCnAgentClient(c), nil
}

// Monitor gives a client of a monitor by where it serves.
func (p *Pool) Monitor(addr string) (apiv1.MonitorClient, error) {
	c, err := p.conn(vda.MonitorAt(addr))
	if err != nil {
		return nil, err
	}
	return apiv1.NewMonitorClient(c), nil
}

// Program gives a client of what every daemon answers.
func (p *Pool) Program(at vda.At) (apiv1.ProgramClient, error) {
	c, err := p.conn(at)
	if err != nil {
		return nil, err
	}
	return apiv1.NewProgramClient(c), nil
}

func (p *Pool) conn(at vda.At) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return nil, vda.Errorf(vda.Unavailable, "shutting down")
	}
	if c, ok := p.conns[at]; ok {
		return c, nil
	}
	cfg := p.cfg
	if cfg.Identity != nil {
		cfg.Server = memberAt(at)
	}
	c, err := rpc.Dial(at.Addr, cfg)
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument, "%q is not an agent address: %s", at.Addr, reason.Full(err))
	}
	p.conns[at] = c
	return c, nil
}

// memberAt lets the member pass that is at a place. A node that has a name beside its address may have a
// certificate of either: that of its name is good wherever its agent is.
func memberAt(at vda.At) func(pki.Name) error {
	return func(n pki.Name) error {
		if n.Kind == at.Kind && (n.Name == at.Name || n.Name == at.Addr) {
			return nil
		}
		return fmt.Errorf("%s answers at %s, where %s %s must", n, at.Addr, at.Kind, at.Name)
	}
}

// WaitLost returns true when the connection to an agent, which it may first
// have to wait for, has broken, and false when ctx ended.
func (p *Pool) WaitLost(ctx context.Context, at vda.At) bool {
	for ctx.Err() == nil {
		c, err := p.conn(at)
		if err != nil {
			return false
		}
		lost, closed := WaitLost(ctx, c)
		if !closed {
			return lost
		}
		// The node went and came back under its name.
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return false
}

// WatchDataPlane calls changed whenever an agent says that its data plane was
// lost or is back, or that a heartbeat would bring something that cannot wait,
// until ctx ends: the agent's own health service tells it without being asked.
// changed may be called from two goroutines at once.
func (p *Pool) WatchDataPlane(ctx context.Context, at vda.At, service string, changed func()) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.watchService(ctx, at, service+rpc.NewsSuffix, changed) })
	p.watchService(ctx, at, service, changed)
}

func (p *Pool) watchService(ctx context.Context, at vda.At, service string, changed func()) {
	for ctx.Err() == nil {
		if c, err := p.conn(at); err == nil {
			watchHealth(ctx, c, service, changed)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// watchHealth returns when the connection has broken.
func watchHealth(ctx context.Context, c *grpc.ClientConn, service string, changed func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := healthv1.NewHealthClient(c).Watch(ctx, &healthv1.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	for err == nil {
		if _, err = stream.Recv(); err == nil {
			changed()
		}
	}
}

// WaitLost waits for one connection to break; closed says that it was closed
// on purpose.
func WaitLost(ctx context.Context, c *grpc.ClientConn) (lost, closed bool) {
	for {
		s := c.GetState()
		if s == connectivity.Shutdown {
			return false, true
		}
		if !c.WaitForStateChange(ctx, s) {
			return false, false
		}
		if s == connectivity.Ready {
			now := c.GetState()
			return now != connectivity.Shutdown, now == connectivity.Shutdown
		}
	}
}

// Keep closes the connections to all agents but those named: nodes come and
// go.
func (p *Pool) Keep(places map[vda.At]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, c := range p.conns {
		if !places[at] {
			c.Close() // a call under way ends with Canceled
			delete(p.conns, at)
		}
	}
}

// Close closes all connections.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
	return nil
}
