package portaltest

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// Agent is a dn's and a cn's agent in one, on a data plane that is a few maps.
// It keeps versions as a real one does.
type Agent struct {
	addr string

	mu           sync.Mutex
	lis          *bufconn.Listener // nil: down
	srv          *grpc.Server
	node         string // whose agent it is
	version      uint64
	pds          map[string]*apiv1.PdSpec
	vds          map[string]*apiv1.VdSpec
	cntlrs       map[string]*apiv1.CntlrSpec
	orphanPds    map[string]*apiv1.PdSpec // held once, and named no more
	orphanVds    map[string]*apiv1.VdSpec
	orphanCntlrs map[string]*apiv1.CntlrSpec
	refuse       string // error of every object
	vdError      string // error of every live vd
	occupied     uint64
	refuses      int // Syncs that are still refused so; below 0: all
	calls        int
	hang         chan struct{} // not nil: Syncs wait until it is closed
	before       func()
	waiting      int // Syncs that have met it
}

// dnAgent and cnAgent give the two services, whose methods have equal names.
type (
	dnAgent struct {
		apiv1.UnimplementedDnAgentServer
		a *Agent
	}
	cnAgent struct {
		apiv1.UnimplementedCnAgentServer
		a *Agent
	}
)

func newAgent(addr string) *Agent {
	a := &Agent{addr: addr, pds: map[string]*apiv1.PdSpec{}, vds: map[string]*apiv1.VdSpec{}, cntlrs: map[string]*apiv1.CntlrSpec{},
		orphanPds: map[string]*apiv1.PdSpec{}, orphanVds: map[string]*apiv1.VdSpec{}, orphanCntlrs: map[string]*apiv1.CntlrSpec{}}
	a.Start()
	return a
}

// Start makes the agent reachable.
func (a *Agent) Start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lis != nil {
		return
	}
	a.lis, a.srv = bufconn.Listen(64<<10), grpc.NewServer()
	apiv1.RegisterDnAgentServer(a.srv, dnAgent{a: a})
	apiv1.RegisterCnAgentServer(a.srv, cnAgent{a: a})
	go a.srv.Serve(a.lis)
}

// Stop makes the agent unreachable; what it holds stays.
func (a *Agent) Stop() {
	a.mu.Lock()
	srv := a.srv
	a.lis, a.srv = nil, nil
	a.mu.Unlock()
	if srv != nil {
		srv.Stop()
	}
}

// Refuse makes every object fail with msg; "" makes them succeed again.
func (a *Agent) Refuse(msg string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse, a.refuses = msg, -1
}

// FailVDs gives every live vd an error, "" takes it away.
func (a *Agent) FailVDs(msg string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.vdError = msg
}

// RefuseOnce makes every object of the next Sync fail with msg.
func (a *Agent) RefuseOnce(msg string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse, a.refuses = msg, 1
}

// Before calls fn at each Sync, before it is carried out.
func (a *Agent) Before(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before = fn
}

// Occupy has each pd hold so many clusters that no vd accounts for.
func (a *Agent) Occupy(clusters uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.occupied = clusters
}

// used is how many clusters of a pd are in use.
func (a *Agent) used(pd string, cluster uint64) uint64 {
	n := a.occupied
	for _, held := range []map[string]*apiv1.VdSpec{a.vds, a.orphanVds} {
		for _, vd := range held {
			if vd.PdId == pd {
				n += vd.Size / cluster
			}
		}
	}
	return n
}

// keep forgets the objects that a full set does not name; they are orphans.
func keep[T interface {
	GetId() string
	GetDeleted() bool
}](held, orphans map[string]T, full bool, named []T) {
	for _, o := range named {
		delete(orphans, o.GetId())
	}
	if !full {
		return
	}
	maps.DeleteFunc(held, func(id string, o T) bool {
		gone := !slices.ContainsFunc(named, func(o T) bool { return o.GetId() == id })
		if gone && !o.GetDeleted() {
			orphans[id] = o
		}
		return gone
	})
}

func (d dnAgent) Orphans(context.Context, *apiv1.OrphansRequest) (*apiv1.OrphansReply, error) {
	d.a.mu.Lock()
	defer d.a.mu.Unlock()
	return &apiv1.OrphansReply{Pds: slices.Collect(maps.Values(d.a.orphanPds)), Vds: slices.Collect(maps.Values(d.a.orphanVds))}, nil
}

func (c cnAgent) Orphans(context.Context, *apiv1.OrphansRequest) (*apiv1.OrphansReply, error) {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	return &apiv1.OrphansReply{Cntlrs: slices.Collect(maps.Values(c.a.orphanCntlrs))}, nil
}

// Hang makes every Sync wait, as an agent that is stopped does, until wake is
// called.
func (a *Agent) Hang() (wake func()) {
	hang := make(chan struct{})
	a.mu.Lock()
	a.hang = hang
	a.mu.Unlock()
	return func() {
		a.mu.Lock()
		a.hang = nil
		a.mu.Unlock()
		close(hang)
	}
}

func (a *Agent) wait(ctx context.Context) {
	a.mu.Lock()
	before := a.before
	a.mu.Unlock()
	if before != nil {
		before()
	}
	a.mu.Lock()
	hang := a.hang
	if hang != nil {
		a.waiting++
	}
	a.mu.Unlock()
	if hang == nil {
		return
	}
	select {
	case <-hang:
	case <-ctx.Done():
	}
}

// Waited is the number of Syncs that had to wait since Hang.
func (a *Agent) Waited() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting
}

// Calls is the number of Syncs that reached the agent.
func (a *Agent) Calls() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// Objects is the number of pds, vds and controllers that the node holds.
func (a *Agent) Objects() (pds, vds, cntlrs int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.pds), len(a.vds), len(a.cntlrs)
}

func (a *Agent) dial(ctx context.Context) (net.Conn, error) {
	a.mu.Lock()
	lis := a.lis
	a.mu.Unlock()
	if lis == nil {
		return nil, refused(a.addr)
	}
	return lis.DialContext(ctx)
}

// begin refuses what a real agent refuses: another node's state, a version
// lower than one seen, and a delta on a base that it doesn't hold.
func (a *Agent) begin(node string, version, base uint64) error {
	a.calls++
	if a.refuses == 0 {
		a.refuse = ""
	}
	a.refuses--
	if a.node != "" && a.node != node {
		return status.Errorf(codes.FailedPrecondition, "this agent is node %s; the request is for node %s", a.node, node)
	}
	a.node = node
	if version < a.version || base != 0 && base > a.version {
		st, err := status.New(codes.FailedPrecondition, "version").WithDetails(&apiv1.SyncReply{Version: a.version})
		if err != nil {
			return err
		}
		return st.Err()
	}
	a.version = version
	return nil
}

// state carries one object out on the map that holds its kind.
func state[T any](a *Agent, held map[string]T, id string, spec T, deleted bool) *apiv1.ObjectState {
	switch {
	case a.refuse != "":
		return &apiv1.ObjectState{Id: id, Error: true, ErrorMsg: a.refuse}
	case deleted:
		delete(held, id)
		return &apiv1.ObjectState{Id: id, Gone: true}
	}
	held[id] = spec
	return &apiv1.ObjectState{Id: id}
}

func (d dnAgent) Sync(ctx context.Context, req *apiv1.SyncDnRequest) (*apiv1.SyncReply, error) {
	a := d.a
	a.wait(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.begin(req.NodeId, req.Version, req.BaseVersion); err != nil {
		return nil, err
	}
	if req.BaseVersion == 0 {
		if !req.AllowEmpty && len(req.Pds)+len(req.Vds) == 0 && len(a.pds)+len(a.vds) > 0 {
			return nil, status.Error(codes.FailedPrecondition, "that takes allow_empty")
		}
	}
	keep(a.pds, a.orphanPds, req.BaseVersion == 0, req.Pds)
	keep(a.vds, a.orphanVds, req.BaseVersion == 0, req.Vds)
	reply := &apiv1.SyncReply{Version: req.Version}
	for _, pd := range req.Pds {
		st := state(a, a.pds, pd.Id, pd, pd.Deleted)
		reply.States = append(reply.States, st)
		if st.Error || st.Gone {
			continue
		}
		var conf struct{ Size uint64 }
		if err := json.Unmarshal([]byte(pd.ConfJson), &conf); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		const cluster = 1 << 20
		n := format.DataClusters(conf.Size, cluster)
		reply.Capacities = append(reply.Capacities, &apiv1.PdCapacity{PdId: pd.Id, ClusterSize: cluster, TotalClusters: n, FreeClusters: n - a.used(pd.Id, cluster)})
	}
	for _, vd := range req.Vds {
		st := state(a, a.vds, vd.Id, vd, vd.Deleted)
		if a.vdError != "" && !vd.Deleted {
			st.Error, st.ErrorMsg = true, a.vdError
		}
		reply.States = append(reply.States, st)
	}
	return reply, nil
}

func (c cnAgent) Sync(ctx context.Context, req *apiv1.SyncCnRequest) (*apiv1.SyncReply, error) {
	a := c.a
	a.wait(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.begin(req.NodeId, req.Version, req.BaseVersion); err != nil {
		return nil, err
	}
	if req.BaseVersion == 0 && !req.AllowEmpty && len(req.Cntlrs) == 0 && len(a.cntlrs) > 0 {
		return nil, status.Error(codes.FailedPrecondition, "that takes allow_empty")
	}
	keep(a.cntlrs, a.orphanCntlrs, req.BaseVersion == 0, req.Cntlrs)
	reply := &apiv1.SyncReply{Version: req.Version}
	for _, cntlr := range req.Cntlrs {
		reply.States = append(reply.States, state(a, a.cntlrs, cntlr.Id, cntlr, cntlr.Deleted))
		for _, e := range cntlr.Exps {
			st := &apiv1.ObjectState{Id: e.EsId, Gone: e.Deleted && a.refuse == "", Error: a.refuse != "", ErrorMsg: a.refuse}
			reply.States = append(reply.States, st)
		}
	}
	return reply, nil
}
