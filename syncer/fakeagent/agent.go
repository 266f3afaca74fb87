package fakeagent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

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
	done     map[string]bool // of errs: they are as desired
	capacity uint64
	terms    map[string]uint64
	objects  map[string]object
	syncs    []Sync
	leased   time.Time // until when
	born     time.Time // what lease stamps count from
	lost     []*apiv1.Unreached
	standBys []StandBy
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

// StandBy is a request that an agent got.
type StandBy struct {
	DaIDs []string
	At    int // place among all calls to the cluster
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

// StandBy implements apiv1.CnAgentServer.
func (s cnServer) StandBy(ctx context.Context, r *apiv1.StandByRequest) (*apiv1.StandByReply, error) {
	if err := s.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.ClusterId != s.id || r.NodeId != s.nodeID {
		return nil, status.Errorf(codes.FailedPrecondition, "this agent is node %q of cluster %q", s.nodeID, s.id)
	}
	s.standBys = append(s.standBys, StandBy{DaIDs: r.DaIds, At: s.cluster.tick()})
	return &apiv1.StandByReply{}, nil
}

func (a *Agent) reset() {
	a.id, a.nodeID, a.version = "", "", 0
	a.errs, a.done, a.terms, a.objects = map[string]string{}, map[string]bool{}, map[string]uint64{}, map[string]object{}
}

func (a *Agent) locked(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
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
	s.At = a.cluster.tick()
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
	st.Done = a.done[id]
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
