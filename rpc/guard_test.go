package rpc

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// guarded answers Echo with what it got, Wait when release is closed, Panic not.
type guarded struct {
	addr    string
	guard   *guard
	log     *lines
	release chan struct{}
	entered chan struct{}
}

func (s *guarded) handle(_ any, ctx context.Context, dec func(any) error,
	intercept grpc.UnaryServerInterceptor, method string,
) (any, error) {
	var in proto.Message = new(wrapperspb.BytesValue)
	if method == "List" {
		in = new(structpb.ListValue)
	}
	if err := dec(in); err != nil {
		return nil, err
	}
	if intercept == nil {
		intercept = func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(ctx, req)
		}
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/t.T/" + method}, func(ctx context.Context, req any) (any, error) {
		switch method {
		case "Wait":
			s.entered <- struct{}{}
			select {
			case <-s.release:
			case <-ctx.Done():
			}
		case "Panic":
			panic("on purpose")
		}
		return req, nil
	})
}

func (s *guarded) desc(name string) *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Flood", ServerStreams: true, Handler: flood}}}
	for _, m := range []string{"Echo", "Wait", "Panic", "List"} {
		handle := func(srv any, ctx context.Context, dec func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			return s.handle(srv, ctx, dec, i, m)
		}
		d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: m, Handler: handle})
	}
	return d
}

// flood sends MiBs until that fails.
func flood(_ any, s grpc.ServerStream) error {
	err := s.RecvMsg(new(wrapperspb.BytesValue))
	for err == nil {
		err = s.SendMsg(wrapperspb.Bytes(make([]byte, 1<<20)))
	}
	return err
}

// serveGuarded starts a server, which may share a port with one of HTTP.
func serveGuarded(t *testing.T, limits Limits, shared bool) *guarded {
	t.Helper()
	s := &guarded{log: &lines{}, release: make(chan struct{}), entered: make(chan struct{}, 100)}
	s.guard = newGuard(limits, slog.New(slog.NewTextHandler(s.log, nil)))
	rpc := grpc.NewServer(s.guard.ServerOptions()...)
	s.guard.Registrar(rpc).RegisterService(s.desc("t.T"), s)
	rpc.RegisterService(s.desc("plain.T"), s)
	healthpb.RegisterHealthServer(s.guard.Registrar(rpc), health.NewServer())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = lis.Addr().String()
	serve := func() error { return rpc.Serve(s.guard.Listener(lis)) }
	stop := rpc.Stop
	if shared {
		p := newPort(s.guard.Listener(lis), noTLS, always, nil)
		serve = func() error {
			go rpc.Serve(p.rpc)
			return p.run()
		}
		stop = func() { p.close(); rpc.Stop() }
	}
	done := make(chan error, 1)
	go func() { done <- serve() }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *guarded) client(t *testing.T) *grpc.ClientConn {
	t.Helper()
	c, err := Dial(s.addr, DialConfig{MaxMessage: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func invokeGuarded(t *testing.T, c *grpc.ClientConn, method string, size int, opts ...grpc.CallOption) error {
	t.Helper()
	return c.Invoke(t.Context(), "/t.T/"+method, wrapperspb.Bytes(make([]byte, size)), new(wrapperspb.BytesValue), opts...)
}

func TestIdleConnectionsShutNobodyOut(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			s := serveGuarded(t, Limits{Message: 1 << 20, Conns: 8}, shared)
			busy := s.client(t)
			waited := make(chan error, 1)
			go func() { waited <- invokeGuarded(t, busy, "Wait", 1) }()
			<-s.entered
			for range 30 {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
			// Newcomers get in as the idle ones age, for ever.
			for range 3 {
				c := s.client(t)
				in, out := wrapperspb.Bytes([]byte{1}), new(wrapperspb.BytesValue)
				if err := c.Invoke(t.Context(), "/t.T/Echo", in, out, grpc.WaitForReady(true)); err != nil {
					t.Error(err)
				}
			}
			close(s.release)
			if err := <-waited; err != nil {
				t.Errorf("a call under way while connections came: %v", err)
			}
			if n := s.guard.Counts(); n.ClosedConns == 0 {
				t.Errorf("no idle connection was closed: %+v", n)
			}
			if n := s.log.count("idle connections are closed"); n != 1 {
				t.Errorf("the log says %d times that the limit was met, want once", n)
			}
		})
	}
}

func TestCallsBeyondTheLimitAreRefused(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			s := serveGuarded(t, Limits{Message: 1 << 20, Calls: 2, First: []string{"List"}}, shared)
			c := s.client(t)
			waited := make(chan error, 2)
			for range 2 {
				go func() { waited <- invokeGuarded(t, c, "Wait", 1) }()
				<-s.entered
			}
			if err := invokeGuarded(t, c, "Echo", 1); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("a third call: %v, want RESOURCE_EXHAUSTED", err)
			} else if after, ok := RetryAfter(err); !ok || after < comeAgain/2 || after > 2*comeAgain {
				t.Errorf("a third call is not told when to come again: %v, %v", after, err)
			}
			if err := invokeGuarded(t, c, "List", 1); status.Code(err) == codes.ResourceExhausted {
				t.Errorf("a method that goes first: %v", err)
			}
			close(s.release)
			for range 2 {
				if err := <-waited; err != nil {
					t.Error(err)
				}
			}
			for {
				err := invokeGuarded(t, c, "Echo", 1) // the two are forgotten a moment after their replies
				if err == nil {
					break
				}
				if status.Code(err) != codes.ResourceExhausted {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			if n := s.guard.Counts().RefusedCalls; n == 0 {
				t.Error("the refused call was not counted")
			}
			if s.log.count("calls are refused") != 1 {
				t.Error("the log does not say once that calls are refused")
			}
		})
	}
}

// TestRequestsBeyondTheLimitAreToldWhenToComeAgain: over HTTP, too.
func TestRequestsBeyondTheLimitAreToldWhenToComeAgain(t *testing.T) {
	g := newGuard(Limits{Calls: 1}, slog.New(slog.DiscardHandler))
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
	g.HTTP(web)
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		web.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/da", nil))
		return w
	}
	if w := ask(); w.Code != http.StatusNoContent {
		t.Fatalf("a first request has status %d", w.Code)
	}
	c := g.call(t.Context(), "/t.T/Wait")
	if err := g.begin(c); err != nil {
		t.Fatal(err)
	}
	w := ask()
	after, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if w.Code != http.StatusServiceUnavailable || err != nil || after < 1 || after > 2 || !strings.Contains(w.Body.String(), "try again") {
		t.Errorf("one more than the limit has status %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	g.end(c)
	if w := ask(); w.Code != http.StatusNoContent {
		t.Errorf("then status %d", w.Code)
	}
}

func TestMessagesBeyondTheLimitAreRefused(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			s := serveGuarded(t, Limits{Message: 1 << 20}, shared)
			c := s.client(t)
			err := invokeGuarded(t, c, "Echo", 2<<20)
			if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "must be at most 1048576") {
				t.Errorf("a message of twice the limit: %v", err)
			}
			if n := s.guard.Counts().LongMessages; n != 1 {
				t.Errorf("%d long messages counted, want 1", n)
			}
			for _, size := range []int{0, 1, 1 << 15, 1<<20 - 4} { // 4 bytes precede the bytes
				if err := invokeGuarded(t, c, "Echo", size); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
			if used, _ := s.guard.budget.bytes(); used != 0 {
				t.Errorf("%d bytes are still taken when all calls have ended", used)
			}
		})
	}
}

func TestAPanicInTheGuardEndsOneCall(t *testing.T) {
	s := serveGuarded(t, Limits{Message: 1 << 16}, false)
	c := s.client(t)
	err := invokeGuarded(t, c, "Panic", 1)
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "on purpose") {
		t.Errorf("a panic: %v", err)
	}
	if s.log.count("on purpose") == 0 {
		t.Error("the log does not have the panic")
	}
	if err := invokeGuarded(t, c, "Echo", 1); err != nil {
		t.Error(err)
	}
}

func TestGuardMetricsAreLintClean(t *testing.T) {
	g := newGuard(Limits{Message: 1}, slog.New(slog.DiscardHandler))
	problems, err := testutil.CollectAndLint(g.Collector())
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestConnectionsNeverTakeAllDescriptors(t *testing.T) {
	g := newGuard(Limits{Message: 1, Conns: 1 << 30}, slog.New(slog.DiscardHandler))
	if got, most := g.limits.Conns, descriptors()/2; got > most {
		t.Errorf("%d connections of %d descriptors", got, descriptors())
	}
}
