// Package fakeagent is a cluster's agents without data planes, for tests of
// what talks to agents: they check versions and terms as real agents do, keep
// the desired set in memory, and fail as they are told to. A Cluster is a
// syncer.Dialer whose connections run over in-memory pipes, so it works
// inside a testing/synctest bubble.
package fakeagent

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/syncer"
)

// Cluster holds agents by address.
type Cluster struct {
	t      testing.TB
	mu     sync.Mutex
	agents map[string]*Agent
	conns  map[string]*grpc.ClientConn
	told   map[string]chan struct{} // by address: closed when a data plane breaks or is well again
	clock  int                      // counts the calls that agents got, over all of them
}

// New returns a cluster without agents that is closed with the test.
func New(t testing.TB) *Cluster {
	return &Cluster{t: t, agents: map[string]*Agent{}, conns: map[string]*grpc.ClientConn{}, told: map[string]chan struct{}{}}
}

// Close closes all connections and agents.
func (c *Cluster) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	for _, a := range c.agents {
		a.srv.Stop()
	}
}

// tick counts a call.
func (c *Cluster) tick() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	return c.clock
}

// Dn implements syncer.Dialer.
func (c *Cluster) Dn(addr string) (apiv1.DnAgentClient, error) {
	conn, err := c.conn(addr)
	return apiv1.NewDnAgentClient(conn), err
}

// Cn implements syncer.Dialer.
func (c *Cluster) Cn(addr string) (apiv1.CnAgentClient, error) {
	conn, err := c.conn(addr)
	return apiv1.NewCnAgentClient(conn), err
}

func (c *Cluster) conn(addr string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[addr]; conn != nil {
		return conn, nil
	}
	conn, err := rpc.Dial(addr, rpc.DialConfig{Connect: func(ctx context.Context, addr string) (net.Conn, error) {
		c.mu.Lock()
		a := c.agents[addr]
		c.mu.Unlock()
		if a == nil {
			return nil, errors.New("connection refused")
		}
		return a.lis.DialContext(ctx)
	}})
	c.conns[addr] = conn
	return conn, err
}

// WaitLost is syncer.Pool's.
func (c *Cluster) WaitLost(ctx context.Context, addr string) bool {
	conn, err := c.conn(addr)
	if err != nil {
		return false
	}
	lost, _ := syncer.WaitLost(ctx, conn)
	return lost
}

// WatchDataPlane is syncer.Pool's.
func (c *Cluster) WatchDataPlane(ctx context.Context, addr, _ string, changed func()) {
	for {
		c.mu.Lock()
		ch := c.told[addr]
		if ch == nil {
			ch = make(chan struct{})
			c.told[addr] = ch
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ch:
			changed()
		}
	}
}

func (c *Cluster) tell(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.told[addr]; ch != nil {
		close(ch)
		delete(c.told, addr)
	}
}

// Start makes an agent at an address. It belongs to no cluster yet.
func (c *Cluster) Start(addr string) *Agent {
	a := &Agent{cluster: c, addr: addr, lis: bufconn.Listen(1 << 16), srv: grpc.NewServer(), start: 1, plane: 1, capacity: 100, born: time.Now()}
	a.reset()
	apiv1.RegisterDnAgentServer(a.srv, a)
	apiv1.RegisterCnAgentServer(a.srv, cnServer{Agent: a})
	go a.srv.Serve(a.lis)
	c.mu.Lock()
	c.agents[addr] = a
	c.mu.Unlock()
	return a
}

// Agent returns the agent at an address, nil when there is none.
func (c *Cluster) Agent(addr string) *Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[addr]
}

// Kill ends an agent: connections break, new ones are refused. Its state is
// returned for Revive.
func (c *Cluster) Kill(addr string) *Agent {
	c.mu.Lock()
	a := c.agents[addr]
	delete(c.agents, addr)
	c.mu.Unlock()
	a.srv.Stop()
	return a
}

// Revive starts a killed agent again, with the state it had and a new start
// id.
func (c *Cluster) Revive(a *Agent) {
	a.lis, a.srv = bufconn.Listen(1<<16), grpc.NewServer()
	apiv1.RegisterDnAgentServer(a.srv, a)
	apiv1.RegisterCnAgentServer(a.srv, cnServer{Agent: a})
	a.RestartAgent()
	go a.srv.Serve(a.lis)
	c.mu.Lock()
	c.agents[a.addr] = a
	c.mu.Unlock()
}

// Wait polls until fn holds or fails the test after a minute.
func Wait(t testing.TB, what string, fn func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !fn() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
