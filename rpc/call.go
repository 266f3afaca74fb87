package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Call is what a server knows of a call, for those who decide whether it may be
// made, and who record that it was.
type Call struct {
	ID     string               // of the request
	Method string               // "/vda.v1.Portal/CreateDa"; "GET /metrics" for HTTP
	Peer   string               // "host:port" that it comes from
	TLS    *tls.ConnectionState // has the caller's certificate; nil: in the clear
	Caller Caller               // as far as it is known
}

// record is what the log will say of a call.
type record struct {
	call Call

	mu    sync.Mutex
	attrs []slog.Attr
}

type recordKey struct{}

// Annotate adds to the one record that the log gets of the call whose context
// ctx is. The record of a call that failed has the error that its client gets,
// unless something was added. Safe for concurrent use until the handler
// returns.
func Annotate(ctx context.Context, attrs ...slog.Attr) {
	if r, ok := ctx.Value(recordKey{}).(*record); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.attrs = append(r.attrs, attrs...)
	}
}

// CallOf is the call whose context ctx is, empty for none.
func CallOf(ctx context.Context) Call {
	if r, ok := ctx.Value(recordKey{}).(*record); ok {
		return r.call
	}
	return Call{}
}

// newRecord begins a call: it gets its client's id when that may be one, else a
// new one. The id is in the context returned.
func newRecord(ctx context.Context, method string) (context.Context, *record) {
	r := &record{call: Call{Method: method}}
	if ids := metadata.ValueFromIncomingContext(ctx, idKey); len(ids) == 1 && validID(ids[0]) {
		r.call.ID = ids[0]
	} else {
		r.call.ID = NewRequestID()
	}
	if p, ok := peer.FromContext(ctx); ok {
		r.call.Peer = p.Addr.String()
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			r.call.TLS = &info.State
		}
	}
	return context.WithValue(WithRequestID(ctx, r.call.ID), recordKey{}, r), r
}

// end records how a call ended.
func (s *server) end(ctx context.Context, r *record, err error, took time.Duration) {
	code := status.Code(err)
	s.metrics.calls.WithLabelValues(strings.TrimPrefix(r.call.Method, "/"), code.String()).Inc()
	if s.cfg.Audit != nil {
		s.cfg.Audit(ctx, r.call, err)
	} else {
		s.cfg.Refusals.note(r.call, err)
	}
	level := slog.LevelInfo
	switch {
	case code == codes.Internal || code == codes.Unknown || code == codes.DataLoss:
		level = slog.LevelError
	case s.quiet(r.call.Method):
		level = slog.LevelDebug
	case err != nil:
		level = slog.LevelWarn
	}
	if !s.cfg.Log.Enabled(ctx, level) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	attrs := []slog.Attr{slog.String("req_id", r.call.ID), slog.String("method", path.Base(r.call.Method)),
		slog.Duration("took", took), slog.String("peer", r.call.Peer)}
	if r.call.Caller.Kind != "" {
		attrs = append(attrs, slog.String("caller", r.call.Caller.String()))
	}
	if err != nil {
		attrs = append(attrs, slog.String("code", code.String()))
		if len(r.attrs) == 0 {
			attrs = append(attrs, slog.Any("err", err))
		}
	}
	s.cfg.Log.LogAttrs(ctx, level, "request", append(attrs, r.attrs...)...)
}

// quiet reports that a method's calls are logged for debugging only: health,
// reflection, versions, and what programs call all the time.
func (s *server) quiet(method string) bool {
	if !strings.HasPrefix(method, "/vda.") || strings.HasPrefix(method, "/vda.v1.Program/") {
		return true
	}
	return slices.Contains(s.cfg.Quiet, path.Base(method))
}

// begin is the outermost interceptor: id, log, audit and metrics.
func (s *server) begin(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	start := time.Now()
	ctx, r := newRecord(ctx, info.FullMethod)
	_ = grpc.SetHeader(ctx, metadata.Pairs(idKey, r.call.ID)) // fails when the client is gone
	defer func() {
		took := time.Since(start)
		s.metrics.seconds.WithLabelValues(strings.TrimPrefix(r.call.Method, "/")).Observe(took.Seconds())
		s.end(ctx, r, err, took)
	}()
	defer s.recovered(ctx, &err)
	return handle(ctx, req)
}

// deadline bounds what a call may take: Config.Deadline, or a little less than
// its client waits, so that the client gets a reply that says why it was not
// enough.
func (s *server) deadline(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	limit := s.cfg.Deadline
	if at, ok := ctx.Deadline(); ok && s.cfg.Early {
		left := time.Until(at)
		limit = min(limit, left-min(left/10, time.Second))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return handle(ctx, req)
}

// authorize asks Config.Authorize, and has a panic of the handler end this call
// alone.
func (s *server) authorize(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer s.recovered(ctx, &err)
	if err := s.allowed(ctx); err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

func (s *server) allowed(ctx context.Context) error {
	r, ok := ctx.Value(recordKey{}).(*record)
	if !ok {
		return nil
	}
	if err := s.identify(ctx, &r.call); err != nil {
		return err
	}
	if s.cfg.Authorize == nil {
		return nil
	}
	return s.cfg.Authorize(ctx, r.call)
}

// stream is all of that for a stream, which has no deadline but ends when the
// server stops.
func (s *server) stream(srv any, st grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	start := time.Now()
	whole, r := newRecord(st.Context(), info.FullMethod)
	ctx, cancel := context.WithCancel(whole)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	_ = st.SetHeader(metadata.Pairs(idKey, r.call.ID)) // fails when the client is gone
	defer func() { s.end(ctx, r, err, time.Since(start)) }()
	defer s.recovered(ctx, &err)
	if err := s.allowed(ctx); err != nil {
		return err
	}
	one := &grpc.UnaryServerInfo{Server: srv, FullMethod: info.FullMethod}
	each := func(ctx context.Context, req any, handle grpc.UnaryHandler) (any, error) {
		return s.each(ctx, req, one, handle)
	}
	return handle(srv, &stream{st, context.WithValue(ctx, eachKey{}, eachMessage{whole, each})})
}

// eachMessage handles one message of a stream, which is answered by another one, as a call with that request: in ctx, or
// one below it, which does not end when the program stops, as that of a call does not.
type eachMessage struct {
	ctx    context.Context
	handle func(ctx context.Context, req any, handle grpc.UnaryHandler) (any, error)
}

// eachKey finds a stream's eachMessage in its context.
type eachKey struct{}

// each is eachMessage's: who calls is checked again, and the program's interceptor sees it.
func (s *server) each(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if c, _ := ctx.Value(callKey{}).(*call); c != nil {
		c.g.touch(c)
	}
	next := func(ctx context.Context, req any) (any, error) { return s.authorize(ctx, req, info, handle) }
	if s.cfg.Intercept == nil {
		return next(ctx, req)
	}
	return s.ours(s.cfg.Intercept)(ctx, req, info, next)
}

// stream is a server's stream with a context of its own.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *stream) Context() context.Context { return s.ctx }

// recovered turns a panic into the call's error; it is deferred.
func (s *server) recovered(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		s.cfg.Log.Error("a request handler panicked", "req_id", RequestID(ctx), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal,
			"internal error: the request met a fault of the program; its log has the details under req_id %s", RequestID(ctx))
	}
}

// scrapes reports that a request shows Config.ScrapeToken, for what that is good for. The
// time that it takes tells nothing of the token.
func (s *server) scrapes(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || s.cfg.ScrapeToken == "" || r.TLS == nil || r.Method != http.MethodGet || r.URL.Path != "/metrics" {
		return false
	}
	is, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.cfg.ScrapeToken))
	return subtle.ConstantTimeCompare(is[:], want[:]) == 1
}

// allowedWeb is Config.Authorize for a request over HTTP.
func (s *server) allowedWeb(r *http.Request) error {
	call := Call{Method: r.Method + " " + r.URL.Path, Peer: r.RemoteAddr, TLS: r.TLS}
	if s.scrapes(r) {
		return nil
	}
	ctx, err := r.Context(), error(nil)
	defer func() {
		switch {
		case s.cfg.Audit == nil:
			s.cfg.Refusals.note(call, err)
		case err != nil:
			s.cfg.Audit(ctx, call, err)
		}
	}()
	if auth := r.Header.Values("Authorization"); len(auth) > 0 {
		ctx = metadata.NewIncomingContext(ctx, metadata.MD{tokenKey: auth})
	}
	if err = s.identify(ctx, &call); err != nil {
		return errors.New(status.Convert(err).Message())
	}
	if s.cfg.Authorize == nil {
		return nil
	}
	if err = s.cfg.Authorize(ctx, call); err != nil {
		return errors.New(status.Convert(err).Message())
	}
	return nil
}
