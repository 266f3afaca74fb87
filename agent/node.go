package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/spdk"
)

// Node is the part of an agent that does not know what its objects are.
type Node struct {
	Cfg   Config
	State *State
	Plane *Plane
	Loop  *Loop
	Log   *slog.Logger
	// Disks finds disks by path. Default: those of this machine below
	// Cfg.AioDirs.
	Disks disk.Machine

	whole   func() proto.Message // the desired set, nil for a vacant one
	startID string
	cancel  context.CancelFunc
	watched chan struct{}
	news    chan struct{}
}

// Tell has monitors ask for a heartbeat now: there is something in it that cannot
// wait.
func (n *Node) Tell() {
	select {
	case n.news <- struct{}{}:
	default:
	}
}

// Start watches the data plane from now on and has every unit look after its
// object from time to time. The Loop has begun: see Begin.
func (n *Node) Start(ctx context.Context) {
	ctx, n.cancel = context.WithCancel(ctx)
	n.startID = rand.Text()
	n.watched, n.news = make(chan struct{}), make(chan struct{}, 1)
	n.Plane.OnStart = n.Loop.KickAll
	go func() {
		defer close(n.watched)
		go n.check(ctx)
		n.Plane.Watch(ctx)
	}()
}

// Close ends passes, and leaves the desired set in the state file; the data plane
// goes on with what it has.
func (n *Node) Close() error {
	n.cancel()
	<-n.watched
	n.Loop.Close()
	var err error
	if n.whole != nil {
		err = n.State.Fold(n.whole())
	}
	return errors.Join(err, n.Plane.Close(), n.State.Close())
}

// checkShare is which part of the time lists for checks may take: on a data plane that
// holds so much that they take long, checks are further apart than Config.CheckInterval,
// by up to maxCheckPause.
const (
	checkShare    = 20
	maxCheckPause = 30 * time.Second
)

// check kicks every unit from time to time that is not at work: passes over what is as it
// should be share one inventory and make no call.
func (n *Node) check(ctx context.Context) {
	for {
		pause := max(n.Cfg.CheckInterval, min(checkShare*n.Plane.lister.took(), maxCheckPause))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			if n.Plane.Ready() == nil {
				n.Loop.KickIdle()
			}
		}
	}
}

// Inventory returns lists of the data plane as it is now, or why there are
// none.
func (n *Node) Inventory(ctx context.Context) (*Inventory, error) {
	if err := n.Plane.Ready(); err != nil {
		return nil, err
	}
	return n.Plane.Inventory(ctx, time.Now())
}

// Heartbeat answers with what is wrong now.
func (n *Node) Heartbeat(ctx context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	cluster, node, version := n.State.Identity()
	switch {
	case !ValidID(req.NodeId):
		return nil, Status((&IDs{}).Ref("node_id", req.NodeId))
	case cluster != "" && req.ClusterId != "" && req.ClusterId != cluster:
		return nil, Status(vda.Errorf(vda.FailedPrecondition, "this agent belongs to cluster %s; the request is from cluster %s",
			cluster, req.ClusterId))
	case node != "" && node != req.NodeId && n.Plane.holds():
		return nil, Status(vda.Errorf(vda.FailedPrecondition, "this agent is node %s; the request is for node %s", node, req.NodeId))
	case node != req.NodeId: // it may become that one
		version = 0
	}
	s := n.Plane.Probe(ctx)
	reply := &apiv1.HeartbeatReply{
		ClusterId: cluster, Version: version, AgentStartId: n.startID,
		DataPlaneStartId: s.StartID, DataPlaneOk: s.Ready, DataPlaneSilent: s.Silent, DataPlaneMsg: s.Why, DataPlaneVersion: s.Version,
		AgentVersion: program.Version(),
	}
	for id, msg := range n.Loop.Errors() {
		if !ValidID(id) {
			continue // of a unit that is not an object
		}
		reply.States = append(reply.States, &apiv1.ObjectState{Id: id, Error: true, ErrorMsg: msg})
	}
	slices.SortFunc(reply.States, func(a, b *apiv1.ObjectState) int {
		if a.Id < b.Id {
			return -1
		}
		return 1
	})
	return reply, nil
}

// AnswerBeats answers heartbeats that come over a stream as heartbeat does.
func AnswerBeats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply],
	heartbeat func(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error)) error {
	return rpc.AnswerBeats(stream, heartbeat)
}

// CheckListener refuses a request that takes this node's data plane to listen
// elsewhere than it does: hosts would be sent to the wrong place.
func (n *Node) CheckListener(l *apiv1.ListenerConf) error {
	if l == nil || l.Listener().Same(n.Plane.cfg.Address) {
		return nil
	}
	own := n.Cfg.Address
	return vda.Errorf(vda.FailedPrecondition, "the node is registered with listener-conf %s port %s, but its agent was started with %s "+
		"port %s",
		l.Traddr, l.Trsvcid, own.TrAddr, own.TrSvcID)
}

// CheckBackend is CheckListener for where other controllers connect. That a data plane
// would listen where nobody is sent yet is not an error.
func (n *Node) CheckBackend(l *apiv1.ListenerConf) error {
	own := n.Cfg.Backend
	switch {
	case l == nil || l.Listener().Same(own):
		return nil
	case own == (vda.Listener{}):
		return vda.Errorf(vda.FailedPrecondition, "the node is registered with backend-listener-conf %s port %s, but its agent was started "+
			"without --backend-listener-conf", l.Traddr, l.Trsvcid)
	}
	return vda.Errorf(vda.FailedPrecondition, "the node is registered with backend-listener-conf %s port %s, but its agent was started with "+
		"%s port %s", l.Traddr, l.Trsvcid, own.TrAddr, own.TrSvcID)
}

// SyncRequest is what the requests of both agents have in common.
type SyncRequest interface {
	proto.Message
	GetClusterId() string
	GetNodeId() string
	GetVersion() uint64
	GetBaseVersion() uint64
	GetListener() *apiv1.ListenerConf
	GetAllowEmpty() bool
	GetMarks() []*apiv1.VersionMark
}

// Sync takes a new desired set or changes of it, and answers when the objects
// named are as they should be, or have failed, or time is up. check refuses what
// no node could carry out; accept changes the desired set, puts the units to work
// and returns those to wait for. objects are for the log.
func (n *Node) Sync(ctx context.Context, req SyncRequest, check func() error, accept func() ([]Ticket, error),
	objects ...any) (*apiv1.SyncReply, error) {
	if err := check(); err != nil {
		return nil, Status(err)
	}
	if err := n.CheckListener(req.GetListener()); err != nil {
		return nil, Status(err)
	}
	if err := n.MayServe(ctx, req.GetClusterId(), req.GetNodeId()); err != nil {
		return nil, Status(err)
	}
	tickets, err := accept()
	if err != nil {
		n.Log.Warn("sync refused", "version", req.GetVersion(), "base", req.GetBaseVersion(), "err", err)
		return nil, Status(err)
	}
	n.Log.Debug("sync", append([]any{"version", req.GetVersion(), "base", req.GetBaseVersion()}, objects...)...)
	return &apiv1.SyncReply{Version: req.GetVersion(), States: n.Await(ctx, tickets)}, nil
}

// Ticket is a unit to wait for, and the objects of it that are reported.
type Ticket struct {
	Key string
	Gen uint64
	IDs []string
}

// Await waits for the tickets' passes until shortly before ctx's deadline and
// returns the state of every object in them.
func (n *Node) Await(ctx context.Context, tickets []Ticket) []*apiv1.ObjectState {
	limit := time.Minute
	if d, ok := ctx.Deadline(); ok {
		limit = max(time.Until(d)*9/10, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var states []*apiv1.ObjectState
	for _, t := range tickets {
		r, done := n.Loop.Wait(ctx, t.Key, t.Gen)
		if !done {
			r, _ = n.Loop.Last(t.Key)
		}
		for _, id := range t.IDs {
			s := &apiv1.ObjectState{Id: id, Gone: slices.Contains(r.Gone, id)}
			s.ErrorMsg, s.Error = r.Errs[id]
			if msg, ails := r.Ails[id]; ails && !s.Error && !s.Gone {
				s.Error, s.ErrorMsg, s.Done = true, msg, done
			}
			if !done && !s.Error {
				s.Error, s.Gone, s.ErrorMsg = true, false, "the agent is still at work on it"
			}
			states = append(states, s)
		}
	}
	return states
}

// Status translates an error for gRPC.
func Status(err error) error {
	if err == nil {
		return nil
	}
	var stale *StaleError
	if errors.As(err, &stale) {
		s, detailErr := status.New(codes.FailedPrecondition, stale.Error()).WithDetails(&apiv1.SyncReply{Version: stale.Version})
		if detailErr != nil {
			return status.Error(codes.FailedPrecondition, stale.Error())
		}
		return s.Err()
	}
	code := codes.Internal
	switch vda.KindOf(err) {
	case vda.InvalidArgument:
		code = codes.InvalidArgument
	case vda.FailedPrecondition:
		code = codes.FailedPrecondition
	}
	return status.Error(code, reason.Full(err))
}

// Drop ignores that something to be removed is not there.
func Drop(err error) error {
	if spdk.IsNoSuchDevice(err) {
		return nil
	}
	return err
}
