package cn

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
)

// App is the agent as a program.
var App = agent.App{
	Name: "vda_cn_agent", Kind: "cn", Port: 9820, SvcPort: 4430,
	Start: func(ctx context.Context, n *agent.Node) (agent.Service, error) {
		return Start(ctx, n)
	},
}

// passTimeout bounds one pass over a controller.
const passTimeout = 2 * time.Minute

// Agent is a controller node's agent.
type Agent struct {
	apiv1.UnimplementedCnAgentServer
	*agent.Node
	attaching *gate
	stop      context.CancelFunc
	life      context.Context // ends with stop: of calls that outlive a pass
	watching  chan struct{}   // closed when all watches have ended
	beyond    sync.WaitGroup  // work that outlives the pass that began it
	lease     lease
	silence   silence
	turns     turns

	mu        sync.Mutex
	set       set
	standings map[string]*standing    // of the primaries, by controller
	standBys  map[string]standBy      // of secondaries, by controller
	mirrors   map[string]*spdk.Mirror // of the data plane, by name
	attached  map[string]attachment   // of those mirrors, by name
	otherSet  chan struct{}           // a token when the set has changed since mirrors were judged
	told      []*apiv1.MirrorState    // that monitors have been had to ask for
	copying   copying                 // how fast legs are copied to
	unread    map[string]string       // what legs cannot be given, as nobody can read it, by controller
	scrubs    map[string]scrub        // that were ordered, by mirror
	snaps     map[string]snapNote     // that are on media, by id
	snapCalls map[string]*snapCall    // by array
	dials     map[string]*dial        // that are under way, or have failed, by controller in the data plane
	growCalls map[string]*growCall    // by array and what of it grows
	wide      map[string]int          // of how many groups lvstores have the space, by array
	joined    map[string]uint64       // groups that are there beside their array: the term
	space     map[string]spdk.Lvstore // how full arrays are, by array
	clones    map[string]*cloneCopy   // by array
	// snapDoubts says of arrays whether a call for a snapshot may be under way that
	// nobody waits for; of those that it does not name, the state says it.
	snapDoubts map[string]bool
}

// set is the desired set.
type set struct {
	cntlrs     map[string]*apiv1.CntlrSpec
	allowEmpty bool             // the last full set said so
	gone       agent.Tombstones // of controllers
	goneEs     map[string]bool  // tombstones of exporters that were carried out
	owners     map[string]owner // by name: see claim
}

// Start restores the desired set and begins work.
func Start(ctx context.Context, n *agent.Node) (*Agent, error) {
	a := &Agent{Node: n, attaching: newGate(maxAttaching, maxAttachingTo), watching: make(chan struct{}), otherSet: make(chan struct{}, 1),
		lease: lease{begun: time.Now()}, standBys: map[string]standBy{}, snaps: map[string]snapNote{}, snapCalls: map[string]*snapCall{},
		snapDoubts: map[string]bool{}, growCalls: map[string]*growCall{}, dials: map[string]*dial{},
		clones: map[string]*cloneCopy{}, wide: map[string]int{}, joined: map[string]uint64{}}
	a.life, a.stop = context.WithCancel(ctx)
	err := n.Restore(func() proto.Message { return &apiv1.SyncCnRequest{} }, func(req proto.Message) {
		a.set = a.set.merge(req.(*apiv1.SyncCnRequest))
	})
	if err != nil {
		return nil, err
	}
	a.restand()
	n.Begin(&a.mu, func() agent.Set { return &a.set }, agent.LoopConfig{Pass: a.pass, PassTimeout: passTimeout, IDs: a.ids})
	n.Start(ctx)
	ctx = a.life
	go func() {
		defer close(a.watching)
		var wg sync.WaitGroup
		wg.Go(func() { a.watchSilence(ctx) })
		wg.Go(func() { a.watchMirrors(ctx) })
		wg.Go(func() { a.watchSpace(ctx) })
		a.watch(ctx)
		wg.Wait()
	}()
	return a, nil
}

// Close ends the agent's work; the data plane goes on with what it has.
func (a *Agent) Close() error {
	a.stop()
	<-a.watching
	a.Loop.Close()
	a.beyond.Wait()
	return a.Node.Close()
}

// Register adds the agent's service to a gRPC server.
func (a *Agent) Register(r grpc.ServiceRegistrar) { apiv1.RegisterCnAgentServer(r, a) }

// Heartbeat answers with what is wrong now, and takes the lease that comes
// with it.
func (a *Agent) Heartbeat(ctx context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	reply, err := a.Node.Heartbeat(ctx, req)
	if err != nil {
		return nil, err
	}
	reply.CanMirror, reply.CanAuth = a.Plane.Driver().Mirrors(), a.Plane.Driver().Authenticates()
	reply.CanReserve = a.Plane.Driver().Reserves()
	if _, node, _ := a.State.Identity(); node == req.NodeId {
		if req.LeaseMs > 0 && req.LeaseStartId == reply.AgentStartId {
			a.lease.renew(req.LeaseStamp, time.Duration(req.LeaseMs)*time.Millisecond)
		}
		reply.Unreached = a.unreached()
		reply.Mirrors = a.reported()
		reply.Spaces = a.spaces()
		reply.Clones = a.cloneStates()
		reply.LeaseStamp = a.lease.stamp()
	}
	return reply, nil
}

// Beats is Heartbeat over a stream.
func (a *Agent) Beats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error {
	return agent.AnswerBeats(stream, a.Heartbeat)
}

// objects are controllers as package agent knows them.
func objects(cntlrs iter.Seq[*apiv1.CntlrSpec]) iter.Seq[agent.Object] {
	return func(yield func(agent.Object) bool) {
		for c := range cntlrs {
			if !yield(agent.Object{Key: c.Id, Kind: "cntlr", DA: c.DaId, Term: c.Term, Spec: c}) {
				return
			}
		}
	}
}

// Objects is agent.Set's.
func (s *set) Objects() iter.Seq[agent.Object] { return objects(maps.Values(s.cntlrs)) }

// Spec is agent.Set's.
func (s *set) Spec(key string) agent.Spec {
	if c := s.cntlrs[key]; c != nil {
		return c
	}
	return nil
}

// Vacant is agent.Set's.
func (s *set) Vacant() bool { return len(s.gone) == len(s.cntlrs) }

// Message is agent.Set's.
func (s *set) Message() proto.Message {
	if s.Vacant() {
		return nil
	}
	m := &apiv1.SyncCnRequest{AllowEmpty: s.allowEmpty}
	for _, id := range slices.Sorted(maps.Keys(s.cntlrs)) {
		m.Cntlrs = append(m.Cntlrs, s.cntlrs[id])
	}
	return m
}

// Sync takes a new desired set or changes of it.
func (a *Agent) Sync(ctx context.Context, req *apiv1.SyncCnRequest) (*apiv1.SyncReply, error) {
	reply, err := a.Node.Sync(ctx, req, func() error {
		if err := check(req); err != nil {
			return err
		}
		return a.CheckBackend(req.BackendListener)
	}, func() ([]agent.Ticket, error) { return a.accept(req) },
		"cntlrs", len(req.Cntlrs))
	if err == nil {
		a.showSnaps(reply.States)
		a.showGrps(req, reply.States)
	}
	return reply, err
}

// accept changes the desired set and puts the units to work.
func (a *Agent) accept(req *apiv1.SyncCnRequest) ([]agent.Ticket, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.set
	next, tickets, err := agent.Accept(a.Node, req, slices.Collect(objects(slices.Values(req.Cntlrs))), &old,
		func() *set { next := old.merge(req); return &next })
	if err != nil {
		return nil, err
	}
	a.set = *next
	a.restand()
	for i, c := range req.Cntlrs {
		for _, e := range c.Exps {
			tickets[i].IDs = append(tickets[i].IDs, e.EsId)
		}
		for _, s := range c.Snaps {
			tickets[i].IDs = append(tickets[i].IDs, s.Id)
		}
		tickets[i].IDs = append(tickets[i].IDs, joining(c)...)
	}
	return tickets, nil
}

// merge returns the set after a request.
func (s *set) merge(req *apiv1.SyncCnRequest) set {
	next := set{cntlrs: map[string]*apiv1.CntlrSpec{}, goneEs: map[string]bool{}, allowEmpty: req.AllowEmpty}
	if req.BaseVersion != 0 {
		next.cntlrs, next.allowEmpty = maps.Clone(s.cntlrs), s.allowEmpty
	}
	for _, c := range req.Cntlrs {
		next.cntlrs[c.Id] = remember(s.cntlrs[c.Id], c)
	}
	next.gone = s.gone.Still(func(id string) bool { c := next.cntlrs[id]; return c != nil && c.Deleted })
	for _, c := range next.cntlrs {
		for _, e := range c.Exps {
			if e.Deleted && s.goneEs[e.EsId] {
				next.goneEs[e.EsId] = true
			}
		}
	}
	next.inherit()
	next.claim(s.owners)
	return next
}

// remember returns a controller's new spec with what the old one had and the
// controller has to let go of: the groups of a former primary, and the
// exporters of one that is deleted.
func remember(old, c *apiv1.CntlrSpec) *apiv1.CntlrSpec {
	if old == nil || c.Primary && !c.Deleted {
		return c
	}
	c = withGrps(c, old.Grps)
	for _, e := range old.Exps {
		if c.Deleted && !slices.ContainsFunc(c.Exps, func(have *apiv1.ExpSpec) bool { return have.Id == e.Id }) {
			c.Exps = append(c.Exps, e)
		}
	}
	return c
}

// inherit has a secondary let go of what an earlier controller of its array,
// which is a tombstone by now, had as the primary on this node.
func (s *set) inherit() {
	grps := map[string][]*apiv1.GrpSpec{} // by da
	for _, c := range s.cntlrs {
		if c.Deleted && len(c.Grps) > 0 {
			grps[c.DaId] = append(grps[c.DaId], c.Grps...)
		}
	}
	for id, c := range s.cntlrs {
		if of := grps[c.DaId]; of != nil && !c.Deleted && !c.Primary {
			s.cntlrs[id] = withGrps(c, of)
		}
	}
}

// withGrps returns a copy of a spec that has more groups.
func withGrps(c *apiv1.CntlrSpec, more []*apiv1.GrpSpec) *apiv1.CntlrSpec {
	c = proto.CloneOf(c)
	for _, g := range more {
		if !slices.ContainsFunc(c.Grps, func(have *apiv1.GrpSpec) bool { return have.Id == g.Id }) {
			c.Grps = append(c.Grps, g)
		}
	}
	return c
}

// check refuses a request whose ids or NQNs could name what is not ours, or two
// things at once.
func check(req *apiv1.SyncCnRequest) error {
	var ids agent.IDs
	errs := []error{ids.Sender(req.ClusterId, req.NodeId)}
	for _, c := range req.Cntlrs {
		errs = append(errs, ids.Object("cntlrs.id", c.Id), ids.Ref("da_id", c.DaId))
		for _, g := range c.Grps {
			errs = append(errs, ids.Ref("grps.id", g.Id))
			for _, m := range slices.Concat(g.Mirrors, g.Columns) {
				errs = append(errs, ids.Ref("mirrors.id", m.Id))
			}
		}
		for _, v := range vdsOf(c) {
			errs = append(errs, ids.Ref("vd_id", v.VdId))
		}
		if s := c.Source; s != nil && (!strings.HasPrefix(s.Nqn, expNQN) || s.HostNqn != vda.CloneHostNQN(c.DaId) || len(s.Nqn) > nvme.NQNMax) {
			errs = append(errs, vda.Errorf(vda.InvalidArgument, "the source of da %s, nqn %q for host %q, is not one of a clone", c.DaId, s.Nqn,
				s.HostNqn))
		}
		for _, s := range c.Snaps {
			errs = append(errs, ids.Object("snaps.id", s.Id))
			if s.Clone != nil {
				errs = append(errs, ids.Ref("snaps.clone.of", s.Clone.Of))
			}
		}
		for _, e := range c.Exps {
			errs = append(errs, ids.Ref("exps.id", e.Id), ids.Object("es_id", e.EsId))
			if e.SnapId != "" {
				errs = append(errs, ids.Ref("snap_id", e.SnapId))
			}
			if hop := e.Backend && e.Nqn == vda.HopNQN(strings.TrimPrefix(e.Nqn, vda.HopNQNPrefix)); hop {
				errs = append(errs, ids.Ref("hop's exps.id", strings.TrimPrefix(e.Nqn, vda.HopNQNPrefix)))
			} else if !strings.HasPrefix(e.Nqn, expNQN) || len(e.Nqn) > nvme.NQNMax {
				errs = append(errs, vda.Errorf(vda.InvalidArgument, "nqn %q of exp %s must start with %s and have %d bytes at most",
					e.Nqn, e.Id, expNQN, nvme.NQNMax))
			}
		}
	}
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return nil
}

// sound returns what is wrong with a live controller's spec: reported for the
// controller, so that the others on the node are not held up.
func sound(c *apiv1.CntlrSpec) error {
	switch {
	case c.Primary && (len(c.Grps) == 0 || c.HostNqn == ""):
		return errors.New("the primary is given no grps or no host_nqn")
	case c.Primary && (c.Size == 0 || c.Size%(1<<20) != 0):
		return fmt.Errorf("size %d of the disk array must be a multiple of 1 MiB", c.Size)
	case !c.Primary && c.PrimaryListener == nil:
		return errors.New("the disk array has no primary at present")
	case c.MinCntlid == 0 || c.MaxCntlid < c.MinCntlid || c.MaxCntlid > nvme.MaxCNTLID:
		return fmt.Errorf("controller ids %d to %d must lie in 1 to %d", c.MinCntlid, c.MaxCntlid, nvme.MaxCNTLID)
	}
	for _, g := range c.Grps {
		if c.Primary && len(g.Vds) == 0 && len(g.Mirrors) == 0 {
			return fmt.Errorf("grp %s has no vds", g.Id)
		}
		if len(g.Vds) > 0 && len(g.Mirrors) > 0 {
			return fmt.Errorf("grp %s has vds beside mirrors", g.Id)
		}
		for _, m := range slices.Concat(g.Mirrors, g.Columns) {
			if err := soundMirror(m); err != nil {
				return fmt.Errorf("mirror %s of grp %s: %w", m.Id, g.Id, err)
			}
		}
		for i, m := range g.Columns {
			if len(g.Columns) != len(g.Vds) || len(m.Legs) != 1 || m.Legs[0].Vd.VdId != g.Vds[i].VdId {
				return fmt.Errorf("the columns of grp %s are not those of its vds", g.Id)
			}
		}
	}
	for _, v := range vdsOf(c) {
		if v.Listener == nil {
			return fmt.Errorf("vd %s has no listener", v.VdId)
		}
	}
	return nil
}

// soundMirror is sound for a mirror.
func soundMirror(m *apiv1.MirrorSpec) error {
	switch {
	case m.Gen == 0:
		return errors.New("gen is 0; it must be 1 at least")
	case m.DataSize == 0 || m.DataSize%4096 != 0:
		return fmt.Errorf("data_size %d must be a multiple of 4096 above 0", m.DataSize)
	case slices.ContainsFunc(m.Legs, func(l *apiv1.LegSpec) bool { return l.Vd == nil }):
		return errors.New("a leg has no vd")
	case len(legsIn(m, isMember)) == 0:
		return errors.New("none of its legs is a member")
	}
	return nil
}

// ids are the objects that a unit reports.
func (a *Agent) ids(key string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := []string{key}
	if c := a.set.cntlrs[key]; c != nil {
		for _, e := range c.Exps {
			ids = append(ids, e.EsId)
		}
		for _, s := range c.Snaps {
			ids = append(ids, s.Id)
		}
		ids = append(ids, joining(c)...)
	}
	return ids
}

// joining are the groups of a controller that are to become part of its array.
func joining(c *apiv1.CntlrSpec) (ids []string) {
	for _, g := range c.Grps {
		if g.Joining && c.Primary && !c.Deleted {
			ids = append(ids, g.Id)
		}
	}
	return ids
}

// pass is the Loop's.
func (a *Agent) pass(ctx context.Context, key string) agent.Result {
	if key == agent.PruneKey {
		return a.passPrune(ctx)
	}
	a.mu.Lock()
	c := a.set.cntlrs[key]
	gone := a.set.gone.Has(key)
	a.mu.Unlock()
	p := &pass{Agent: a, c: c}
	switch {
	case c == nil:
	case gone:
		p.allGone()
	default:
		p.run(ctx)
		if a.note(c, p.res.Gone) {
			a.Plane.Release(ctx)
		}
	}
	return p.res
}
