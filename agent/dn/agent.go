package dn

import (
	"context"
	"fmt"
	"io"
	"iter"
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

// Keys of units: a prefix and the object's id, or agent.PruneKey.
const (
	pdKey = "pd/"
	vdKey = "vd/"
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

	ailing    map[string]*ailing // by pd
	rewriting map[string]int     // by pd: vds that are being zeroed or cleared
	// By pd: what was said of its disk, and whether that was read and lacks
	// the pd's stamp.
	refused   map[string]refusal
	unstamped map[string]bool
	held      map[string]io.Closer // see hold
	glances   map[string]*glance   // looks at disks that are under way, by the ID's Now
	epochs    map[string]uint64    // by vd: of the host that is let in alone, once it is
}

// set is the desired set.
type set struct {
	cluster    string
	pds        map[string]*apiv1.PdSpec
	vds        map[string]*apiv1.VdSpec
	allowEmpty bool // the last full set said so
	gone       agent.Tombstones
}

// Start restores the desired set and begins work.
func Start(ctx context.Context, n *agent.Node) (*Agent, error) {
	a := &Agent{Node: n, zeroing: make(chan struct{}, maxZeroing), clearing: make(chan struct{}, maxClearing),
		caps: map[string]*apiv1.PdCapacity{}, full: map[string]time.Time{}, ailing: map[string]*ailing{},
		rewriting: map[string]int{},
		refused:   map[string]refusal{}, unstamped: map[string]bool{}, held: map[string]io.Closer{},
		glances: map[string]*glance{}, epochs: map[string]uint64{}}
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
	err := n.Restore(func() proto.Message { return &apiv1.SyncDnRequest{} }, func(req proto.Message) {
		a.set = a.set.merge(req.(*apiv1.SyncDnRequest))
	})
	if err != nil {
		return nil, err
	}
	a.set.cluster, _, _ = n.State.Identity()
	n.Begin(&a.mu, func() agent.Set { return &a.set }, agent.LoopConfig{Pass: a.pass, PassTimeout: 24 * time.Hour})
	n.Start(ctx)
	return a, nil
}

// Register adds the agent's service to a gRPC server.
func (a *Agent) Register(r grpc.ServiceRegistrar) { apiv1.RegisterDnAgentServer(r, a) }

// objects are pds and vds as package agent knows them.
func objects(pds iter.Seq[*apiv1.PdSpec], vds iter.Seq[*apiv1.VdSpec]) iter.Seq[agent.Object] {
	return func(yield func(agent.Object) bool) {
		for p := range pds {
			if !yield(agent.Object{Key: pdKey + p.Id, Kind: "pd", Spec: p}) {
				return
			}
		}
		for v := range vds {
			if !yield(agent.Object{Key: vdKey + v.Id, Kind: "vd", DA: v.DaId, Term: v.Term, Spec: v}) {
				return
			}
		}
	}
}

// Objects is agent.Set's.
func (s *set) Objects() iter.Seq[agent.Object] {
	return objects(maps.Values(s.pds), maps.Values(s.vds))
}

// Spec is agent.Set's.
func (s *set) Spec(key string) agent.Spec {
	kind, id, _ := strings.Cut(key, "/")
	if p := s.pds[id]; p != nil && kind+"/" == pdKey {
		return p
	}
	if v := s.vds[id]; v != nil && kind+"/" == vdKey {
		return v
	}
	return nil
}

// Vacant is agent.Set's.
func (s *set) Vacant() bool { return len(s.gone) == len(s.pds)+len(s.vds) }

// Message is agent.Set's.
func (s *set) Message() proto.Message {
	if s.Vacant() {
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
// have and which epoch its vds.
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
	for _, st := range reply.States {
		st.Epoch = a.epochs[st.Id]
	}
	return reply, nil
}

// accept changes the desired set and puts the units to work.
func (a *Agent) accept(req *apiv1.SyncDnRequest) ([]agent.Ticket, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.set
	// Versions come first; where they were forgotten, epochs are with them.
	if _, _, held := a.State.Identity(); held != 0 && req.Version >= held {
		if err := old.checkEpochs(req); err != nil {
			return nil, err
		}
	}
	next, tickets, err := agent.Accept(a.Node, req, slices.Collect(objects(slices.Values(req.Pds), slices.Values(req.Vds))), &old,
		func() *set { next := old.merge(req); return &next })
	if err != nil {
		return nil, err
	}
	a.set = *next
	for id := range old.pds {
		if next.pds[id] == nil {
			a.dropNotes(id)
		}
	}
	maps.DeleteFunc(a.epochs, func(id string, _ uint64) bool { return next.vds[id] == nil })
	return tickets, nil
}

// merge returns the set after a request.
func (s *set) merge(req *apiv1.SyncDnRequest) set {
	next := set{cluster: req.ClusterId, pds: map[string]*apiv1.PdSpec{}, vds: map[string]*apiv1.VdSpec{}, allowEmpty: req.AllowEmpty}
	if req.BaseVersion != 0 {
		next.pds, next.vds, next.allowEmpty = maps.Clone(s.pds), maps.Clone(s.vds), s.allowEmpty
	}
	for _, p := range req.Pds {
		next.pds[p.Id] = p
	}
	for _, v := range req.Vds {
		next.vds[v.Id] = v
	}
	next.gone = s.gone.Still(func(id string) bool {
		p, v := next.pds[id], next.vds[id]
		return p != nil && p.Deleted || v != nil && v.Deleted
	})
	return next
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
		errs = append(errs, checkEpoch(v))
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
		if a.NoteGone(a.set.gone, kind, id) {
			last = a.set.Vacant()
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
	return a.set.gone.Has(id)
}

// dropNotes forgets what was found about a pd that is gone. a.mu is held.
func (a *Agent) dropNotes(id string) {
	delete(a.caps, id)
	delete(a.refused, id)
	delete(a.unstamped, id)
	delete(a.full, id)
	delete(a.ailing, id)
	delete(a.epochs, id)
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
