package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Limits bound what clients can make a gRPC daemon hold.
type Limits struct {
	Message int // longest message either way, in bytes
	Streams int // calls under way per connection; default 64
	Calls   int // calls under way on all connections, health aside; default 512
	Conns   int // connections; default 1024. Never more than half of the process's descriptors
	// MinPing is how often a client may ask whether the connection lives.
	// Default 10 s.
	MinPing time.Duration
}

// Guard keeps one daemon's connections and calls within its Limits. When a
// limit is met, the log says so in one line, and at most once per logEvery.
//
// Connections are given up rather than newcomers: when the limit is reached,
// the connection that has gone longest without a call is closed, so that who
// opens many and says nothing shuts nobody out; gRPC clients reconnect by
// themselves. A newcomer is turned away only while all others have calls under
// way. Safe for concurrent use.
type Guard struct {
	limits Limits
	log    *slog.Logger

	mu     sync.Mutex
	conns  map[string]*guardedConn // by connName
	calls  int
	counts Counts
	said   map[string]time.Time // when each limit was last logged
}

// Counts are how often each limit was met since the start.
type Counts struct {
	ClosedConns  uint64 // idle connections closed to make room
	RefusedConns uint64 // connections turned away
	RefusedCalls uint64 // calls answered with RESOURCE_EXHAUSTED
	FailedAccept uint64 // connections that could not be taken, as for want of descriptors
}

// logEvery is the shortest time between two log lines about the same limit.
const logEvery = time.Minute

// youth is how long a connection may take to make its first call before it
// counts as idle.
const youth = 2 * time.Second

// NewGuard returns a guard for one server; log gets what it does.
func NewGuard(limits Limits, log *slog.Logger) *Guard {
	setDefault(&limits.Streams, 64)
	setDefault(&limits.Calls, 512)
	setDefault(&limits.Conns, 1024)
	if limits.MinPing == 0 {
		limits.MinPing = 10 * time.Second
	}
	if n := descriptors() / 2; limits.Conns > n {
		limits.Conns = max(n, 1)
	}
	return &Guard{limits: limits, log: log, conns: map[string]*guardedConn{}, said: map[string]time.Time{}}
}

func setDefault(n *int, to int) {
	if *n == 0 {
		*n = to
	}
}

// descriptors is how many the process may have open. Go has raised its soft
// limit to the hard one.
func descriptors() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil || r.Cur > 1<<20 {
		return 1 << 20
	}
	return int(r.Cur)
}

// Counts returns how often limits were met.
func (g *Guard) Counts() Counts {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counts
}

// ServerOptions are those of a gRPC server that stands behind the guard's
// Listener: limits, keep-alive, and handlers whose panics end one call only.
func (g *Guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(g.limits.Message),
		grpc.MaxSendMsgSize(g.limits.Message),
		grpc.MaxConcurrentStreams(uint32(g.limits.Streams)),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: g.limits.MinPing, PermitWithoutStream: true}),
		grpc.InTapHandle(g.admit),
		grpc.StatsHandler(tagger{g}),
		grpc.ChainUnaryInterceptor(g.contain),
		grpc.ChainStreamInterceptor(g.containStream),
	}
}

// admit takes a call, or refuses it before its message is read.
func (g *Guard) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	if uncounted(info.FullMethodName) {
		return ctx, nil
	}
	conn, _ := ctx.Value(connKey{}).(*guardedConn)
	if err := g.begin(conn); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { g.end(conn) })
	return ctx, nil
}

// uncounted are the methods whose calls last as long as their connection.
func uncounted(method string) bool { return strings.HasPrefix(method, "/grpc.health.") }

// begin counts a call on conn, which may be nil, until end. The error is
// RESOURCE_EXHAUSTED.
func (g *Guard) begin(conn *guardedConn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls >= g.limits.Calls {
		g.counts.RefusedCalls++
		g.say("calls", "calls are refused: as many as the limit are under way", "limit", g.limits.Calls)
		return status.Errorf(codes.ResourceExhausted, "%d calls are under way, which is the limit; try again in a second", g.limits.Calls)
	}
	g.calls++
	if conn != nil {
		conn.calls++
	}
	return nil
}

// end ends a call that begin has counted.
func (g *Guard) end(conn *guardedConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	if conn != nil {
		conn.calls--
		conn.used, conn.since = true, time.Now()
	}
}

// say logs a limit that was met; the caller holds the lock.
func (g *Guard) say(limit, msg string, args ...any) {
	now := time.Now()
	if last, ok := g.said[limit]; ok && now.Sub(last) < logEvery {
		return
	}
	g.said[limit] = now
	c := g.counts
	g.log.Warn(msg, append(args, "closed_connections", c.ClosedConns, "refused_connections", c.RefusedConns,
		"refused_calls", c.RefusedCalls, "failed_accepts", c.FailedAccept)...)
}

func (g *Guard) contain(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer g.recovered(info.FullMethod, &err)
	return handler(ctx, req)
}

func (g *Guard) containStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer g.recovered(info.FullMethod, &err)
	return handler(srv, s)
}

// recovered turns a panic of a handler into the call's error; it is deferred.
func (g *Guard) recovered(method string, err *error) {
	if p := recover(); p != nil {
		g.log.Error("a request handler panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error: the request met a fault of the program; its log has the details")
	}
}
