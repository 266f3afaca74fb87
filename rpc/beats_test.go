package rpc

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
)

// beaten is an agent in tests of heartbeats.
type beaten struct {
	apiv1.UnimplementedDnAgentServer
	heartbeat func(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error)
	plain     atomic.Bool          // it has no stream
	streams   atomic.Int32         // that were opened
	calls     atomic.Int32         // of Heartbeat
	opened    chan context.Context // of streams, which ends when these are to; nil: nobody asks
}

func (b *beaten) Heartbeat(ctx context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	b.calls.Add(1)
	return b.heartbeat(ctx, req)
}

func (b *beaten) Beats(s grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error {
	if b.plain.Load() {
		return b.UnimplementedDnAgentServer.Beats(s)
	}
	b.streams.Add(1)
	if b.opened != nil {
		b.opened <- s.Context()
	}
	return AnswerBeats(s, b.heartbeat)
}

// serveBeats serves an agent, and returns a client of it.
func serveBeats(t *testing.T, b *beaten, change func(*Config), how DialConfig) (*rig, apiv1.DnAgentClient) {
	r := serve(t, func(c *Config) {
		c.Services = func(s grpc.ServiceRegistrar) { apiv1.RegisterDnAgentServer(s, b) }
		c.Limits.Lasting = []string{"Beats"}
		if change != nil {
			change(c)
		}
	})
	return r, apiv1.NewDnAgentClient(r.dial(how))
}

func beat(t *testing.T, b *Beats, to Beating) (*apiv1.HeartbeatReply, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return b.Beat(ctx, to, &apiv1.HeartbeatRequest{NodeId: "n"})
}

// TestBeatsShareAStream: beats go over one stream, whose replies leave out what is as before; Config.Intercept sees
// each; an error is that of its beat alone.
func TestBeatsShareAStream(t *testing.T) {
	var n, seen atomic.Int32
	var bad atomic.Bool
	agent := &beaten{heartbeat: func(ctx context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) > 2*time.Minute {
			t.Errorf("the agent may take until %v", at)
		}
		if bad.Load() {
			return nil, status.Error(codes.FailedPrecondition, "another cluster")
		}
		i := uint64(n.Add(1))
		return &apiv1.HeartbeatReply{Version: 1 + i/3, AgentStartId: "a", LeaseStamp: i, VdEpochs: map[string]uint64{"x": 1, "y": 2, "z": 3}}, nil
	}}
	_, to := serveBeats(t, agent, func(c *Config) {
		c.Intercept = func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			resp, err := handle(ctx, req)
			if reply, ok := resp.(*apiv1.HeartbeatReply); ok && err == nil && info.FullMethod == apiv1.DnAgent_Beats_FullMethodName {
				reply.Refusals = []*apiv1.Refusal{{Seq: uint64(seen.Add(1))}}
			}
			return resp, err
		}
	}, DialConfig{})
	var b Beats
	defer b.Close()
	for i := uint64(1); i < 8; i++ {
		got, err := beat(t, &b, to)
		if err != nil {
			t.Fatal(err)
		}
		if got.LeaseStamp != i || got.Version != 1+i/3 || len(got.VdEpochs) != 3 || len(got.Refusals) != 1 || got.Refusals[0].Seq != i {
			t.Fatalf("beat %d: %v", i, got)
		}
	}
	if agent.streams.Load() != 1 || agent.calls.Load() != 0 {
		t.Fatalf("%d streams and %d calls", agent.streams.Load(), agent.calls.Load())
	}
	bad.Store(true)
	for range 2 {
		if _, err := beat(t, &b, to); status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "another cluster" {
			t.Fatal(err)
		}
	}
	bad.Store(false)
	if got, err := beat(t, &b, to); err != nil || got.LeaseStamp != 8 || len(got.VdEpochs) != 3 {
		t.Fatal(got, err)
	}
}

// TestSameIsLeftOut: what is as in the reply before is not sent again.
func TestSameIsLeftOut(t *testing.T) {
	agent := &beaten{heartbeat: func(_ context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		return &apiv1.HeartbeatReply{Version: req.LeaseStamp, LeaseStamp: 7, AgentStartId: "a"}, nil
	}}
	_, to := serveBeats(t, agent, nil, DialConfig{})
	s, err := to.Beats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		version uint64
		same    bool
	}{{1, false}, {1, true}, {2, false}, {1, false}, {1, true}, {1, true}} {
		if err := s.Send(&apiv1.HeartbeatRequest{LeaseStamp: c.version}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.Same != c.same || r.LeaseStamp != 7 || c.same != (r.AgentStartId == "") {
			t.Errorf("%d: %v", i, r)
		}
	}
}

// TestBeatsOfAgentsWithoutStream: they get calls, until another run of the agent answers.
func TestBeatsOfAgentsWithoutStream(t *testing.T) {
	var start atomic.Int32
	agent := &beaten{heartbeat: func(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		return &apiv1.HeartbeatReply{AgentStartId: fmt.Sprint(start.Load())}, nil
	}}
	agent.plain.Store(true)
	_, to := serveBeats(t, agent, nil, DialConfig{})
	var b Beats
	defer b.Close()
	for i := range 6 {
		if i == 3 { // it is updated
			agent.plain.Store(false)
			start.Add(1)
		}
		if _, err := beat(t, &b, to); err != nil {
			t.Fatal(err)
		}
	}
	if c, s := agent.calls.Load(), agent.streams.Load(); c != 4 || s != 1 {
		t.Errorf("%d calls and %d streams; the first three beats and the one that shows another run are calls, the others share a stream", c, s)
	}
}

// TestLateAnswerIsOfNoBeat: a beat that ends before it is answered has no answer, and the next one gets its own.
func TestLateAnswerIsOfNoBeat(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	var n atomic.Int32
	agent := &beaten{heartbeat: func(ctx context.Context, _ *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		i := n.Add(1)
		entered <- struct{}{}
		if i == 2 {
			<-release
		}
		return &apiv1.HeartbeatReply{LeaseStamp: uint64(i)}, nil
	}}
	_, to := serveBeats(t, agent, nil, DialConfig{})
	var b Beats
	defer b.Close()
	if _, err := beat(t, &b, to); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if r, err := b.Beat(ctx, to, &apiv1.HeartbeatRequest{}); status.Code(err) != codes.Canceled {
		t.Fatalf("a beat that was given up: %v, %v", r, err)
	}
	close(release)
	if r, err := beat(t, &b, to); err != nil || r.LeaseStamp != 3 {
		t.Fatalf("the next beat: %v, %v", r, err)
	}
	if agent.streams.Load() != 2 {
		t.Errorf("%d streams; another one after the beat that was given up", agent.streams.Load())
	}
}

// TestBeatsOutliveConnections: a connection that was lost between two beats is made again by the next one, which
// succeeds; without an agent a beat says so.
func TestBeatsOutliveConnections(t *testing.T) {
	agent := &beaten{heartbeat: func(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		return &apiv1.HeartbeatReply{}, nil
	}}
	var mu sync.Mutex
	var conns []net.Conn
	r, to := serveBeats(t, agent, nil, DialConfig{Connect: func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
		return c, err
	}})
	var b Beats
	defer b.Close()
	for range 3 {
		if _, err := beat(t, &b, to); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		_ = conns[len(conns)-1].Close()
		mu.Unlock()
	}
	if _, err := beat(t, &b, to); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil { // ends though the stream is open
		t.Fatal(err)
	}
	if _, err := beat(t, &b, to); status.Code(err) != codes.Unavailable {
		t.Errorf("without an agent: %v", err)
	}
}

// TestStreamsOfBeatsAreNotCalls: they take no place of calls. A connection that has too many gets calls through.
func TestStreamsOfBeatsAreNotCalls(t *testing.T) {
	agent := &beaten{heartbeat: func(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		return &apiv1.HeartbeatReply{AgentStartId: "a"}, nil
	}}
	_, to := serveBeats(t, agent, func(c *Config) { c.Limits.Calls = 2 }, DialConfig{})
	all := make([]Beats, maxWatches+2)
	for range 2 {
		for i := range all {
			defer all[i].Close()
			if _, err := beat(t, &all[i], to); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
	}
	if s, c := agent.streams.Load(), agent.calls.Load(); s != maxWatches || c != 4 {
		t.Errorf("%d streams and %d calls, want %d and 4", s, c, maxWatches)
	}
}

// TestRevokedInTheMiddleOfAStream: a sender whose certificate is revoked gets no further answer.
func TestRevokedInTheMiddleOfAStream(t *testing.T) {
	ca := authorityOf(t, "c1")
	issued := time.Now().Add(-time.Hour)
	var own *pki.Identity
	agent := &beaten{heartbeat: func(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		return &apiv1.HeartbeatReply{}, nil
	}}
	sender := pki.Name{Cluster: "c1", Kind: pki.Monitor, Name: "m1"}
	caller := member(t, ca, sender, issued, 24*time.Hour)
	_, to := serveBeats(t, agent, func(c *Config) {
		own = member(t, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: "dn1"}, issued, 24*time.Hour)
		if err := own.Secure(); err != nil {
			t.Fatal(err)
		}
		c.Identity, c.Authorize = own, Members(own, pki.Monitor)
	}, DialConfig{Identity: caller, Server: func(pki.Name) error { return nil }})
	var b Beats
	defer b.Close()
	for range 2 {
		if _, err := beat(t, &b, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := own.Revoke([]pki.Revoked{{Kind: sender.Kind, Name: sender.Name, Before: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := beat(t, &b, to); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a sender that was revoked: %v", err)
	}
	if agent.streams.Load() != 1 || agent.calls.Load() != 0 {
		t.Errorf("%d streams and %d calls", agent.streams.Load(), agent.calls.Load())
	}
}

// TestBeatUnderWayIsAnswered: a program that stops answers the beat that is under way, which is not cut short, and ends
// the stream behind it.
func TestBeatUnderWayIsAnswered(t *testing.T) {
	var r *rig
	stopped := make(chan error, 1)
	var last atomic.Bool
	agent := &beaten{opened: make(chan context.Context, 1)}
	agent.heartbeat = func(ctx context.Context, _ *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
		if last.Load() {
			go func() { stopped <- r.stop() }()
			<-(<-agent.opened).Done()
		}
		return &apiv1.HeartbeatReply{DataPlaneOk: ctx.Err() == nil}, nil
	}
	r, to := serveBeats(t, agent, nil, DialConfig{})
	var b Beats
	defer b.Close()
	if _, err := beat(t, &b, to); err != nil {
		t.Fatal(err)
	}
	last.Store(true)
	if got, err := beat(t, &b, to); err != nil || !got.DataPlaneOk {
		t.Errorf("the beat under way: %v, %v", got, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
