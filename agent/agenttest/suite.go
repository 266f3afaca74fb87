package agenttest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

const (
	cluster = "c1057e00000000000000000000000001"
	other   = "c1057e00000000000000000000000002"
	node    = "d0000000000000000000000000000001"
	node2   = "d0000000000000000000000000000002"
	da      = "da000000000000000000000000000001"
	da2     = "da000000000000000000000000000002"
	one     = "b0000000000000000000000000000001"
	two     = "b0000000000000000000000000000002"
	three   = "b0000000000000000000000000000003"
)

// Agent is an agent of either kind, asked in the same words. Calls are those of
// the service and may run over gRPC or not.
type Agent interface {
	// Sync carries out a request for objects of the kind that the agent is
	// about: vds of a dn, controllers of a cn.
	Sync(context.Context, Request) (*apiv1.SyncReply, error)
	Heartbeat(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error)
	Beats(grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error
	// Orphans returns the ids of the orphans of that kind, sorted.
	Orphans(context.Context, *apiv1.OrphansRequest) ([]string, error)
	// Restart ends the agent's process and starts another on what it kept.
	Restart()
}

// Request is a Sync. Base 0 is a full set.
type Request struct {
	Cluster, Node string
	Version, Base uint64
	Marks         vda.VersionMarks
	AllowEmpty    bool
	Objects       []Object
}

// Object is a vd or a controller.
type Object struct {
	ID, DA  string
	Term    uint64
	Epoch   uint64 // of a vd
	Deleted bool
}

// Run runs the suite. start makes an agent that belongs to no cluster.
func Run(t *testing.T, start func(t *testing.T) Agent) {
	for _, c := range []struct {
		name string
		run  func(s *subject)
	}{
		{"identity", identity},
		{"versions", versions},
		{"marks", marks},
		{"terms", terms},
		{"epochs", epochs},
		{"tombstones", tombstones},
		{"orphans", orphans},
		{"allow_empty", allowEmpty},
		{"far ahead", farAhead},
		{"heartbeat", heartbeat},
		{"beats", beats},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &subject{T: t, a: start(t)}
			c.run(s)
		})
	}
}

// subject is an agent in a test.
type subject struct {
	*testing.T
	a Agent
}

// set is a request for a full set.
func set(version uint64, objects ...Object) Request {
	return Request{Cluster: cluster, Node: node, Version: version, Objects: objects}
}

// delta is a request for changes.
func delta(base, version uint64, objects ...Object) Request {
	r := set(version, objects...)
	r.Base = base
	return r
}

func live(id string, term uint64) Object { return Object{ID: id, DA: da, Term: term} }
func gone(id string, term uint64) Object { return Object{ID: id, DA: da, Term: term, Deleted: true} }

func (s *subject) sync(r Request) (*apiv1.SyncReply, error) {
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	return s.a.Sync(ctx, r)
}

// takes has the agent carry out a request, and checks that the reply has its
// version and a state for each object.
func (s *subject) takes(what string, r Request) map[string]*apiv1.ObjectState {
	s.Helper()
	reply, err := s.sync(r)
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	if reply.Version != r.Version {
		s.Errorf("%s: the reply has version %d, not %d", what, reply.Version, r.Version)
	}
	states := map[string]*apiv1.ObjectState{}
	for _, st := range reply.States {
		states[st.Id] = st
	}
	for _, o := range r.Objects {
		if st := states[o.ID]; st == nil {
			s.Errorf("%s: the reply says nothing of %s", what, o.ID)
		} else if st.Gone != o.Deleted {
			s.Errorf("%s: %s is reported gone %v: %s", what, o.ID, st.Gone, st.ErrorMsg)
		}
	}
	return states
}

// refuses checks that a request is refused and has changed nothing. A refusal
// of a version says which one is held, any other says none.
func (s *subject) refuses(what string, r Request, code codes.Code, stale bool) {
	s.Helper()
	before := s.version()
	_, err := s.sync(r)
	if status.Code(err) != code {
		s.Fatalf("%s: %v, not %v", what, err, code)
	}
	var held *apiv1.SyncReply
	for _, d := range status.Convert(err).Details() {
		held, _ = d.(*apiv1.SyncReply)
	}
	switch {
	case stale && held == nil:
		s.Errorf("%s: the refusal does not say which version is held: %v", what, err)
	case !stale && held != nil:
		s.Errorf("%s: the refusal asks for another version: %v", what, err)
	case held != nil && r.Node == node && held.Version != before:
		s.Errorf("%s: the refusal says that version %d is held, a heartbeat %d", what, held.Version, before)
	}
	if after := s.version(); after != before {
		s.Errorf("%s: version %d became %d", what, before, after)
	}
}

func (s *subject) beat(cluster, node string) (*apiv1.HeartbeatReply, error) {
	return s.a.Heartbeat(s.Context(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: node})
}

// version returns the version that a heartbeat shows, 0 before there is one.
func (s *subject) version() uint64 {
	s.Helper()
	r, err := s.beat(cluster, node)
	if err != nil {
		s.Fatalf("heartbeat: %v", err)
	}
	return r.Version
}

func (s *subject) hasOrphans(what string, ids ...string) {
	s.Helper()
	got, err := s.a.Orphans(s.Context(), &apiv1.OrphansRequest{ClusterId: cluster, NodeId: node})
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	if !slices.Equal(got, ids) {
		s.Errorf("%s: orphans %v, not %v", what, got, ids)
	}
}

// marks: a version that is another one than the agent holds is of a database
// that was restored, and what the agent has is left alone.
func marks(s *subject) {
	mark := func(r Request, marks ...vda.VersionMark) Request {
		r.Marks = marks
		return r
	}
	a1, a2, b2, b3 := vda.VersionMark{Version: 1, Mark: "a1"}, vda.VersionMark{Version: 2, Mark: "a2"},
		vda.VersionMark{Version: 2, Mark: "b2"}, vda.VersionMark{Version: 3, Mark: "b3"}
	s.takes("the first set", mark(set(1, live(one, 1)), a1))
	s.takes("a change", mark(delta(1, 2, live(two, 1)), a1, a2))
	s.takes("the change again", mark(delta(1, 2, live(two, 1)), a1, a2))
	s.a.Restart()
	for range 2 {
		s.refuses("the same version of a restored database", mark(set(2, live(one, 1)), a1, b2), codes.FailedPrecondition, false)
		s.refuses("a later version of it", mark(set(3, live(one, 1)), a1, b2, b3), codes.FailedPrecondition, false)
		s.refuses("a change of it", mark(delta(1, 3, live(three, 1)), a1, b2, b3), codes.FailedPrecondition, false)
		s.takes("the set that is held", mark(set(2, live(one, 1), live(two, 1)), a1, a2))
		s.a.Restart()
	}
	s.takes("a database that is the truth by the operator's word", set(1<<33, live(one, 1)))
	s.takes("its next change", mark(delta(1<<33, 1<<33+1, live(two, 1)), vda.VersionMark{Version: 1<<33 + 1, Mark: "c1"}))
	s.takes("a portal without marks", delta(1<<33+1, 1<<33+2, live(two, 1)))
	s.takes("one with marks again", mark(delta(1<<33+2, 1<<33+3, live(two, 1)),
		vda.VersionMark{Version: 1<<33 + 2, Mark: "c2"}, vda.VersionMark{Version: 1<<33 + 3, Mark: "c3"}))
}

func identity(s *subject) {
	r := set(1, live(one, 1))
	r.Cluster = ""
	s.refuses("no cluster", r, codes.InvalidArgument, false)
	r = delta(1, 2, live(one, 1))
	s.refuses("a delta at first", r, codes.FailedPrecondition, true)
	s.takes("the first set", set(1, live(one, 1)))
	for range 2 {
		r = set(2, live(one, 1))
		r.Cluster = other
		s.refuses("another cluster", r, codes.FailedPrecondition, false)
		r = set(2, live(one, 1))
		r.Node = node2
		s.refuses("another node, while it holds objects", r, codes.FailedPrecondition, false)
		s.a.Restart()
	}
	s.takes("a tombstone", delta(1, 2, gone(one, 1)))
	r = delta(2, 3, live(two, 1))
	r.Node = node2
	s.refuses("a delta of another node", r, codes.FailedPrecondition, true)
	r = set(1, live(two, 1)) // versions start over
	r.Node = node2
	s.takes("another node, as it holds nothing", r)
	r = set(9, live(one, 1))
	if _, err := s.sync(r); status.Code(err) != codes.FailedPrecondition {
		s.Errorf("the former node: %v", err)
	}
}

func versions(s *subject) {
	s.takes("a set", set(5, live(one, 1)))
	for range 2 {
		s.refuses("an older set", set(4, live(one, 1)), codes.FailedPrecondition, true)
		s.refuses("a delta on more than it holds", delta(6, 7, live(two, 1)), codes.FailedPrecondition, true)
		s.takes("the same set", set(5, live(one, 1)))
		s.a.Restart()
	}
	s.takes("a delta", delta(5, 6, live(two, 1)))
	s.takes("the same delta", delta(5, 6, live(two, 1)))
	s.takes("a delta on less than it holds", delta(4, 8, live(two, 1)))
	s.takes("a delta without objects", delta(8, 9))
	s.a.Restart()
	if v := s.version(); v != 9 {
		s.Errorf("version %d after a restart, not 9", v)
	}
}

func terms(s *subject) {
	s.takes("a set", set(1, live(one, 3), Object{ID: two, DA: da2, Term: 1}))
	for range 2 {
		s.refuses("a lower term", delta(1, 2, live(one, 2)), codes.FailedPrecondition, false)
		s.refuses("a lower term in a set", set(2, live(one, 2)), codes.FailedPrecondition, false)
		s.a.Restart()
	}
	s.takes("a tombstone, whatever its term", delta(1, 2, gone(one, 1)))
	s.refuses("a lower term after the tombstone", delta(2, 3, live(three, 2)), codes.FailedPrecondition, false)
	s.takes("a set without the array", set(3, Object{ID: two, DA: da2, Term: 1}))
	s.refuses("a lower term while the last set but one had the array", delta(3, 4, live(three, 2)), codes.FailedPrecondition, false)
	s.takes("another set without it", set(4, Object{ID: two, DA: da2, Term: 1}))
	s.takes("any term of a new array", delta(4, 5, live(three, 1)))
}

// epochs: a dn takes a later one and says so; it goes back to no earlier one of
// the same term.
func epochs(s *subject) {
	if _, is := s.a.(*Dn); !is {
		return // others have no vds of their own
	}
	leg := func(term, epoch uint64) Object { return Object{ID: one, DA: da, Term: term, Epoch: epoch} }
	has := func(what string, states map[string]*apiv1.ObjectState, epoch uint64) {
		s.Helper()
		if states != nil && states[one].Epoch != epoch {
			s.Errorf("%s: the reply says epoch %d, not %d", what, states[one].Epoch, epoch)
		}
		want := map[string]uint64{one: epoch}
		if epoch == 0 {
			delete(want, one)
		}
		// After a restart of the agent it is known once the vd was looked at.
		for {
			r, err := s.beat(cluster, node)
			if err != nil {
				s.Fatalf("%s: heartbeat: %v", what, err)
			}
			if maps.Equal(r.VdEpochs, want) {
				return
			}
			if states != nil || len(r.VdEpochs) > 0 || s.Context().Err() != nil {
				s.Fatalf("%s: the heartbeat says epochs %v, not %v", what, r.VdEpochs, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	has("never dropped", s.takes("a set", set(1, leg(3, 0), live(two, 3))), 0)
	has("dropped", s.takes("the next epoch", delta(1, 2, leg(3, 1))), 1)
	has("again, with epochs between", s.takes("a later epoch", delta(2, 3, leg(3, 4))), 4)
	for range 2 {
		s.refuses("an earlier epoch", delta(3, 4, leg(3, 3)), codes.FailedPrecondition, false)
		s.refuses("an earlier epoch in a set", set(4, leg(3, 0)), codes.FailedPrecondition, false)
		s.refuses("an earlier version with its epoch", set(2, leg(3, 1)), codes.FailedPrecondition, true)
		has("what was refused", s.takes("the same epoch", delta(3, 3, leg(3, 4))), 4)
		s.a.Restart()
		has("after a restart", nil, 4)
	}
	has("another term", s.takes("the epoch stays", delta(3, 4, leg(4, 4))), 4)
	has("a restored database", s.takes("terms are counted first", delta(4, 5, leg(5, 1))), 1)
	s.takes("a tombstone, whatever its epoch", delta(5, 6, gone(one, 5)))
	has("deleted", nil, 0)
}

func tombstones(s *subject) {
	s.takes("a set", set(1, live(one, 1), live(two, 1)))
	s.takes("a tombstone", delta(1, 2, gone(one, 1)))
	s.takes("the same again", delta(1, 2, gone(one, 1)))
	s.a.Restart()
	s.takes("the same again after a restart", delta(1, 2, gone(one, 1)))
	s.takes("in a full set", set(3, gone(one, 1), live(two, 1)))
	s.takes("one that it never had", delta(3, 4, gone(three, 1)))
	s.hasOrphans("what was deleted")
	s.takes("a set without it", set(5, live(two, 1)))
	s.hasOrphans("a tombstone that is no longer named")
}

func orphans(s *subject) {
	if _, err := s.a.Orphans(s.Context(), &apiv1.OrphansRequest{ClusterId: cluster,
		NodeId: node}); status.Code(err) != codes.FailedPrecondition {
		s.Errorf("of an agent that belongs to no cluster: %v", err)
	}
	s.takes("a set", set(1, live(one, 1), live(two, 1)))
	s.hasOrphans("all are named")
	s.takes("a delta without one", delta(1, 2, live(two, 1)))
	s.hasOrphans("a delta names changes only")
	s.takes("a set without one", set(3, live(two, 1)))
	for range 2 {
		s.hasOrphans("not named any more", one)
		s.a.Restart()
	}
	s.takes("named again", delta(3, 4, live(one, 1)))
	s.hasOrphans("named again")
	s.takes("a set without one", set(5, live(two, 1)))
	s.takes("a tombstone of an orphan", delta(5, 6, gone(one, 1)))
	s.hasOrphans("deleted")
	for _, r := range []*apiv1.OrphansRequest{{ClusterId: other, NodeId: node}, {ClusterId: cluster, NodeId: node2}} {
		if _, err := s.a.Orphans(s.Context(), r); status.Code(err) != codes.FailedPrecondition {
			s.Errorf("of %v: %v", r, err)
		}
	}
}

func allowEmpty(s *subject) {
	s.takes("an empty set, where nothing is", set(1))
	s.takes("a set", set(2, live(one, 1)))
	s.refuses("an empty set", set(3), codes.FailedPrecondition, false)
	s.a.Restart()
	s.refuses("an empty set after a restart", set(3), codes.FailedPrecondition, false)
	s.refuses("a set of one tombstone, of another object", set(3, gone(two, 1)), codes.FailedPrecondition, false)
	r := set(3)
	r.AllowEmpty = true
	s.takes("an empty set that is meant", r)
	s.hasOrphans("emptied", one)
}

func farAhead(s *subject) {
	s.takes("a set", set(5, live(one, 2)))
	s.refuses("a version that no portal has given", set(1<<64-1, live(one, 2)), codes.FailedPrecondition, false)
	s.refuses("a delta to one", delta(5, 1<<63, live(one, 2)), codes.FailedPrecondition, false)
	s.refuses("a term that no portal has given", delta(5, 6, live(one, 1<<64-1)), codes.FailedPrecondition, false)
	s.takes("the next of both", delta(5, 6, live(one, 3)))
}

func heartbeat(s *subject) {
	beat := func(what, c, n string) *apiv1.HeartbeatReply {
		s.Helper()
		r, err := s.beat(c, n)
		if err != nil {
			s.Fatalf("%s: %v", what, err)
		}
		return r
	}
	r := beat("of no cluster", cluster, node)
	if r.ClusterId != "" || r.Version != 0 || r.AgentStartId == "" || r.DataPlaneStartId == "" || !r.DataPlaneOk {
		s.Errorf("before the first set: %v", r)
	}
	s.takes("a set", set(7, live(one, 1)))
	first := beat("of its node", cluster, node)
	if first.ClusterId != cluster || first.Version != 7 {
		s.Errorf("after a set: %v", first)
	}
	if _, err := s.beat(other, node); status.Code(err) != codes.FailedPrecondition {
		s.Errorf("of another cluster: %v", err)
	}
	if _, err := s.beat(cluster, node2); status.Code(err) != codes.FailedPrecondition {
		s.Errorf("of another node, while it holds objects: %v", err)
	}
	s.a.Restart()
	if again := beat("after a restart", cluster, node); again.AgentStartId == first.AgentStartId ||
		again.DataPlaneStartId != first.DataPlaneStartId || again.Version != 7 {
		s.Errorf("after a restart of the agent alone: %v", again)
	}
	s.takes("a tombstone", delta(7, 8, gone(one, 1)))
	if r := beat("of a node that it may become", cluster, node2); r.Version != 0 {
		s.Errorf("version %d is another node's", r.Version)
	}
}
