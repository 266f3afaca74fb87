package rpc

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"strconv"
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
	g       *guard
	calls   int       // under way, but for those that last
	watches int       // calls that last, under way
	used    bool      // has made a call
	since   time.Time // when it was accepted, its last call ended, or one that lasts was of use
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
	err := c.Conn.Close()
	c.g.replies.closed(c)
	return err
}

// connName is the key of a connection: a remote address alone may have one per
// local address.
func connName(remote, local net.Addr) string { return remote.String() + " " + local.String() }

// listener accepts within the guard's limits.
type listener struct {
	net.Listener
	g *guard
}

// Listener returns lis within the limits of connections. The server behind it
// is a gRPC server made with ServerOptions, or an HTTP server that HTTP was
// called with.
func (g *guard) Listener(lis net.Listener) net.Listener { return listener{lis, g} }

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

func (g *guard) acceptFailed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts.FailedAccept++
	g.say("accept", "a connection could not be accepted", "err", err)
}

// enter adds a connection. At the limit it returns the one to close in its
// place, or false when none may be.
func (g *guard) enter(c *guardedConn) (victim *guardedConn, ok bool) {
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
func (g *guard) idlest(now time.Time) *guardedConn {
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

// connContext puts an accepted connection into the context of its calls, as
// http.Server.ConnContext does.
func (g *guard) connContext(ctx context.Context, remote, local net.Addr) context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.conns[connName(remote, local)]; c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// HTTP puts a server of HTTP/1 that stands behind the guard's Listener within
// the limits of calls.
func (g *guard) HTTP(s *http.Server) {
	next := s.Handler
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return g.connContext(ctx, c.RemoteAddr(), c.LocalAddr())
	}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := g.call(r.Context(), r.URL.Path)
		if err := g.begin(c); err != nil {
			if after, ok := RetryAfter(err); ok {
				w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
			}
			http.Error(w, status.Convert(err).Message(), http.StatusServiceUnavailable)
			return
		}
		defer g.end(c)
		next.ServeHTTP(w, r)
	})
}

// tagger has gRPC's server do what connContext does.
type tagger struct{ g *guard }

func (t tagger) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	return t.g.connContext(ctx, info.RemoteAddr, info.LocalAddr)
}

func (tagger) HandleConn(context.Context, stats.ConnStats)                     {}
func (tagger) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (tagger) HandleRPC(context.Context, stats.RPCStats)                       {}
