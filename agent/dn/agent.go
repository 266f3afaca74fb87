package dn

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk/local"
)

// App is the agent as a program.
var App = agent.App{
	Name: "vda_dn_agent", Kind: "dn", Port: 9720, SvcPort: 4420,
	Start: func(ctx context.Context, n *agent.Node) (agent.Service, error) {
		return Start(ctx, n)
	},
}

// Keys of units: a prefix and the object's id, or pruneKey.
const (
	pdKey    = "pd/"
	vdKey    = "vd/"
	pruneKey = "prune"
)

// maxZeroing and maxClearing bound the vds that are being zeroed, and cleared
// for deletion, at once.
const (
	maxZeroing  = 8
	maxClearing = 2
)

// Agent is a disk node's agent.
type Agent struct {
	apiv1.UnimplementedDnAgentServer
	*agent.Node
	zeroing  chan struct{} // a token for each vd that may be zeroed at once
	clearing chan struct{} // and for each that may be cleared

	mu   sync.Mutex
	set  set
	caps map[string]*apiv1.PdCapacity
	full map[string]time.Time // by pd: when there was no space below it

	ailing map[string]*ailing // by pd
	// By pd: what was said of its disk, and whether that was read and lacks
	// the pd's stamp.
	refused   map[string]refusal
	unstamped map[string]bool
	held      map[string]io.Closer // see hold
}

// set is the desired set.
type set struct {
	cluster    string
	pds        map[string]*apiv1.PdSpec
	vds        map[string]*apiv1.VdSpec
	allowEmpty bool                 // the last full set said so
	gone       map[string]time.Time // tombstones that were carried out
}

// Start restores the desired set and begins work.
func Start(ctx context.Context, n *agent.Node) (*Agent, error) {
	a := &Agent{Node: n, zeroing: make(chan struct{}, maxZeroing), clearing: make(chan struct{}, maxClearing),
		caps: map[string]*apiv1.PdCapacity{}, full: map[string]time.Time{}, ailing: map[string]*ailing{},
		refused: map[string]refusal{}, unstamped: map[string]bool{}, held: map[string]io.Closer{}}
	if n.Disks == nil {
		n.Disks = local.Machine{Folders: n.Cfg.AioDirs}
		if own, err := n.Cfg.DisksDir(); err != nil {
			return nil, err
		} else if slices.Contains(n.Cfg.AioDirs, own) {
			if err := os.MkdirAll(own, 0o700); err != nil {
				return nil, err
			}
		}
	}
	var req apiv1.SyncDnRequest
	if _, err := n.State.Desired(&req); err != nil {
		return nil, err
	}
	a.set = setOf(&req)
	changes, err := n.State.Changes(func() proto.Message { return &apiv1.SyncDnRequest{} })
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if a.set, err = a.set.merge(c.(*apiv1.SyncDnRequest)); err != nil {
			return nil, err
		}
	}
	a.set.cluster, _, _ = n.State.Identity()
	n.Whole = func() proto.Message {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.set.message()
	}
	n.Plane.Holds = func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !a.set.vacant()
	}
	n.Loop = agent.NewLoop(agent.LoopConfig{Pass: a.pass, PassTimeout: 24 * time.Hour, Log: n.Log})
	for _, key := range a.set.keys() {
		n.Loop.Kick(key, false)
	}
	n.Loop.Kick(pruneKey, false)
	n.Start(ctx)
	return a, nil
}

// Register adds the agent's service to a gRPC server.
func (a *Agent) Register(r grpc.ServiceRegistrar) { apiv1.RegisterDnAgentServer(r, a) }

func setOf(req *apiv1.SyncDnRequest) set {
	s := set{cluster: req.ClusterId, pds: map[string]*apiv1.PdSpec{}, vds: map[string]*apiv1.VdSpec{},
		gone: map[string]time.Time{}, allowEmpty: req.AllowEmpty}
	for _, p := range req.Pds {
		s.pds[p.Id] = p
	}
	for _, v := range req.Vds {
		s.vds[v.Id] = v
	}
	return s
}

func (s *set) keys() []string {
	var keys []string
	for id := range s.pds {
		keys = append(keys, pdKey+id)
	}
	for id := range s.vds {
		keys = append(keys, vdKey+id)
	}
	return keys
}

// live returns the number of objects that are not tombstones.
func (s *set) live() int {
	n := 0
	for _, p := range s.pds {
		if !p.Deleted {
			n++
		}
	}
	for _, v := range s.vds {
		if !v.Deleted {
			n++
		}
	}
	return n
}

// vacant reports that there is nothing left to do for any object.
func (s *set) vacant() bool { return len(s.gone) == len(s.pds)+len(s.vds) }

// message is the set as it is persisted; nil when it holds nothing.
func (s *set) message() proto.Message {
	if s.vacant() {
		return nil
	}
	m := &apiv1.SyncDnRequest{AllowEmpty: s.allowEmpty}
	for _, id := range slices.Sorted(maps.Keys(s.pds)) {
		m.Pds = append(m.Pds, s.pds[id])
	}
	for _, id := range slices.Sorted(maps.Keys(s.vds)) {
		m.Vds = append(m.Vds, s.vds[id])
	}
	return m
}

// Sync takes a new desired set or changes of it, and says how much room its pds
// have.
func (a *Agent) Sync(ctx context.Context, req *apiv1.SyncDnRequest) (*apiv1.SyncReply, error) {
	reply, err := a.Node.Sync(ctx, req, func() error { return check(req) }, func() ([]agent.Ticket, error) { return a.accept(req) },
		"pds", len(req.Pds), "vds", len(req.Vds))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range req.Pds {
		if c := a.caps[p.Id]; c != nil && !p.Deleted {
			reply.Capacities = append(reply.Capacities, c)
		}
	}
	return reply, nil
}

// Heartbeat answers with what is wrong now.
func (a *Agent) Heartbeat(ctx context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	return a.Node.Heartbeat(ctx, req)
}

// accept changes the desired set and puts the units to work.
func (a *Agent) accept(req *apiv1.SyncDnRequest) ([]agent.Ticket, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	claim := agent.Claim{ClusterID: req.ClusterId, NodeID: req.NodeId, Version: req.Version, Base: req.BaseVersion,
		Marks: apiv1.VersionMarks(req.Marks), Terms: map[string]uint64{}, Vacant: a.set.vacant(), Held: map[string]bool{}}
	req.Marks = nil // they are not of the set
	for _, v := range a.set.vds {
		claim.Held[v.DaId] = true
	}
	for _, v := range req.Vds {
		if !v.Deleted {
			claim.Terms[v.DaId] = max(claim.Terms[v.DaId], v.Term)
		}
	}
	old := a.set
	var next set
	var err error
	if req.BaseVersion != 0 {
		err = a.State.AcceptChange(claim, req, func() (func() proto.Message, bool, error) {
			var err error
			next, err = old.merge(req)
			return next.message, !next.vacant(), err
		})
	} else {
		err = a.State.Accept(claim, func() (proto.Message, error) {
			var err error
			if next, err = old.merge(req); err == nil {
				err = a.keepOrphans(&old, &next)
			}
			return next.message(), err
		})
	}
	if err != nil {
		return nil, err
	}
	a.set = next
	for _, key := range old.keys() {
		kind, id, _ := strings.Cut(key, "/")
		if kind+"/" == pdKey && next.pds[id] == nil || kind+"/" == vdKey && next.vds[id] == nil {
			a.Loop.Forget(key)
			a.dropNotes(id)
		}
	}
	kick := a.Loop.Kick
	if req.BaseVersion != 0 {
		kick = a.Loop.KickNamed
	}
	var tickets []agent.Ticket
	for _, p := range req.Pds {
		tickets = append(tickets, agent.Ticket{Key: pdKey + p.Id, IDs: []string{p.Id}, Gen: kick(pdKey+p.Id, !proto.Equal(old.pds[p.Id], p))})
	}
	for _, v := range req.Vds {
		tickets = append(tickets, agent.Ticket{Key: vdKey + v.Id, IDs: []string{v.Id}, Gen: kick(vdKey+v.Id, !proto.Equal(old.vds[v.Id], v))})
	}
	if req.BaseVersion == 0 {
		tickets = append(tickets, agent.Ticket{Key: pruneKey, Gen: a.Loop.Kick(pruneKey, false)})
	}
	return tickets, nil
}

// vanish reports that a live object is missing from next, without a
// tombstone.
func (s *set) vanish(next *set) bool {
	for id, p := range s.pds {
		if !p.Deleted && next.pds[id] == nil {
			return true
		}
	}
	for id, v := range s.vds {
		if !v.Deleted && next.vds[id] == nil {
			return true
		}
	}
	return false
}

// merge returns the set after a request.
func (s *set) merge(req *apiv1.SyncDnRequest) (set, error) {
	next := setOf(req)
	if req.BaseVersion == 0 {
		if next.live() == 0 && s.vanish(&next) && !req.AllowEmpty {
			return next, vda.Errorf(vda.FailedPrecondition, "the request would leave this node without any of its %d objects; if that is right, "+
				"say so with vda_cli syncup dn --allow-empty (allow_empty): disks keep what is on them",
				s.live())
		}
		for id, at := range s.gone {
			if p, v := next.pds[id], next.vds[id]; p != nil && p.Deleted || v != nil && v.Deleted {
				next.gone[id] = at
			}
		}
		return next, nil
	}
	changes := next
	next = set{cluster: req.ClusterId, pds: maps.Clone(s.pds), vds: maps.Clone(s.vds), gone: maps.Clone(s.gone), allowEmpty: s.allowEmpty}
	maps.Copy(next.pds, changes.pds)
	maps.Copy(next.vds, changes.vds)
	for id := range next.gone {
		if p, v := next.pds[id], next.vds[id]; (p == nil || !p.Deleted) && (v == nil || !v.Deleted) {
			delete(next.gone, id)
		}
	}
	return next, nil
}

// check refuses a request whose ids or NQNs could name what is not ours, or two
// things at once.
func check(req *apiv1.SyncDnRequest) error {
	var ids agent.IDs
	errs := []error{ids.Sender(req.ClusterId, req.NodeId)}
	for _, p := range req.Pds {
		errs = append(errs, ids.Object("pds.id", p.Id))
	}
	for _, v := range req.Vds {
		errs = append(errs, ids.Object("vds.id", v.Id), ids.Ref("pd_id", v.PdId))
		if v.DaId != "" {
			errs = append(errs, ids.Ref("da_id", v.DaId))
		}
		if v.Nqn != "" && v.Nqn != vdNQN+v.Id {
			errs = append(errs, vda.Errorf(vda.InvalidArgument, "nqn %q of vd %s must be %s", v.Nqn, v.Id, vdNQN+v.Id))
		}
	}
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return nil
}

// pass is the Loop's.
func (a *Agent) pass(ctx context.Context, key string) agent.Result {
	kind, id, _ := strings.Cut(key, "/")
	if a.carriedOut(id) {
		return agent.Result{Gone: []string{id}}
	}
	var r agent.Result
	switch kind + "/" {
	case pdKey:
		r = a.passPD(ctx, id)
	case vdKey:
		r = a.passVD(ctx, id)
	default:
		return a.passPrune(ctx)
	}
	if a.note(kind, r.Gone) {
		a.Plane.Release(ctx)
	}
	return r
}

// note remembers the tombstones that a pass has carried out. It reports that
// this was the last.
func (a *Agent) note(kind string, gone []string) (last bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range gone {
		if _, known := a.set.gone[id]; !known {
			a.set.gone[id] = time.Now()
			last = a.set.vacant()
			if err := a.State.ForgetOrphan(kind, id); err != nil {
				a.Log.Warn("a deleted object may be listed as an orphan", "object", kind, "id", id, "err", err)
			}
			a.Log.Info("deleted", "object", kind, "id", id)
		}
		a.dropNotes(id)
	}
	return last
}

// carriedOut reports that an object is a tombstone for which nothing is left to
// do.
func (a *Agent) carriedOut(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, gone := a.set.gone[id]
	return gone
}

// dropNotes forgets what was found about a pd that is gone. a.mu is held.
func (a *Agent) dropNotes(id string) {
	delete(a.caps, id)
	delete(a.refused, id)
	delete(a.unstamped, id)
	delete(a.full, id)
	delete(a.ailing, id)
}

func (a *Agent) pd(id string) *apiv1.PdSpec {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set.pds[id]
}

func (a *Agent) vd(id string) *apiv1.VdSpec {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set.vds[id]
}
