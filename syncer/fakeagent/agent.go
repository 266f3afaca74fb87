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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
)

// Agent is a dn's or a cn's agent, whichever is asked.
type Agent struct {
	cluster *Cluster
	addr    string

	mu  sync.Mutex
	lis *bufconn.Listener // nil: down
	srv *grpc.Server
	set set

	start    int
	plane    int
	planeBad string
	planeDim bool
	leased   time.Time // until when
	born     time.Time // what lease stamps count from
	streams  int       // of heartbeats that were opened
	lost     []*apiv1.Unreached
	mirrors  []*apiv1.MirrorState
	spaces   []*apiv1.SpaceState
	deaf     map[string]string // addresses that Probe finds out of reach
	plain    bool              // a data plane without mirrors
	alone    bool              // a data plane by which reservations of arrays do not hold
	counted  []*apiv1.CountersReply
	disks    []*apiv1.Disk // of its machine

	hung     chan struct{} // not nil: calls wait until it is closed
	waited   int           // Syncs that have met it
	before   func()
	refuse   error
	syncs    []Sync
	calls    int
	standBys []StandBy
	scrubs   []*apiv1.ScrubRequest
	// problems that Scrub answers with
	scrubFails []string
}

// Sync is a request that an agent accepted or refused.
type Sync struct {
	Base, Version uint64
	IDs           []string // of pds, vds and controllers, in the request's order
	Refused       bool
	ReqID         string // of the request that it was made for, "" for none
	At            int    // place among all calls to the cluster
	Dn            *apiv1.SyncDnRequest
	Cn            *apiv1.SyncCnRequest
}

// StandBy is a request that an agent got.
type StandBy struct {
	DaIDs []string
	At    int // place among all calls to the cluster
}

// Dn returns the agent as the service of a disk node.
func (a *Agent) Dn() apiv1.DnAgentServer { return dnServer{a: a} }

// Cn returns the agent as the service of a controller node.
func (a *Agent) Cn() apiv1.CnAgentServer { return cnServer{a: a} }

// dnServer and cnServer are the two services, whose methods have equal names.
type (
	dnServer struct {
		apiv1.UnimplementedDnAgentServer
		a *Agent
	}
	cnServer struct {
		apiv1.UnimplementedCnAgentServer
		a *Agent
	}
)

func (s dnServer) Heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	reply, err := s.a.heartbeat(ctx, r)
	if err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	reply.VdEpochs = map[string]uint64{}
	for id, o := range s.a.set.objects {
		if vd, is := o.spec.(*apiv1.VdSpec); is && vd.Epoch > 0 {
			reply.VdEpochs[id] = vd.Epoch
		}
	}
	return reply, nil
}

func (s cnServer) Heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	reply, err := s.a.heartbeat(ctx, r)
	if err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.a.lease(r, reply)
	reply.CanMirror, reply.CanAuth, reply.CanReserve = !s.a.plain, !s.a.plain, !s.a.plain && !s.a.alone
	return reply, nil
}

func (s dnServer) Beats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error {
	s.a.locked(func() { s.a.streams++ })
	return rpc.AnswerBeats(stream, s.Heartbeat)
}

func (s cnServer) Beats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error {
	s.a.locked(func() { s.a.streams++ })
	return rpc.AnswerBeats(stream, s.Heartbeat)
}

// heartbeat answers with what is wrong now.
func (a *Agent) heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	if err := a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	version := a.set.version
	switch {
	case a.set.cluster != "" && r.ClusterId != "" && a.set.cluster != r.ClusterId:
		return nil, status.Errorf(codes.FailedPrecondition, "this agent belongs to cluster %s", a.set.cluster)
	case a.set.node != "" && a.set.node != r.NodeId && !a.set.vacant():
		return nil, status.Errorf(codes.FailedPrecondition, "this agent is node %s; the request is for node %s", a.set.node, r.NodeId)
	case a.set.node != r.NodeId:
		version = 0
	}
	reply := &apiv1.HeartbeatReply{ClusterId: a.set.cluster, Version: version, AgentStartId: fmt.Sprint("agent ", a.start),
		DataPlaneStartId: fmt.Sprint("plane ", a.plane), DataPlaneOk: a.planeBad == "", DataPlaneMsg: a.planeBad,
		DataPlaneSilent: a.planeDim, DataPlaneVersion: "fake", AgentVersion: "fake agent"}
	for _, id := range slices.Sorted(maps.Keys(a.set.errs)) {
		reply.States = append(reply.States, &apiv1.ObjectState{Id: id, Error: true, ErrorMsg: a.set.errs[id]})
	}
	reply.VdEpochs = maps.Clone(a.set.epochs)
	return reply, nil
}

// lease takes the lease that comes with a heartbeat of the node that the agent
// is. a.mu is held.
func (a *Agent) lease(r *apiv1.HeartbeatRequest, reply *apiv1.HeartbeatReply) {
	if a.set.node != r.NodeId {
		return
	}
	if r.LeaseMs > 0 && r.LeaseStartId == reply.AgentStartId {
		if until := a.born.Add(time.Duration(r.LeaseStamp) + time.Duration(r.LeaseMs)*time.Millisecond); until.After(a.leased) {
			a.leased = until
		}
	}
	reply.LeaseStamp, reply.Unreached = uint64(time.Since(a.born)), a.lost
	reply.Mirrors, reply.Spaces = a.mirrors, a.spaces
}

func (s dnServer) Sync(ctx context.Context, r *apiv1.SyncDnRequest) (*apiv1.SyncReply, error) {
	req := request{cluster: r.ClusterId, node: r.NodeId, version: r.Version, base: r.BaseVersion,
		marks: apiv1.VersionMarks(r.Marks), allowEmpty: r.AllowEmpty}
	for _, p := range r.Pds {
		req.objects = append(req.objects, object{kind: kindPD, id: p.Id, deleted: p.Deleted, spec: p})
	}
	for _, v := range r.Vds {
		req.objects = append(req.objects, object{kind: kindVD, id: v.Id, da: v.DaId, term: v.Term, epoch: v.Epoch, deleted: v.Deleted, spec: v})
	}
	return s.a.sync(ctx, Sync{Dn: r}, req)
}

func (s cnServer) Sync(ctx context.Context, r *apiv1.SyncCnRequest) (*apiv1.SyncReply, error) {
	req := request{cluster: r.ClusterId, node: r.NodeId, version: r.Version, base: r.BaseVersion,
		marks: apiv1.VersionMarks(r.Marks), allowEmpty: r.AllowEmpty}
	for _, c := range r.Cntlrs {
		req.objects = append(req.objects, object{kind: kindCntlr, id: c.Id, da: c.DaId, term: c.Term, deleted: c.Deleted, spec: c})
	}
	return s.a.sync(ctx, Sync{Cn: r}, req)
}

func (a *Agent) sync(ctx context.Context, s Sync, r request) (*apiv1.SyncReply, error) {
	a.mu.Lock()
	before := a.before
	if a.hung != nil {
		a.waited++
	}
	a.mu.Unlock()
	if before != nil {
		before()
	}
	if err := a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	s.Base, s.Version, s.At = r.base, r.version, a.cluster.tick()
	if ids := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(ids) == 1 {
		s.ReqID = ids[0]
	}
	for _, o := range r.objects {
		s.IDs = append(s.IDs, o.id)
	}
	err := a.refuse
	if err == nil {
		err = a.set.accept(r)
	}
	s.Refused = err != nil
	if !a.cluster.Forgetful {
		a.syncs = append(a.syncs, s)
	}
	if err != nil {
		return nil, err
	}
	return a.set.carryOut(r), nil
}

func (s dnServer) Orphans(_ context.Context, r *apiv1.OrphansRequest) (*apiv1.OrphansReply, error) {
	return s.a.orphans(r)
}

func (s dnServer) ListDisks(ctx context.Context, r *apiv1.ListDisksRequest) (*apiv1.ListDisksReply, error) {
	if err := s.a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if err := s.a.own(r.ClusterId, r.NodeId); err != nil {
		return nil, err
	}
	return &apiv1.ListDisksReply{Disks: s.a.disks}, nil
}

func (s cnServer) Orphans(_ context.Context, r *apiv1.OrphansRequest) (*apiv1.OrphansReply, error) {
	return s.a.orphans(r)
}

func (a *Agent) orphans(r *apiv1.OrphansRequest) (*apiv1.OrphansReply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.own(r.ClusterId, r.NodeId); err != nil {
		return nil, err
	}
	reply := &apiv1.OrphansReply{}
	for _, id := range slices.Sorted(maps.Keys(a.set.orphans)) {
		switch spec := a.set.orphans[id].spec.(type) {
		case *apiv1.PdSpec:
			reply.Pds = append(reply.Pds, spec)
		case *apiv1.VdSpec:
			reply.Vds = append(reply.Vds, spec)
		case *apiv1.CntlrSpec:
			reply.Cntlrs = append(reply.Cntlrs, spec)
		}
	}
	return reply, nil
}

// own refuses a request for another node. a.mu is held.
func (a *Agent) own(cluster, node string) error {
	if a.set.cluster == "" || cluster != a.set.cluster || node != a.set.node {
		return status.Errorf(codes.FailedPrecondition, "this agent is node %q of cluster %q", a.set.node, a.set.cluster)
	}
	return nil
}

func (s cnServer) Probe(ctx context.Context, r *apiv1.ProbeRequest) (*apiv1.ProbeReply, error) {
	if err := s.a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if err := s.a.own(r.ClusterId, r.NodeId); err != nil {
		return nil, err
	}
	reply := &apiv1.ProbeReply{}
	for _, at := range r.Addresses {
		reply.Problems = append(reply.Problems, s.a.deaf[at.Traddr])
	}
	return reply, nil
}

// Scrub remembers the order.
func (s cnServer) Scrub(ctx context.Context, r *apiv1.ScrubRequest) (*apiv1.ScrubReply, error) {
	if err := s.a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.a.scrubs = append(s.a.scrubs, r)
	return &apiv1.ScrubReply{Problems: s.a.scrubFails}, nil
}

func (s cnServer) StandBy(ctx context.Context, r *apiv1.StandByRequest) (*apiv1.StandByReply, error) {
	if err := s.a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if err := s.a.own(r.ClusterId, r.NodeId); err != nil {
		return nil, err
	}
	s.a.standBys = append(s.a.standBys, StandBy{DaIDs: r.DaIds, At: s.a.cluster.tick()})
	return &apiv1.StandByReply{}, nil
}

// waitIfHung returns an error when ctx ends while the agent hangs.
func (a *Agent) waitIfHung(ctx context.Context) error {
	a.mu.Lock()
	hung := a.hung
	a.mu.Unlock()
	if hung == nil {
		return nil
	}
	select {
	case <-hung:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
