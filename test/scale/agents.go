//go:build e2e

package scale

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// planeTime is what a model's data plane takes for a Sync.
const planeTime = time.Millisecond

// agents are the models of all nodes. One gRPC server serves them: which of them is
// called is told by the address that was.
type agents struct {
	cluster *fakeagent.Cluster
	srv     *grpc.Server
	traffic traffic
	wg      sync.WaitGroup

	mu   sync.Mutex
	byIP map[string]*served
}

// served is a model that serves.
type served struct {
	addr string
	*fakeagent.Agent
	lis   *listener
	calls int // that it had answered when it began
}

// traffic counts what Sync calls weigh that bring what has changed: those that a monitor sends each node once a minute,
// whatever happens, are not of any change. It is a stats.Handler.
type traffic struct{ calls, bytes atomic.Int64 }

type (
	syncKey  struct{}
	syncCall struct{ full atomic.Bool }
)

func (t *traffic) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	if strings.HasSuffix(i.FullMethodName, "/Sync") {
		return context.WithValue(ctx, syncKey{}, &syncCall{})
	}
	return ctx
}

func (t *traffic) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c, _ := ctx.Value(syncKey{}).(*syncCall)
	if c == nil {
		return
	}
	switch s := s.(type) {
	case *stats.InPayload:
		if r, ok := s.Payload.(interface{ GetBaseVersion() uint64 }); ok && r.GetBaseVersion() == 0 {
			c.full.Store(true)
			return
		}
		t.calls.Add(1)
		t.bytes.Add(int64(s.WireLength))
	case *stats.OutPayload:
		if !c.full.Load() {
			t.bytes.Add(int64(s.WireLength))
		}
	}
}

func (t *traffic) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (t *traffic) HandleConn(context.Context, stats.ConnStats)                       {}

func newAgents() *agents {
	a := &agents{cluster: fakeagent.New(), byIP: map[string]*served{}}
	a.cluster.Capacity = func(string) uint64 { return 1 << 20 }
	a.cluster.Forgetful = true
	a.srv = grpc.NewServer(grpc.StatsHandler(&a.traffic), grpc.MaxRecvMsgSize(rpc.MaxAgentMessage), grpc.MaxSendMsgSize(rpc.MaxAgentMessage),
		grpc.StaticStreamWindowSize(64<<10), grpc.StaticConnWindowSize(1<<20), // as agents have
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	apiv1.RegisterDnAgentServer(a.srv, dnServer{agents: a})
	apiv1.RegisterCnAgentServer(a.srv, cnServer{agents: a})
	rpc.RegisterVersion(a.srv)
	h := health.NewServer()
	for _, s := range []string{apiv1.DnAgent_ServiceDesc.ServiceName, apiv1.CnAgent_ServiceDesc.ServiceName} {
		h.SetServingStatus(s, healthv1.HealthCheckResponse_SERVING)
		h.SetServingStatus(s+rpc.NewsSuffix, healthv1.HealthCheckResponse_SERVING)
	}
	healthv1.RegisterHealthServer(a.srv, h)
	return a
}

func (a *agents) close() {
	a.srv.Stop()
	a.wg.Wait()
	a.cluster.Close()
}

// add starts the i-th model of a kind, and says where it serves.
func (a *agents) add(kind string, i int) (string, error) {
	third := map[string]int{"dn": 1, "cn": 2}[kind]
	ip := fmt.Sprintf("127.%d.%d.%d", third, i/250, 1+i%250)
	lis, err := net.Listen("tcp", ip+":0")
	if err != nil {
		return "", err
	}
	m := &served{addr: lis.Addr().String(), lis: &listener{Listener: lis}}
	m.Agent = a.cluster.Add(m.addr)
	m.Before(func() { time.Sleep(planeTime) })
	a.mu.Lock()
	a.byIP[ip] = m
	a.mu.Unlock()
	a.wg.Go(func() { _ = a.srv.Serve(m.lis) })
	return m.addr, nil
}

// at is the model that serves, or has served, at an address.
func (a *agents) at(addr string) *served {
	host, _, _ := net.SplitHostPort(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byIP[host]
}

// kill cuts a node's connections and refuses new ones.
func (m *served) kill() { m.lis.kill() }

// revive has a node that was killed serve again, where it did. Its agent and its data plane
// have started again.
func (a *agents) revive(m *served) error {
	lis, err := net.Listen("tcp", m.addr)
	if err != nil {
		return err
	}
	m.lis, m.calls = &listener{Listener: lis}, m.Calls()
	m.RestartAgent()
	m.RestartPlane()
	a.wg.Go(func() { _ = a.srv.Serve(m.lis) })
	return nil
}

// told is how many have got a Sync since they began.
func (a *agents) told() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.byIP {
		if m.Calls() > m.calls {
			n++
		}
	}
	return n
}

// of is the model that was called.
func (a *agents) of(ctx context.Context) *fakeagent.Agent {
	p, _ := peer.FromContext(ctx)
	return a.at(p.LocalAddr.String()).Agent
}

// listener can be killed with its connections.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *listener) kill() {
	_ = l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
}

type (
	dnServer struct {
		apiv1.UnimplementedDnAgentServer
		*agents
	}
	cnServer struct {
		apiv1.UnimplementedCnAgentServer
		*agents
	}
)

func (s dnServer) Heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	return s.of(ctx).Dn().Heartbeat(ctx, r)
}

func (s dnServer) Sync(ctx context.Context, r *apiv1.SyncDnRequest) (*apiv1.SyncReply, error) {
	return s.of(ctx).Dn().Sync(ctx, r)
}

func (s dnServer) Beats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error {
	return s.of(stream.Context()).Dn().Beats(stream)
}

func (s cnServer) Beats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error {
	return s.of(stream.Context()).Cn().Beats(stream)
}

func (s cnServer) Heartbeat(ctx context.Context, r *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	return s.of(ctx).Cn().Heartbeat(ctx, r)
}

func (s cnServer) Sync(ctx context.Context, r *apiv1.SyncCnRequest) (*apiv1.SyncReply, error) {
	return s.of(ctx).Cn().Sync(ctx, r)
}

func (s cnServer) Probe(ctx context.Context, r *apiv1.ProbeRequest) (*apiv1.ProbeReply, error) {
	return s.of(ctx).Cn().Probe(ctx, r)
}

func (s cnServer) StandBy(ctx context.Context, r *apiv1.StandByRequest) (*apiv1.StandByReply, error) {
	return s.of(ctx).Cn().StandBy(ctx, r)
}
