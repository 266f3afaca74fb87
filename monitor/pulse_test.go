package monitor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// reader reads the answers to heartbeats, when it is not held up.
type reader struct {
	*fakeagent.Cluster
	mu   sync.Mutex
	held chan struct{} // closed when it goes on; nil: it is not held up
}

// wait returns when the reader is not held up.
func (r *reader) wait(ctx context.Context) error {
	for {
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// holdUp lets nothing of the monitor run, but for timers, until the returned function is called.
func (r *reader) holdUp() (goOn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = make(chan struct{})
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		close(r.held)
		r.held = nil
	}
}

func (r *reader) Dn(at vda.At) (apiv1.DnAgentClient, error) {
	c, err := r.Cluster.Dn(at)
	return &lateDn{c, r}, err
}

func (r *reader) Cn(at vda.At) (apiv1.CnAgentClient, error) {
	c, err := r.Cluster.Cn(at)
	return &lateCn{c, r}, err
}

type lateDn struct {
	apiv1.DnAgentClient
	r *reader
}

func (c *lateDn) Heartbeat(ctx context.Context, req *apiv1.HeartbeatRequest, opts ...grpc.CallOption) (*apiv1.HeartbeatReply, error) {
	reply, err := c.DnAgentClient.Heartbeat(ctx, req, opts...)
	return reply, errors.Join(err, c.r.wait(ctx))
}

type lateCn struct {
	apiv1.CnAgentClient
	r *reader
}

func (c *lateCn) Heartbeat(ctx context.Context, req *apiv1.HeartbeatRequest, opts ...grpc.CallOption) (*apiv1.HeartbeatReply, error) {
	reply, err := c.CnAgentClient.Heartbeat(ctx, req, opts...)
	return reply, errors.Join(err, c.r.wait(ctx))
}

// TestHeldUpMonitorJudgesNobody: a monitor that does not come to read its nodes' answers, be
// it once for long or again and again, takes none of them for dead. A node that is dead is found
// within the usual time when it runs again, and at last even while it does not.
func TestHeldUpMonitorJudgesNobody(t *testing.T) {
	inEmptyBubble(t, func(r *rig) {
		ears := &reader{Cluster: r.agents}
		m, err := New(Config{Store: r.store, Dial: ears, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		m.hold = func() { _ = ears.wait(r.Context()) }
		ctx, cancel := context.WithCancel(r.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { m.Run(ctx) })
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "the array is up", func() bool { _, _, s := r.primary(da); return s })
		time.Sleep(5 * time.Second)
		at, term, _ := r.primary(da)
		well := func(when string) {
			t.Helper()
			if now, is, _ := r.primary(da); now != at || is != term {
				t.Errorf("%s: the array has moved from %s to %s", when, at, now)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, n := range m.nodes {
				if _, down := n.state(); down {
					t.Errorf("%s: %s is taken for dead", when, n.at.Name)
				}
			}
		}
		goOn := ears.holdUp()
		time.Sleep(10 * time.Second) // more than three times what makes a node dead
		well("held up")
		goOn()
		time.Sleep(2 * time.Second)
		well("after it")
		limp := func() { // of a second, it runs for a quarter
			goOn := ears.holdUp()
			time.Sleep(750 * time.Millisecond)
			goOn()
			time.Sleep(250 * time.Millisecond)
		}
		for range 40 {
			limp()
		}
		well("held up again and again")
		if _, limit := m.gate.now(); limit > 2 {
			t.Errorf("%d Syncs may be under way while the monitor is held up", limit)
		}

		time.Sleep(2 * time.Second)
		r.agents.Agent(at).Hang(true)
		r.within(6*time.Second, "a dead node is found", func() bool { _, now, _ := r.primary(da); return now > term })
		r.agents.Agent(at).Hang(false)
		r.within(20*time.Second, "all is well", func() bool { _, _, s := r.primary(da); return s })
		time.Sleep(5 * time.Second)
		if _, limit := m.gate.now(); limit != m.cfg.Parallel {
			t.Errorf("%d Syncs may be under way again, of %d", limit, m.cfg.Parallel)
		}
		at, term, _ = r.primary(da)
		r.agents.Agent(at).Hang(true)
		defer r.agents.Agent(at).Hang(false)
		r.within(time.Minute, "a dead node is found by one that is held up", func() bool {
			limp()
			_, now, _ := r.primary(da)
			return now > term
		})
	})
}

// TestSilentNodesLeaveRoomForSyncs: as when a rack dies. That many nodes do not answer says nothing
// of the monitor, whose Syncs of the others have more to do then, not less.
func TestSilentNodesLeaveRoomForSyncs(t *testing.T) {
	inEmptyBubble(t, func(r *rig) {
		m, stop := r.another(r.store)
		defer stop()
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		r.within(time.Minute, "as many Syncs as there may be", func() bool { _, limit := m.gate.now(); return limit == m.cfg.Parallel })
		for _, name := range []string{"dn1", "cn1", "cn2"} {
			r.agents.Agent(name).Hang(true)
			defer r.agents.Agent(name).Hang(false)
		}
		time.Sleep(20 * time.Second)
		if _, limit := m.gate.now(); limit != m.cfg.Parallel {
			t.Errorf("%d Syncs may be under way, of %d", limit, m.cfg.Parallel)
		}
	})
}

// TestPulse: what counts as held up, and what that adds to a time-out.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		p := newPulse(begin)
		var passed []time.Duration
		stop := p.timeout(400*time.Millisecond, func() { passed = append(passed, time.Since(begin)) })
		beat := func(after time.Duration) {
			time.Sleep(after)
			synctest.Wait()
			p.beat(time.Now())
		}
		beat(pulsePeriod)
		beat(pulsePeriod + pulseSlack) // no more than machines do
		if d := p.heldUp(time.Now()); d != 0 {
			t.Errorf("held up for %v", d)
		}
		beat(pulsePeriod + 300*time.Millisecond)
		if d := p.heldUp(time.Now()); d != 300*time.Millisecond {
			t.Errorf("held up for %v, it was 300 ms", d)
		}
		for range 20 {
			beat(pulsePeriod)
		}
		if len(passed) != 1 || passed[0] != 700*time.Millisecond || !stop() {
			t.Errorf("a time-out of 400 ms with 300 in between passed after %v", passed)
		}
		// A stop that lasts is known before it has ended, and is not waited for without end.
		begin, passed = time.Now(), nil
		stop = p.timeout(400*time.Millisecond, func() { passed = append(passed, time.Since(begin)) })
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if len(passed) != 0 || p.heldUp(time.Now()) != 1750*time.Millisecond {
			t.Errorf("passed %v, held up for %v", passed, p.heldUp(time.Now()))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(passed) != 1 || passed[0] != maxStretch*400*time.Millisecond || !stop() {
			t.Errorf("passed %v", passed)
		}
		if stop = p.timeout(time.Second, func() { t.Error("called although it was stopped") }); stop() {
			t.Error("it was called")
		}
		time.Sleep(10 * time.Second)
	})
}

// TestRefused: which failures of a connection prove that no agent is there.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		msg          string
		well, heldUp bool // refused says that of a monitor that is well, and of one that is held up
	}{
		{`connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:9720: connect: connection refused"`, true, true},
		{`connection error: desc = "error reading server preface: read tcp 10.0.0.2:4->10.0.0.1:9720: read: connection reset by peer"`, true, false},
		{`connection error: desc = "error reading server preface: EOF"`, true, false},
		{`connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:9720: i/o timeout"`, false, false},
		{`connection error: desc = "error reading server preface: raw-control tcp 10.0.0.1:9720: use of closed network connection"`, false, false},
	} {
		if well, heldUp := refused(c.msg, false), refused(c.msg, true); well != c.well || heldUp != c.heldUp {
			t.Errorf("%s: %v, %v while held up", c.msg, well, heldUp)
		}
	}
}
