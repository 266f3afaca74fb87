// Package fakeagent is a cluster's agents without data planes, for tests of
// what talks to agents: they check versions and terms as real agents do, keep
// the desired set in memory, and fail as they are told to. A Cluster is a
// syncer.Dialer whose connections run over in-memory pipes, so it works
// inside a testing/synctest bubble.
package fakeagent

import (
	"context"
	"fmt"
	"maps"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/syncer"
)

// Cluster holds agents by address.
type Cluster struct {
	// Capacity is how many clusters of 1 MiB a pd has, by its conf. Default 100;
	// to be set before agents start.
	Capacity func(conf string) uint64
	// Forgetful agents keep no Syncs for Agent.Syncs; to be set before agents start.
	Forgetful bool

	mu     sync.Mutex
	agents map[string]*Agent
	conns  map[string]*grpc.ClientConn
	told   map[string]chan struct{} // by address: closed when a data plane breaks or is well again
	clock  int                      // counts the calls that agents got, over all of them
}

// New returns a cluster without agents.
func New() *Cluster {
	return &Cluster{Capacity: func(string) uint64 { return 100 },
		agents: map[string]*Agent{}, conns: map[string]*grpc.ClientConn{}, told: map[string]chan struct{}{}}
}

// Close closes all connections and agents.
func (c *Cluster) Close() {
	c.mu.Lock()
	conns, agents := maps.Clone(c.conns), maps.Clone(c.agents)
	c.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
	for _, a := range agents {
		a.Stop()
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
func (c *Cluster) Dn(at vda.At) (apiv1.DnAgentClient, error) {
	conn, err := c.conn(at.Addr)
	return apiv1.NewDnAgentClient(conn), err
}

// Cn implements syncer.Dialer.
func (c *Cluster) Cn(at vda.At) (apiv1.CnAgentClient, error) {
	conn, err := c.conn(at.Addr)
	return apiv1.NewCnAgentClient(conn), err
}

func (c *Cluster) conn(addr string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[addr]; conn != nil {
		return conn, nil
	}
	conn, err := rpc.Dial(addr, rpc.DialConfig{Connect: c.DialContext})
	c.conns[addr] = conn
	return conn, err
}

// DialContext connects to the agent at an address.
func (c *Cluster) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	if a := c.Agent(addr); a != nil {
		a.mu.Lock()
		lis := a.lis
		a.mu.Unlock()
		if lis != nil {
			return lis.DialContext(ctx)
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)}
}

// WaitLost is syncer.Pool's.
func (c *Cluster) WaitLost(ctx context.Context, at vda.At) bool {
	conn, err := c.conn(at.Addr)
	if err != nil {
		return false
	}
	lost, _ := syncer.WaitLost(ctx, conn)
	return lost
}

// WatchDataPlane is syncer.Pool's.
func (c *Cluster) WatchDataPlane(ctx context.Context, at vda.At, _ string, changed func()) {
	for {
		c.mu.Lock()
		ch := c.told[at.Addr]
		if ch == nil {
			ch = make(chan struct{})
			c.told[at.Addr] = ch
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
	a := c.Add(addr)
	a.Start()
	return a
}

// Add makes an agent that the cluster does not serve: whose Dn and Cn the caller does.
func (c *Cluster) Add(addr string) *Agent {
	a := &Agent{cluster: c, addr: addr, plane: 1, born: time.Now()}
	a.set.capacity = c.Capacity
	a.set.reset()
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

// Move starts the agent at an address at another one instead, with the state it had.
func (c *Cluster) Move(from, to string) {
	a := c.Agent(from)
	a.Stop()
	c.mu.Lock()
	delete(c.agents, from)
	c.agents[to] = a
	c.mu.Unlock()
	a.locked(func() { a.addr = to })
	a.Start()
}

// Start starts an agent that has been stopped, with the state it had and a new
// start id.
func (a *Agent) Start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lis != nil {
		return
	}
	a.start++
	a.lis, a.srv = bufconn.Listen(1<<16), grpc.NewServer()
	apiv1.RegisterDnAgentServer(a.srv, a.Dn())
	apiv1.RegisterCnAgentServer(a.srv, a.Cn())
	rpc.RegisterCounters(a.srv, a.counters)
	go a.srv.Serve(a.lis)
}

// Stop ends an agent: connections break, new ones are refused. What it holds
// stays.
func (a *Agent) Stop() {
	a.mu.Lock()
	srv := a.srv
	a.lis, a.srv = nil, nil
	a.mu.Unlock()
	if srv != nil {
		srv.Stop()
	}
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
