package rpc

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestEveryCallHasAnID: a client's own is taken when it may be one, and all is
// logged and answered under it.
func TestEveryCallHasAnID(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(DialConfig{})
	for name, ids := range map[string][]string{"none": nil, "one": {"csi-7"}, "two": {"a", "b"}, "hostile": {`x" level=ERROR`}} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			for _, id := range ids {
				ctx = metadata.AppendToOutgoingContext(ctx, idKey, id)
			}
			for _, method := range []string{"Echo", "Fail"} {
				var header metadata.MD
				_ = do(ctx, c, method, grpc.Header(&header))
				id := RequestID(<-r.entered)
				if name == "one" && id != "csi-7" || name != "one" && len(id) != 32 {
					t.Errorf("the handler has the id %q", id)
				}
				if got := header.Get(idKey); len(got) != 1 || got[0] != id {
					t.Errorf("%s answers with the ids %q, want %q", method, got, id)
				}
				if r.log.line("req_id="+id, "method="+method, "peer=127.0.0.1:") == "" {
					t.Errorf("%s of %s is not in the log:\n%s", method, id, r.log)
				}
			}
		})
	}
	s := open(t, WithRequestID(t.Context(), "watch-1"), c)
	if id := RequestID(<-r.entered); id != "watch-1" {
		t.Errorf("a stream has the id %q", id)
	}
	if h, err := s.Header(); err != nil || len(h.Get(idKey)) != 1 || h.Get(idKey)[0] != "watch-1" {
		t.Errorf("a stream answers with %v, %v", h, err)
	}
}

func TestLevelsOfTheLog(t *testing.T) {
	r := serve(t, func(c *Config) {
		c.Quiet = []string{"Heartbeat"}
		c.Intercept = func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if strings.HasSuffix(info.FullMethod, "Wait") {
				Annotate(ctx, slog.String("reply_msg", "as it was"))
				return nil, status.Error(codes.Aborted, "not shown")
			}
			return handle(ctx, req)
		}
	})
	c := r.dial(DialConfig{})
	for _, tt := range []struct {
		method string
		want   []string
	}{
		{"Echo", []string{"level=INFO", "msg=request"}},
		{"Fail", []string{"level=WARN", "code=NotFound", `err="`, "there is none"}},
		{"Panic", []string{"level=ERROR", "code=Internal"}},
		{"Heartbeat", []string{"level=DEBUG"}},
		{"Wait", []string{"level=WARN", "code=Aborted", `reply_msg="as it was"`}},
	} {
		_ = do(t.Context(), c, tt.method)
		line := r.log.line("method="+tt.method+" ", "took=")
		for _, w := range tt.want {
			if !strings.Contains(line, w) {
				t.Errorf("%s is logged as %q, want %s in it", tt.method, line, w)
			}
		}
	}
	if strings.Contains(r.log.String(), "not shown") {
		t.Errorf("a record that was annotated has the error too:\n%s", r.log)
	}
}

// TestDeadline: a call ends before its client gives up, or after
// Config.Deadline when its client would wait for ever.
func TestDeadline(t *testing.T) {
	r := serve(t, func(c *Config) { c.Deadline, c.Early = 5*time.Second, true })
	c := r.dial(DialConfig{})
	left := func(ctx context.Context) time.Duration {
		t.Helper()
		if err := do(ctx, c, "Echo"); err != nil {
			t.Fatal(err)
		}
		at, _ := (<-r.entered).Deadline()
		return time.Until(at)
	}
	if d := left(t.Context()); d > 5*time.Second || d < time.Second {
		t.Errorf("a call without a deadline has %v", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if d := left(ctx); d > 3600*time.Millisecond {
		t.Errorf("a call whose client waits for 4 s has %v, want at most 3.6 s", d)
	}
	late := serve(t, nil)
	ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := do(ctx, late.dial(DialConfig{}), "Echo"); err != nil {
		t.Fatal(err)
	}
	if at, ok := (<-late.entered).Deadline(); !ok || time.Until(at) > time.Minute {
		t.Errorf("by default a call has until %v", at)
	}
}

func TestAPanicEndsOneCall(t *testing.T) {
	var inside error
	r := serve(t, func(c *Config) {
		c.Intercept = func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if strings.HasSuffix(info.FullMethod, "Fail") {
				panic("in the interceptor")
			}
			resp, err := handle(ctx, req)
			inside = err
			return resp, err
		}
	})
	c := r.dial(DialConfig{})
	for method, says := range map[string]string{"Panic": "on purpose", "Fail": "in the interceptor"} {
		err := do(WithRequestID(t.Context(), "id-"+method), c, method)
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "req_id id-"+method) {
			t.Errorf("%s: %v", method, err)
		}
		if line := r.log.line("panicked", says, "req_id=id-"+method); !strings.Contains(line, "stack=") {
			t.Errorf("the log does not have the panic of %s:\n%s", method, r.log)
		}
	}
	if status.Code(inside) != codes.Internal {
		t.Errorf("the program's interceptor sees %v", inside)
	}
	if err := do(t.Context(), c, "Echo"); err != nil {
		t.Error(err)
	}
}

// TestAuthorizeAndAudit: nothing runs that was refused, the program's
// interceptor sees the refusal, and each call is told once, one over HTTP when it is refused.
func TestAuthorizeAndAudit(t *testing.T) {
	refused := errors.New("not you")
	var mu sync.Mutex
	var told []string
	r := serve(t, func(c *Config) {
		c.Authorize = func(_ context.Context, c Call) error {
			if strings.HasSuffix(c.Method, "Echo") || c.Method == "GET /healthz" {
				return nil
			}
			return refused
		}
		c.Audit = func(_ context.Context, c Call, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, c.Method+" "+c.ID+" "+status.Code(err).String())
		}
		c.Intercept = func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			resp, err := handle(ctx, req)
			if errors.Is(err, refused) {
				err = status.Error(codes.PermissionDenied, "not you")
			}
			return resp, err
		}
	})
	c := r.dial(DialConfig{})
	if err := do(WithRequestID(t.Context(), "1"), c, "Echo"); err != nil {
		t.Error(err)
	}
	<-r.entered
	if err := do(WithRequestID(t.Context(), "2"), c, "Fail"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a call that is refused: %v", err)
	}
	s, err := c.NewStream(WithRequestID(t.Context(), "3"), &grpc.StreamDesc{ServerStreams: true}, "/"+service+"/Watch")
	if err == nil {
		err = s.RecvMsg(nil)
	}
	if err == nil {
		t.Error("a stream that is refused goes on")
	}
	if len(r.entered) != 0 {
		t.Error("a handler ran whose call was refused")
	}
	if code, _ := get(t, r, "/metrics"); code != 403 {
		t.Errorf("/metrics: %d", code)
	}
	if code, _ := get(t, r, "/healthz"); code == 403 {
		t.Errorf("/healthz: %d", code)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"/vda.test.T/Echo 1 OK", "/vda.test.T/Fail 2 PermissionDenied", "/vda.test.T/Watch 3 Unknown", "GET /metrics  Unknown"}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("told of %q, want %q", told, want)
	}
}

// TestRefusedRequestsAreCallsToo: a request that no handler sees has an id and a
// record in the log, and the program may put the refusal into its own words.
func TestRefusedRequestsAreCallsToo(t *testing.T) {
	r := serve(t, func(c *Config) {
		c.Limits.Message = 100
		c.Intercept = func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			resp, err := handle(ctx, req)
			if long := (*TooLong)(nil); errors.As(err, &long) {
				err = status.Errorf(codes.InvalidArgument, "too long: %d", long.Size)
			}
			return resp, err
		}
	})
	c := r.dial(DialConfig{})
	var header metadata.MD
	long := wrapperspb.String(strings.Repeat("x", 200))
	err := c.Invoke(WithRequestID(t.Context(), "long-1"), "/"+service+"/Echo", long, new(wrapperspb.StringValue), grpc.Header(&header))
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "too long: 203") {
		t.Errorf("a long request: %v", err)
	}
	if got := header.Get(idKey); len(got) != 1 || got[0] != "long-1" {
		t.Errorf("it is answered with the ids %q", got)
	}
	if r.log.line("req_id=long-1", "method=Echo", "level=WARN") == "" {
		t.Errorf("it is not in the log:\n%s", r.log)
	}
	if len(r.entered) != 0 {
		t.Error("a handler has seen it")
	}
}
