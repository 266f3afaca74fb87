package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

// server answers Echo with what it got, Wait when release is closed, Panic not.
type server struct {
	addr    string
	guard   *Guard
	log     *lines
	release chan struct{}
	entered chan struct{}
}

func (s *server) handle(_ any, ctx context.Context, dec func(any) error,
	intercept grpc.UnaryServerInterceptor, method string,
) (any, error) {
	var in proto.Message = new(wrapperspb.BytesValue)
	if method == "List" {
		in = new(structpb.ListValue)
	}
	if err := dec(in); err != nil {
		return nil, err
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

func (s *server) desc(name string) *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil)}
	for _, m := range []string{"Echo", "Wait", "Panic", "List"} {
		handle := func(srv any, ctx context.Context, dec func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			return s.handle(srv, ctx, dec, i, m)
		}
		d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: m, Handler: handle})
	}
	return d
}

// serve starts a server; over HTTP it is net/http's with the guard's Handler.
func serve(t *testing.T, limits Limits, overHTTP bool) *server {
	t.Helper()
	s := &server{log: &lines{}, release: make(chan struct{}), entered: make(chan struct{}, 100)}
	s.guard = NewGuard(limits, slog.New(slog.NewTextHandler(s.log, nil)))
	rpc := grpc.NewServer(s.guard.ServerOptions()...)
	s.guard.Registrar(rpc).RegisterService(s.desc("t.T"), s)
	rpc.RegisterService(s.desc("plain.T"), s)
	healthpb.RegisterHealthServer(s.guard.Registrar(rpc), health.NewServer())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = lis.Addr().String()
	done := make(chan error, 1)
	stop := rpc.Stop
	if overHTTP {
		web := &http.Server{Handler: s.guard.Handler(rpc), ConnContext: s.guard.ConnContext,
			Protocols: new(http.Protocols), HTTP2: s.guard.HTTP2()}
		web.Protocols.SetUnencryptedHTTP2(true)
		go func() { done <- web.Serve(s.guard.Listener(lis)) }()
		stop = func() { rpc.Stop(); web.Close() }
	} else {
		go func() { done <- rpc.Serve(s.guard.Listener(lis)) }()
	}
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

func (s *server) client(t *testing.T) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func invoke(t *testing.T, c *grpc.ClientConn, method string, size int) error {
	t.Helper()
	return c.Invoke(t.Context(), "/t.T/"+method, wrapperspb.Bytes(make([]byte, size)), new(wrapperspb.BytesValue))
}

func TestIdleConnectionsShutNobodyOut(t *testing.T) {
	for name, overHTTP := range map[string]bool{"gRPC": false, "HTTP": true} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Limits{Message: 1 << 20, Conns: 8}, overHTTP)
			busy := s.client(t)
			waited := make(chan error, 1)
			go func() { waited <- invoke(t, busy, "Wait", 1) }()
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
				if err := c.Invoke(t.Context(), "/t.T/Echo", wrapperspb.Bytes([]byte{1}), new(wrapperspb.BytesValue), grpc.WaitForReady(true)); err != nil {
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
	for name, overHTTP := range map[string]bool{"gRPC": false, "HTTP": true} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Limits{Message: 1 << 20, Calls: 2}, overHTTP)
			c := s.client(t)
			waited := make(chan error, 2)
			for range 2 {
				go func() { waited <- invoke(t, c, "Wait", 1) }()
				<-s.entered
			}
			if err := invoke(t, c, "Echo", 1); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("a third call: %v, want RESOURCE_EXHAUSTED", err)
			}
			close(s.release)
			for range 2 {
				if err := <-waited; err != nil {
					t.Error(err)
				}
			}
			for {
				err := invoke(t, c, "Echo", 1) // the two are forgotten a moment after their replies
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

func TestMessagesBeyondTheLimitAreRefused(t *testing.T) {
	for name, overHTTP := range map[string]bool{"gRPC": false, "HTTP": true} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Limits{Message: 1 << 20}, overHTTP)
			c := s.client(t)
			err := invoke(t, c, "Echo", 2<<20)
			if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "must be at most 1048576") {
				t.Errorf("a message of twice the limit: %v", err)
			}
			if n := s.guard.Counts().LongMessages; n != 1 {
				t.Errorf("%d long messages counted, want 1", n)
			}
			for _, size := range []int{0, 1, 1 << 15, 1<<20 - 4} { // 4 bytes precede the bytes
				if err := invoke(t, c, "Echo", size); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
			if used, _ := s.guard.budget.bytes(); used != 0 {
				t.Errorf("%d bytes are still taken when all calls have ended", used)
			}
		})
	}
}

func TestAPanicEndsOneCall(t *testing.T) {
	s := serve(t, Limits{Message: 1 << 16}, false)
	c := s.client(t)
	err := invoke(t, c, "Panic", 1)
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "on purpose") {
		t.Errorf("a panic: %v", err)
	}
	if s.log.count("on purpose") == 0 {
		t.Error("the log does not have the panic")
	}
	if err := invoke(t, c, "Echo", 1); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreLintClean(t *testing.T) {
	g := NewGuard(Limits{Message: 1}, slog.New(slog.DiscardHandler))
	problems, err := testutil.CollectAndLint(g.Collector())
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestConnectionsNeverTakeAllDescriptors(t *testing.T) {
	g := NewGuard(Limits{Message: 1, Conns: 1 << 30}, slog.New(slog.DiscardHandler))
	if got, most := g.limits.Conns, descriptors()/2; got > most {
		t.Errorf("%d connections of %d descriptors", got, descriptors())
	}
}
