// Package fakeagent is a cluster's agents without data planes, for tests of
// what talks to agents: they check versions and terms as real agents do, keep
// the desired set in memory, and fail as they are told to. A Cluster is a
// syncer.Dialer whose connections run over in-memory pipes, so it works
// inside a testing/synctest bubble.
package fakeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	apiv1 "vda/api/v1"
	"vda/syncer"
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
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c.mu.Lock()
			a := c.agents[addr]
			c.mu.Unlock()
			if a == nil {
				return nil, errors.New("connection refused")
			}
			return a.lis.DialContext(ctx)
		}))
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

// Agent is a dn's or a cn's agent, whichever is asked.
type Agent struct {
	apiv1.UnimplementedDnAgentServer
	cluster *Cluster
	addr    string
	lis     *bufconn.Listener
	srv     *grpc.Server

	mu       sync.Mutex
	id       string // of the cluster it belongs to
	nodeID   string
	version  uint64
	start    int
	plane    int
	planeBad string
	planeDim bool
	hang     bool
	refuse   error
	errs     map[string]string
	capacity uint64
	terms    map[string]uint64
	objects  map[string]object
	syncs    []Sync
	leased   time.Time // until when
	born     time.Time // what lease stamps count from
	lost     []*apiv1.Unreached
	deaf     map[string]string // addresses that Probe finds out of reach
}

type object struct {
	version uint64
	es      []string
}

// Sync is a request that an agent accepted or refused.
type Sync struct {
	Base, Version uint64
	IDs           []string // of pds, vds and controllers, in the request's order
	Refused       bool
	At            int // place among all calls to the cluster
	Dn            *apiv1.SyncDnRequest
	Cn            *apiv1.SyncCnRequest
}

// cnServer gives an Agent the methods of the other service.
type cnServer struct {
	apiv1.UnimplementedCnAgentServer
	*Agent
}

// Heartbeat implements apiv1.CnAgentServer.
func (s cnServer) Heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	return s.Agent.Heartbeat(ctx, r)
}

// Sync implements apiv1.CnAgentServer.
func (s cnServer) Sync(ctx context.Context, r *apiv1.SyncCnRequest) (*apiv1.SyncReply, error) {
	return s.syncCn(ctx, r)
}

// Probe implements apiv1.CnAgentServer.
func (s cnServer) Probe(ctx context.Context, r *apiv1.ProbeRequest) (*apiv1.ProbeReply, error) {
	if err := s.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := &apiv1.ProbeReply{}
	for _, at := range r.Addresses {
		reply.Problems = append(reply.Problems, s.deaf[at.Traddr])
	}
	return reply, nil
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

func (a *Agent) reset() {
	a.id, a.nodeID, a.version = "", "", 0
	a.errs, a.terms, a.objects = map[string]string{}, map[string]uint64{}, map[string]object{}
}

func (a *Agent) locked(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
}

// Forget loses the agent's state.
func (a *Agent) Forget() { a.locked(a.reset) }

// RestartAgent gives the agent a new start id.
func (a *Agent) RestartAgent() { a.locked(func() { a.start++ }) }

// RestartPlane gives the data plane a new start id.
func (a *Agent) RestartPlane() { a.locked(func() { a.plane++ }) }

// BreakPlane makes the data plane bad, "" well again.
func (a *Agent) BreakPlane(why string) {
	a.locked(func() { a.planeBad, a.planeDim = why, false })
	a.cluster.tell(a.addr)
}

// SlowPlane makes the data plane give no answer in time.
func (a *Agent) SlowPlane() { a.locked(func() { a.planeBad, a.planeDim = "does not answer", true }) }

// Hang makes the agent take calls and never answer them.
func (a *Agent) Hang(on bool) { a.locked(func() { a.hang = on }) }

// Refuse makes the agent answer Sync with an error; nil ends that.
func (a *Agent) Refuse(err error) { a.locked(func() { a.refuse = err }) }

// Fail gives an object an error, "" takes it away.
func (a *Agent) Fail(id, why string) {
	a.locked(func() {
		if delete(a.errs, id); why != "" {
			a.errs[id] = why
		}
	})
}

// LeasedUntil is when the last lease that the agent was given ends.
func (a *Agent) LeasedUntil() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leased
}

// Lose makes the agent say that a primary has lost vds; none of an array that
// is not named.
func (a *Agent) Lose(lost ...*apiv1.Unreached) { a.locked(func() { a.lost = lost }) }

// CannotReach makes probes of addresses fail.
func (a *Agent) CannotReach(addrs ...string) {
	a.locked(func() {
		a.deaf = map[string]string{}
		for _, at := range addrs {
			a.deaf[at] = "connection refused"
		}
	})
}

// SetCapacity is the total clusters of 1 MiB that each pd shows.
func (a *Agent) SetCapacity(clusters uint64) { a.locked(func() { a.capacity = clusters }) }

// Join makes the agent belong to a cluster.
func (a *Agent) Join(cluster, node string, version uint64) {
	a.locked(func() { a.id, a.nodeID, a.version = cluster, node, version })
}

// Saw makes the agent have seen a term of an array.
func (a *Agent) Saw(da string, term uint64) { a.locked(func() { a.terms[da] = term }) }

// Syncs returns the requests since the last call of it.
func (a *Agent) Syncs() []Sync {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.syncs
	a.syncs = nil
	return s
}

// Objects returns the ids of what the agent holds, sorted.
func (a *Agent) Objects() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.objects))
}

// Term returns the highest term the agent has seen of an array.
func (a *Agent) Term(da string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.terms[da]
}

// waitIfHung returns when ctx ends, if the agent hangs.
func (a *Agent) waitIfHung(ctx context.Context) error {
	a.mu.Lock()
	hang := a.hang
	a.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// Heartbeat implements apiv1.DnAgentServer.
func (a *Agent) Heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	if err := a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.id != "" && a.id != r.ClusterId {
		return nil, status.Errorf(codes.FailedPrecondition, "this agent belongs to cluster %s", a.id)
	}
	reply := &apiv1.HeartbeatReply{ClusterId: a.id, Version: a.version, AgentStartId: fmt.Sprint("agent ", a.start), DataPlaneStartId: fmt.Sprint("plane ", a.plane),
		DataPlaneOk: a.planeBad == "", DataPlaneMsg: a.planeBad, DataPlaneSilent: a.planeDim, DataPlaneVersion: "fake"}
	if r.LeaseMs > 0 && r.LeaseStartId == reply.AgentStartId {
		if until := a.born.Add(time.Duration(r.LeaseStamp) + time.Duration(r.LeaseMs)*time.Millisecond); until.After(a.leased) {
			a.leased = until
		}
	}
	reply.LeaseStamp, reply.Unreached = uint64(time.Since(a.born)), a.lost
	for _, id := range slices.Sorted(maps.Keys(a.errs)) {
		reply.States = append(reply.States, &apiv1.ObjectState{Id: id, Error: true, ErrorMsg: a.errs[id]})
	}
	return reply, nil
}

// accept checks what every Sync says of itself. a.mu is held.
func (a *Agent) accept(s *Sync, cluster, node string) error {
	a.cluster.mu.Lock()
	a.cluster.clock++
	s.At = a.cluster.clock
	a.cluster.mu.Unlock()
	err := a.check(s, cluster, node)
	s.Refused = err != nil
	a.syncs = append(a.syncs, *s)
	if err != nil {
		return err
	}
	a.id, a.nodeID, a.version = cluster, node, s.Version
	return nil
}

func (a *Agent) check(s *Sync, cluster, node string) error {
	stale := func(format string, args ...any) error {
		st, err := status.Newf(codes.FailedPrecondition, format, args...).WithDetails(&apiv1.SyncReply{Version: a.version})
		if err != nil {
			a.cluster.t.Errorf("status details: %v", err)
		}
		return st.Err()
	}
	switch {
	case a.refuse != nil:
		return a.refuse
	case a.id != "" && a.id != cluster:
		return status.Errorf(codes.FailedPrecondition, "this agent belongs to cluster %s", a.id)
	case a.nodeID != node && s.Base != 0, s.Base > a.version:
		return stale("delta to version %d, but this agent holds version %d", s.Base, a.version)
	case s.Version < a.version:
		return stale("version %d is older than version %d", s.Version, a.version)
	}
	return nil
}

func (a *Agent) term(da string, term uint64) error {
	if term < a.terms[da] {
		return status.Errorf(codes.FailedPrecondition, "term %d of %s: %d has been seen", term, da, a.terms[da])
	}
	a.terms[da] = term
	return nil
}

// take makes one object so and returns its state.
func (a *Agent) take(id string, version uint64, deleted bool, es ...string) *apiv1.ObjectState {
	st := &apiv1.ObjectState{Id: id}
	st.ErrorMsg, st.Error = a.errs[id]
	switch {
	case st.Error:
	case deleted:
		st.Gone = true
		delete(a.objects, id)
		return st
	}
	a.objects[id] = object{version: version, es: es}
	return st
}

// Sync implements apiv1.DnAgentServer.
func (a *Agent) Sync(ctx context.Context, r *apiv1.SyncDnRequest) (*apiv1.SyncReply, error) {
	if err := a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Sync{Base: r.BaseVersion, Version: r.Version, Dn: r}
	for _, p := range r.Pds {
		s.IDs = append(s.IDs, p.Id)
	}
	for _, v := range r.Vds {
		s.IDs = append(s.IDs, v.Id)
	}
	if err := a.accept(&s, r.ClusterId, r.NodeId); err != nil {
		return nil, err
	}
	reply := &apiv1.SyncReply{Version: r.Version}
	for _, v := range r.Vds {
		if err := a.term(v.DaId, v.Term); err != nil {
			return nil, err
		}
		reply.States = append(reply.States, a.take(v.Id, v.Version, v.Deleted))
	}
	for _, p := range r.Pds {
		st := a.take(p.Id, p.Version, p.Deleted)
		reply.States = append(reply.States, st)
		if !st.Error && !st.Gone {
			reply.Capacities = append(reply.Capacities, &apiv1.PdCapacity{PdId: p.Id, ClusterSize: 1 << 20, TotalClusters: a.capacity, FreeClusters: a.capacity})
		}
	}
	return reply, nil
}

func (a *Agent) syncCn(ctx context.Context, r *apiv1.SyncCnRequest) (*apiv1.SyncReply, error) {
	if err := a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Sync{Base: r.BaseVersion, Version: r.Version, Cn: r}
	for _, c := range r.Cntlrs {
		s.IDs = append(s.IDs, c.Id)
	}
	if err := a.accept(&s, r.ClusterId, r.NodeId); err != nil {
		return nil, err
	}
	reply := &apiv1.SyncReply{Version: r.Version}
	for _, c := range r.Cntlrs {
		if err := a.term(c.DaId, c.Term); err != nil {
			return nil, err
		}
		var es []string
		for _, e := range c.Exps {
			st := a.take(e.EsId, e.Version, e.Deleted || c.Deleted)
			delete(a.objects, e.EsId)
			if !st.Gone {
				es = append(es, e.EsId)
			}
			reply.States = append(reply.States, st)
		}
		reply.States = append(reply.States, a.take(c.Id, c.Version, c.Deleted, es...))
	}
	return reply, nil
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
