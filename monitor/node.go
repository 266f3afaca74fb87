package monitor

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/syncer"
)

// node watches one node. Its goroutine owns mem and beats; view is written by the
// monitor's.
type node struct {
	m    *Monitor
	kind vda.NodeKind
	id   string
	at   vda.At

	cancel context.CancelFunc
	done   chan struct{}
	events chan Event // outcomes of steps; never full, see run

	mu     sync.Mutex
	view   NodeView
	down   bool // a copy of mem.Down, for others
	silent bool // and of mem.Silent
	seen   bool
	since  time.Time // when it went down
	lease  grants
	heard  peerReport
	// What the last reply says: primaries that have lost vds, mirrors of which
	// there is anything to say, and the epochs of vds.
	lost   []*apiv1.Unreached
	legs   []*array.LegsReport
	epochs map[string]uint64

	spaces      []array.SpaceReport   // of the last reply
	spacesAt    time.Time             // when that came
	spaceNoted  map[string]spaceNoted // by array
	notingSpace bool                  // noteSpace is under way

	settling  bool      // settleLegs is under way
	lackNoted time.Time // when NoteLack ran last
	// What it noted then, by array; settleLegs's own, of which one runs at a time.
	noted map[string]string
	// The legs that lacked something then; nil: the database may say so of others too.
	behind lacking

	// What the last reply said of clones, and noteClones of the time before; cloning is
	// whether one is under way.
	clones      []*array.CloneReport
	cloning     bool
	clonesNoted time.Time
	cloneNoted  map[string]string // its own, of which one runs at a time

	// What the last reply that had any said of refused calls, and which of those are in the audit
	// without that the agent knows; noteRefusals is under way.
	refusals       []*apiv1.Refusal
	refusalsTaken  []uint64
	notingRefusals bool

	mem        Memory
	beats      rpc.Beats
	heldAtBeat time.Duration // for how long the monitor had been held up when the last beat began
}

func (n *node) setView(v NodeView) {
	n.mu.Lock()
	n.view = v
	n.mu.Unlock()
}

// state returns whether the node is known to be up, or known to be down;
// neither before the first heartbeats.
func (n *node) state() (up, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen && !n.down, n.down
}

// run sends heartbeats and carries out steps until ctx ends.
func (n *node) run(ctx context.Context) {
	defer close(n.done)
	defer n.beats.Close()
	n.heldAtBeat = n.m.pulse.heldUp(time.Now())
	t := &n.m.cfg.Timing
	// Nodes do not beat all at once.
	timer := time.NewTimer(rand.N(t.Period/4) + 1)
	defer timer.Stop()
	var steps sync.WaitGroup
	defer steps.Wait()
	lost := make(chan struct{}, 1)
	if w, ok := n.m.cfg.Dial.(lostWaiter); ok {
		steps.Go(func() { n.watchConnection(ctx, w, lost) })
	}
	if w, ok := n.m.cfg.Dial.(planeWatcher); ok {
		steps.Go(func() { w.WatchDataPlane(ctx, n.at, service(n.kind), func() { signal(lost) }) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-n.events:
			n.handle(ctx, &steps, ev)
		case <-lost:
			// Don't wait for the next beat to learn what has happened.
			timer.Reset(0)
		case <-timer.C:
			begin := time.Now()
			b := n.beat(ctx)
			if ctx.Err() != nil {
				return
			}
			n.m.metrics.beat(n.kind, b, time.Since(begin))
			n.handle(ctx, &steps, b)
			timer.Reset(max(t.Period-time.Since(begin), 0))
		}
	}
}

// lostWaiter is a Dialer that knows when a connection breaks.
type lostWaiter interface {
	// WaitLost returns true when an agent's connection, which it may first
	// have to wait for, has broken, and false when ctx ended.
	WaitLost(ctx context.Context, at vda.At) bool
}

func (n *node) watchConnection(ctx context.Context, w lostWaiter, lost chan<- struct{}) {
	for w.WaitLost(ctx, n.at) {
		signal(lost)
	}
}

// planeWatcher is a Dialer whose agents say by themselves when their data plane
// was lost or is back.
type planeWatcher interface {
	// WatchDataPlane calls changed each time until ctx ends, and when a heartbeat
	// brings something that cannot wait. service is the agent's.
	WatchDataPlane(ctx context.Context, at vda.At, service string, changed func())
}

func service(k vda.NodeKind) string {
	if k == vda.DiskNode {
		return apiv1.DnAgent_ServiceDesc.ServiceName
	}
	return apiv1.CnAgent_ServiceDesc.ServiceName
}

// signal wakes the one that waits for c, now or later, once.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// beat sends one heartbeat.
func (n *node) beat(ctx context.Context) Beat {
	n.mu.Lock()
	req := &apiv1.HeartbeatRequest{ClusterId: n.view.ClusterID, NodeId: n.id, TakesRefusals: true, RefusalsTaken: n.refusalsTaken}
	n.mu.Unlock()
	n.grant(req)
	t := &n.m.cfg.Timing
	begin := time.Now()
	heldAtBegin := n.m.pulse.heldUp(begin)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := n.m.pulse.timeout(t.Timeout, cancel)
	agent, err := n.m.told(n.at, req)
	var reply *apiv1.HeartbeatReply
	if err == nil {
		reply, err = n.beats.Beat(lenient{ctx, begin.Add(t.Timeout)}, agent, req)
	}
	timedOut := stop()
	now := time.Now()
	if err == nil || n.mem.Misses+n.mem.Unsure == 0 { // else it is known that the node is silent
		n.m.beatsDone.Add(1)
		if now.Sub(begin) > t.Timeout/2 {
			n.m.beatsLate.Add(1)
		}
	}
	// Held up, for a quarter of a time-out or more, since the beat before began.
	heldUp := n.m.pulse.heldUp(now)-n.heldAtBeat >= t.Timeout/4
	n.heldAtBeat = heldAtBegin
	if err != nil {
		if timedOut {
			err = status.FromContextError(context.DeadlineExceeded).Err()
		}
		st, _ := status.FromError(err)
		b := Beat{Reason: syncer.Reason(err), Answered: true, HeldUp: heldUp}
		switch st.Code() {
		case codes.Unavailable:
			b.Answered, b.Refused = false, refused(st.Message(), heldUp)
		case codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted: // the last: it is too busy
			b.Answered = false
		}
		b.HeardBy = n.heardBy()
		return b
	}
	n.answered(reply, now)
	n.handed(req, reply)
	b := Beat{Answered: true, HeldUp: heldUp, ClusterID: reply.ClusterId, Version: reply.Version, Errors: map[string]string{},
		AgentStart: reply.AgentStartId, PlaneStart: reply.DataPlaneStartId, PlaneOK: reply.DataPlaneOk, PlaneSilent: reply.DataPlaneSilent,
		PlaneReason: reply.DataPlaneMsg, DataPlaneVersion: reply.DataPlaneVersion, AgentVersion: reply.AgentVersion,
		CanMirror: reply.CanMirror, CanAuth: reply.CanAuth, CanReserve: reply.CanReserve}
	for _, s := range reply.States {
		if s.Error {
			b.Errors[s.Id] = s.ErrorMsg
		}
	}
	return b
}

// refused reports that a failed connection shows that no agent is there. While the monitor is
// held up, one that the agent gave up may have waited for the monitor.
func refused(msg string, heldUp bool) bool {
	if heldUp {
		return strings.Contains(msg, "refused")
	}
	return !silent(msg)
}

// silent reports that a failed connection says no more than that nobody
// answered, or that this side closed it before. gRPC has one code for that and for a
// refusal.
func silent(msg string) bool {
	return slices.ContainsFunc([]string{"timeout", "timed out", "deadline exceeded", "keepalive", "no route",
		"use of closed network connection"},
		func(s string) bool { return strings.Contains(msg, s) })
}

// handle lets Plan decide and starts its steps. At most one Sync and one
// report are under way, so at most two outcomes wait in events.
func (n *node) handle(ctx context.Context, running *sync.WaitGroup, ev Event) {
	n.mu.Lock()
	view := n.view
	n.mu.Unlock()
	mem, steps := Plan(&n.m.cfg.Timing, time.Now(), view, n.mem, ev)
	n.mem = mem
	n.mu.Lock()
	if mem.Down && !n.down {
		n.since = time.Now()
	}
	n.down, n.silent, n.seen = mem.Down, mem.Down && mem.Silent, mem.Seen || mem.Down
	n.mu.Unlock()
	if b, isBeat := ev.(Beat); isBeat && !b.Answered && !b.Refused && mem.Misses >= n.m.cfg.Timing.Misses/2 {
		n.inquire(ctx, running)
	}
	n.startSettling(ctx, running)
	n.startNotingSpace(ctx, running)
	n.startCloning(ctx, running.Go)
	n.startNotingRefusals(ctx, running)
	for _, s := range steps {
		switch s := s.(type) {
		case DownStep:
			n.m.log.Warn("node is down", "kind", n.kind, "node", n.at.Name, "reason", s.Reason)
			n.m.nodeDown(n)
		case UpStep:
			n.m.log.Info("node is up", "kind", n.kind, "node", n.at.Name)
		case SyncStep:
			running.Go(func() { n.events <- n.sync(ctx, s) })
		case ReportStep:
			running.Go(func() { n.events <- n.report(ctx, s.Report) })
		}
	}
}

// startSettling starts settleLegs when the last reply asks for it.
func (n *node) startSettling(ctx context.Context, running *sync.WaitGroup) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down || n.settling || !n.hasLacksLocked() {
		return
	}
	n.settling = true
	running.Go(func() {
		defer func() {
			n.mu.Lock()
			n.settling = false
			n.mu.Unlock()
		}()
		n.settleLegs(ctx)
	})
}

func (n *node) sync(ctx context.Context, s SyncStep) Synced {
	if n.m.gate.enter(ctx, s.Due) != nil {
		return Synced{Full: s.Full, Failed: true}
	}
	defer n.m.gate.leave()
	scope := syncer.Changes
	if s.Full {
		scope = syncer.Full
	}
	ctx = rpc.WithRequestID(ctx, rpc.NewRequestID())
	err := n.m.syncer.Sync(ctx, array.Node{Kind: n.kind, ID: n.id}, scope)
	n.m.metrics.sync(n.kind, s.Full, err)
	n.m.log.Debug("sync", "req_id", rpc.RequestID(ctx), "kind", n.kind, "node", n.at.Name, "full", s.Full, "why", s.Why, "err", err)
	return Synced{Full: s.Full, Failed: err != nil, Reason: syncer.Refusal(err)}
}

func (n *node) report(ctx context.Context, r syncer.Report) Reported {
	err := n.m.file(ctx, array.Node{Kind: n.kind, ID: n.id}, r)
	if err != nil && ctx.Err() == nil {
		n.m.metrics.storeErrors.Inc()
		n.m.log.Warn("health is not written", "kind", n.kind, "node", n.at.Name, "err", err)
	}
	return Reported{Fingerprint: r.Fingerprint(), Failed: err != nil}
}
