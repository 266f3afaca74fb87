package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path"
	"runtime/debug"
	"slices"
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
	Message int // longest request, in bytes
	Reply   int // longest reply, in bytes; default as Message
	Streams int // calls under way per connection; default 64
	Calls   int // calls under way on all connections, health and Lasting aside; default 512. One address may have three quarters
	// First are methods, such as "Heartbeat", that are taken when Calls are under way, as
	// many again: on them it hangs whether others may be.
	First []string
	// Lasting are streams that stay open as their connections do, such as "Beats": they are counted as calls of the
	// health service are, and not among Calls.
	Lasting []string
	Conns   int // connections; default 1024. Never more than half of the process's descriptors
	// Memory bounds the bytes that the requests of all connections take, those
	// being received and those that handlers have, decoded. Default 64 MiB.
	Memory int64
	// Receive is how long a request may take to arrive. Default 30 s.
	Receive time.Duration
	// Replies bounds the bytes of the replies that clients have not taken yet.
	// Default 64 MiB; a reply alone may take more.
	Replies int64
	// Send is how long a client may take to take a reply. Default 30 s.
	Send time.Duration
}

// guard keeps one daemon's connections and calls within its Limits. When a
// limit is met, the log says so in one line, and at most once per logEvery.
//
// Connections are given up rather than newcomers: when the limit is reached,
// the connection that has gone longest without a call is closed, so that who
// opens many and says nothing shuts nobody out; gRPC clients reconnect by
// themselves. A newcomer is turned away only while all others have calls under
// way. Safe for concurrent use.
type guard struct {
	limits  Limits
	log     *slog.Logger
	budget  *budget
	replies *replies

	mu      sync.Mutex
	conns   map[string]*guardedConn // by connName
	calls   int
	peers   map[string]int // calls by address
	watches int            // calls that last
	counts  counts
	said    map[string]time.Time // when each limit was last logged
}

// counts are how often each limit was met since the start.
type counts struct {
	ClosedConns  uint64 // idle connections closed to make room
	RefusedConns uint64 // connections turned away
	RefusedCalls uint64 // calls answered with RESOURCE_EXHAUSTED as too many were under way
	LongMessages uint64 // calls refused as their request was longer than Limits.Message
	NoMemory     uint64 // calls refused for want of Limits.Memory
	FailedAccept uint64 // connections that could not be taken, as for want of descriptors
	UnreadConns  uint64 // connections closed as their clients did not take replies
}

// logEvery is the shortest time between two log lines about the same limit.
const logEvery = time.Minute

// maxWatches is how many calls that last, of the health service and Lasting, a connection
// may have under way.
const maxWatches = 8

// minPing is how often a client may ask whether the connection lives. Those of
// Dial ask half as often.
const minPing = 5 * time.Second

// youth is how long a connection may take to make its first call before it
// counts as idle.
const youth = 2 * time.Second

// newGuard returns a guard for one server; log gets what it does.
func newGuard(limits Limits, log *slog.Logger) *guard {
	setDefault(&limits.Reply, limits.Message)
	setDefault(&limits.Streams, 64)
	setDefault(&limits.Calls, 512)
	setDefault(&limits.Conns, 1024)
	setDefault(&limits.Memory, 64<<20)
	setDefault(&limits.Receive, 30*time.Second)
	setDefault(&limits.Replies, 64<<20)
	setDefault(&limits.Send, 30*time.Second)
	if n := descriptors() / 2; limits.Conns > n {
		limits.Conns = max(n, 1)
	}
	g := &guard{limits: limits, log: log, conns: map[string]*guardedConn{}, peers: map[string]int{}, said: map[string]time.Time{}}
	g.budget = newBudget(limits.Memory, g.metBudget)
	g.replies = newReplies(limits.Replies, limits.Send, g.metReplies)
	return g
}

func setDefault[N int | int64 | time.Duration](n *N, to N) {
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
func (g *guard) Counts() counts {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counts
}

// ServerOptions are those of a gRPC server that stands behind the guard's
// Listener: limits and keep-alive.
// Its services are registered with Registrar.
func (g *guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(min(g.limits.Message, smallRequest)),
		// What a call may send before it is received; gRPC would widen it as
		// clients send faster.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(1 << 20),
		grpc.MaxSendMsgSize(g.limits.Reply),
		grpc.MaxConcurrentStreams(uint32(g.limits.Streams)),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.InTapHandle(g.admit),
		grpc.StatsHandler(tagger{g}),
		grpc.ForceServerCodecV2(serverCodec()),
		grpc.ChainStreamInterceptor(g.countStream),
	}
}

// admit takes a call, or refuses it before its message is read.
func (g *guard) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	c := g.call(ctx, info.FullMethodName)
	if err := g.begin(c); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { g.end(c) })
	return context.WithValue(ctx, callKey{}, c), nil
}

// call is a new call of method, whose connection's context ctx is.
func (g *guard) call(ctx context.Context, method string) *call {
	// Calls of the health service last as long as their connection, too.
	name := path.Base(method)
	c := &call{g: g, watch: strings.HasPrefix(method, "/grpc.health.") || slices.Contains(g.limits.Lasting, name),
		first: slices.Contains(g.limits.First, name)}
	if c.conn, _ = ctx.Value(connKey{}).(*guardedConn); c.conn != nil {
		c.peer, _, _ = net.SplitHostPort(c.conn.RemoteAddr().String())
	}
	return c
}

// begin counts a call until end. The error is RESOURCE_EXHAUSTED.
func (g *guard) begin(c *call) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.watch {
		return g.beginWatch(c)
	}
	most := g.limits.Calls
	if c.first {
		most *= 2
	}
	share := most - most/4
	switch {
	case g.calls >= most:
		g.counts.RefusedCalls++
		g.say("calls", "calls are refused: as many as the limit are under way", "limit", most)
		return busy("%d calls are under way, which is the limit", most)
	case g.peers[c.peer] >= share:
		g.counts.RefusedCalls++
		g.say("share", "calls are refused: as many as the limit are under way from one address", "address", c.peer, "limit", share)
		return busy("%d calls from %s are under way, which is the limit for one address", share, c.peer)
	}
	g.calls++
	g.peers[c.peer]++
	if c.conn != nil {
		c.conn.calls++
	}
	return nil
}

// touch notes that a call that lasts has been of use just now.
func (g *guard) touch(c *call) {
	if c.conn == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c.conn.used, c.conn.since = true, time.Now()
}

// beginWatch counts a call that lasts; the caller holds the lock.
func (g *guard) beginWatch(c *call) error {
	if g.watches >= g.limits.Conns || c.conn != nil && c.conn.watches >= maxWatches {
		g.counts.RefusedCalls++
		g.say("watches", "calls that last, of the health service or of heartbeats, are refused: as many as the limit are under way",
			"limit", g.limits.Conns, "limit_per_connection", maxWatches)
		return status.Errorf(codes.ResourceExhausted,
			"%d calls that last, of the health service or of heartbeats, are under way, at most %d of them per connection, which is the limit",
			g.limits.Conns, maxWatches)
	}
	g.watches++
	if c.conn != nil {
		c.conn.watches++
	}
	return nil
}

// end ends a call that begin has counted.
func (g *guard) end(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.watch {
		g.watches--
		if c.conn != nil {
			c.conn.watches--
		}
		return
	}
	g.calls--
	if g.peers[c.peer]--; g.peers[c.peer] == 0 {
		delete(g.peers, c.peer)
	}
	if c.conn != nil {
		c.conn.calls--
		c.conn.used, c.conn.since = true, time.Now()
	}
}

// metBudget is told when Limits.Memory is met.
func (g *guard) metBudget(refused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if refused {
		g.counts.NoMemory++
	}
	g.say("memory", "requests wait or are refused: those under way take as much memory as the limit lets them", "limit_bytes", g.limits.Memory)
}

// metReplies is told of a connection that is given up for the replies that its
// client has not taken.
func (g *guard) metReplies(slow bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts.UnreadConns++
	if slow {
		g.say("send", "a connection is closed: its client has not taken a reply in time", "limit", g.limits.Send)
		return
	}
	g.say("replies", "connections are closed: replies that clients have not taken take as much memory as the limit", "limit_bytes",
		g.limits.Replies)
}

// refusedMessage counts a request of size bytes.
func (g *guard) refusedMessage(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts.LongMessages++
	g.say("message", "a request is refused: it is longer than the limit", "bytes", size, "limit", g.limits.Message)
}

// say logs a limit that was met; the caller holds the lock.
func (g *guard) say(limit, msg string, args ...any) {
	now := time.Now()
	if last, ok := g.said[limit]; ok && now.Sub(last) < logEvery {
		return
	}
	g.said[limit] = now
	c := g.counts
	g.log.Warn(msg, append(args, "closed_connections", c.ClosedConns, "refused_connections", c.RefusedConns,
		"refused_calls", c.RefusedCalls, "long_messages", c.LongMessages, "no_memory", c.NoMemory, "failed_accepts", c.FailedAccept,
		"unread_connections", c.UnreadConns)...)
}

// recovered turns a panic of a handler into the call's error; it is deferred.
func (g *guard) recovered(method string, err *error) {
	if p := recover(); p != nil {
		g.log.Error("a request handler panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error: the request met a fault of the program; its log has the details")
	}
}
