package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// connKey finds a call's connection in its context.
type connKey struct{}

// guardedConn is a connection that counts against the limit. The guard's lock
// guards its fields.
type guardedConn struct {
	net.Conn
	g       *Guard
	calls   int       // under way, but for those of the health service
	watches int       // calls of the health service under way
	used    bool      // has made a call
	since   time.Time // when it was accepted, or its last call ended
	once    sync.Once
}

// Close implements net.Conn.
func (c *guardedConn) Close() error {
	c.once.Do(func() {
		c.g.mu.Lock()
		defer c.g.mu.Unlock()
		if key := connName(c.RemoteAddr(), c.LocalAddr()); c.g.conns[key] == c {
			delete(c.g.conns, key)
		}
	})
	return c.Conn.Close()
}

// connName is the key of a connection: a remote address alone may have one per
// local address.
func connName(remote, local net.Addr) string { return remote.String() + " " + local.String() }

// listener accepts within the guard's limits.
type listener struct {
	net.Listener
	g *Guard
}

// Listener returns lis within the limits of connections. The server behind it
// is a gRPC server made with ServerOptions, or an HTTP server with ConnContext
// and Handler.
func (g *Guard) Listener(lis net.Listener) net.Listener { return listener{lis, g} }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.g.acceptFailed(err)
			}
			return nil, err
		}
		c := &guardedConn{Conn: raw, g: l.g, since: time.Now()}
		victim, ok := l.g.enter(c)
		if victim != nil {
			victim.Close()
		}
		if ok {
			return c, nil
		}
		raw.Close()
	}
}

func (g *Guard) acceptFailed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts.FailedAccept++
	g.say("accept", "a connection could not be accepted", "err", err)
}

// enter adds a connection. At the limit it returns the one to close in its
// place, or false when none may be.
func (g *Guard) enter(c *guardedConn) (victim *guardedConn, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) >= g.limits.Conns {
		if victim = g.idlest(c.since); victim == nil {
			g.counts.RefusedConns++
			g.say("refused", "connections are turned away: as many as the limit have calls under way", "limit", g.limits.Conns)
			return nil, false
		}
		delete(g.conns, connName(victim.RemoteAddr(), victim.LocalAddr()))
		g.counts.ClosedConns++
		g.say("closed", "idle connections are closed: as many as the limit are open", "limit", g.limits.Conns)
	}
	g.conns[connName(c.RemoteAddr(), c.LocalAddr())] = c
	return victim, true
}

// idlest returns the connection that may best be closed: the oldest of those
// that never made a call, or else the one whose last call ended first; nil when
// each has a call under way or has just been opened.
func (g *Guard) idlest(now time.Time) *guardedConn {
	var best *guardedConn
	for _, c := range g.conns {
		if c.calls > 0 || !c.used && now.Sub(c.since) < youth {
			continue
		}
		if best == nil || !c.used && best.used || c.used == best.used && c.since.Before(best.since) {
			best = c
		}
	}
	return best
}

// ConnContext puts an accepted connection into its requests' context, as
// http.Server.ConnContext does.
func (g *Guard) ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*guardedConn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// Handler is next within the limits of calls, for an HTTP server.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := g.call(r.Context(), r.URL.Path)
		if err := g.begin(c); err != nil {
			refuse(w, r, status.Convert(err))
			return
		}
		defer g.end(c)
		defer c.shrink(0)
		if IsGRPC(r) {
			ctx := context.WithValue(r.Context(), callKey{}, c)
			r = r.WithContext(ctx)
			r.Body = &body{ReadCloser: r.Body, ctx: ctx, call: c}
		}
		next.ServeHTTP(w, r)
	})
}

// HTTP2 is how an HTTP server that has a gRPC server behind it takes HTTP/2.
func (g *Guard) HTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          g.limits.Streams,
		MaxReceiveBufferPerStream:     streamWindow,
		MaxReceiveBufferPerConnection: 4 * streamWindow,
	}
}

// refuse answers a request without looking at its body; gRPC takes its status
// from the headers of a reply that has nothing else.
func refuse(w http.ResponseWriter, r *http.Request, why *status.Status) {
	if !IsGRPC(r) {
		http.Error(w, why.Message(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", strconv.Itoa(int(why.Code())))
	w.Header().Set("Grpc-Message", why.Message())
	w.WriteHeader(http.StatusOK)
}

// IsGRPC tells a gRPC call from another request on the same port.
func IsGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// tagger lets gRPC's own server do what ConnContext does.
type tagger struct{ g *Guard }

func (t tagger) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	if c := t.g.conns[connName(info.RemoteAddr, info.LocalAddr)]; c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

func (tagger) HandleConn(context.Context, stats.ConnStats)                     {}
func (tagger) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (tagger) HandleRPC(context.Context, stats.RPCStats)                       {}
