package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

func TestLeaseOfACn(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "the array is up", func() bool { _, _, s := r.primary(da); return s })
		a := r.agents.Agent("cn0")
		left := func() time.Duration { return time.Until(a.LeasedUntil()) }
		time.Sleep(3 * time.Second)
		for range 40 {
			time.Sleep(100 * time.Millisecond)
			if l := left(); l < 500*time.Millisecond || l > 2*time.Second {
				t.Fatalf("%v of the lease are left", l)
			}
		}
		if l := time.Until(r.agents.Agent("dn0").LeasedUntil()); l > 0 {
			t.Errorf("a dn has a lease of %v", l)
		}

		// Without a database a monitor cannot know whether the node is still
		// its own.
		r.store.away.Store(true)
		time.Sleep(3*time.Second + 2*time.Second)
		if left() > 0 {
			t.Error("renewed on a stale picture")
		}
		r.store.away.Store(false)
		time.Sleep(3 * time.Second)
		if left() < 500*time.Millisecond {
			t.Error("not renewed although the database is back")
		}

		// A node that does not know what SQL says has no lease.
		a.Refuse(errors.New("busy"))
		r.update(func(tx store.Tx) error { _, err := tx.BumpNode(vda.ControllerNode, r.cns[0].ID); return err })
		time.Sleep(4 * time.Second)
		if left() > 0 {
			t.Error("renewed for a node that is behind")
		}
		a.Refuse(nil)
		r.within(31*time.Second, "it is renewed again", func() bool { return left() > 500*time.Millisecond })

		// A new primary is made when the old one's lease has run out.
		name, term, _ := r.primary(da)
		for range 8 {
			old := r.agents.Agent(name)
			old.Hang(true)
			r.within(6*time.Second, "it moves", func() bool { _, now, _ := r.primary(da); return now > term })
			if l := time.Until(old.LeasedUntil()); l > 0 {
				t.Errorf("there is a new primary while the old one's lease lasts %v", l)
			}
			old.Hang(false)
			r.within(20*time.Second, "all is well", func() bool { name, term, _ = r.primary(da); _, _, s := r.primary(da); return s })
			time.Sleep(2130 * time.Millisecond)
		}
	})
}

func TestCnLeaseMustBeBelowDetection(t *testing.T) {
	for lease, ok := range map[time.Duration]bool{0: true, time.Second: true, 2999 * time.Millisecond: true, 3 * time.Second: false,
		time.Microsecond: false, -1: false} {
		tm := Timing{CnLease: lease}
		if err := tm.validate(); (err == nil) != ok {
			t.Errorf("cn-lease %v: %v", lease, err)
		}
	}
	tm := Timing{}
	if err := tm.validate(); err != nil || tm.CnLease != 2*time.Second {
		t.Errorf("default %v, %v", tm.CnLease, err)
	}
}

// ear is how one monitor hears the agents, and reaches the other monitors.
type ear struct {
	*fakeagent.Cluster
	mu    sync.Mutex
	deaf  map[string]bool     // agents that it does not hear
	peers map[string]*Monitor // by where they serve
}

func (e *ear) setDeaf(addr string, on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf[addr] = on
}

func (e *ear) Cn(at vda.At) (apiv1.CnAgentClient, error) {
	c, err := e.Cluster.Cn(at)
	return &muffled{c, e, at.Addr}, err
}

// Monitor is syncer.Pool's.
func (e *ear) Monitor(addr string) (apiv1.MonitorClient, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.peers[addr]; m != nil {
		return peer{m}, nil
	}
	return nil, errors.New("connection refused")
}

type muffled struct {
	apiv1.CnAgentClient
	e    *ear
	addr string
}

// hear returns an error when ctx ends while the agent is not heard.
func (c *muffled) hear(ctx context.Context) error {
	c.e.mu.Lock()
	deaf := c.e.deaf[c.addr]
	c.e.mu.Unlock()
	if !deaf {
		return nil
	}
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

func (c *muffled) Heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest, opts ...grpc.CallOption) (*apiv1.HeartbeatReply, error) {
	if err := c.hear(ctx); err != nil {
		return nil, err
	}
	return c.CnAgentClient.Heartbeat(ctx, r, opts...)
}

type beatStream = grpc.BidiStreamingClient[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]

func (c *muffled) Beats(ctx context.Context, opts ...grpc.CallOption) (beatStream, error) {
	s, err := c.CnAgentClient.Beats(ctx, opts...)
	return muffledStream{s, c}, err
}

type muffledStream struct {
	beatStream
	c *muffled
}

func (s muffledStream) Recv() (*apiv1.HeartbeatReply, error) {
	if err := s.c.hear(s.Context()); err != nil {
		return nil, err
	}
	return s.beatStream.Recv()
}

type peer struct{ m *Monitor }

func (p peer) Hear(ctx context.Context, r *apiv1.HearRequest, _ ...grpc.CallOption) (*apiv1.HearReply, error) {
	return hearing{m: p.m}.Hear(ctx, r)
}

// TestDeafMonitor has one monitor cut off from a cn that the other one hears.
func TestDeafMonitor(t *testing.T) {
	inEmptyBubble(t, func(r *rig) {
		peers := map[string]*Monitor{}
		var ears []*ear
		var ms []*Monitor
		for i := range 2 {
			name := fmt.Sprintf("10.0.0.%d:9620", i)
			e := &ear{Cluster: r.agents, deaf: map[string]bool{}, peers: peers}
			m, err := New(Config{Store: r.store, Dial: e, Name: name, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			e.mu.Lock()
			peers[name] = m
			e.mu.Unlock()
			ears, ms = append(ears, e), append(ms, m)
		}
		ctx, cancel := context.WithCancel(r.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for _, m := range ms {
			wg.Go(func() { m.Run(ctx) })
		}
		r.within(20*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "the array is up", func() bool { _, _, s := r.primary(da); return s })
		time.Sleep(20 * time.Second) // two monitors share the nodes
		name, term, _ := r.primary(da)
		watcher := -1
		for i, m := range ms {
			m.mu.Lock()
			for _, n := range m.nodes {
				if n.at.Name == name {
					watcher = i
				}
			}
			m.mu.Unlock()
		}
		if watcher < 0 {
			t.Fatal("nobody watches the primary's cn")
		}
		// That the other hears it keeps the cn from being failed over.
		ears[watcher].setDeaf(name, true)
		time.Sleep(20 * time.Second)
		if at, now, _ := r.primary(da); at != name || now != term {
			t.Errorf("moved from %s to %s, term %d", name, at, now)
		}
		var msg string
		if err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
			cn, err := tx.NodeByName(vda.ControllerNode, name)
			msg = cn.Health.Msg
			return err
		}); err != nil || !strings.Contains(msg, "hears the node") {
			t.Errorf("health %q, %v", msg, err)
		}
		// When it is dead, both find out.
		r.agents.Agent(name).Hang(true)
		r.within(6*time.Second, "it moves", func() bool { _, now, _ := r.primary(da); return now > term })
		r.agents.Agent(name).Hang(false)
		ears[watcher].setDeaf(name, false)
	})
}
