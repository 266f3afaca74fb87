package rpc

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestPagesCallTheServices: what a program's pages call is checked, logged and
// answered as a call over gRPC is, and comes from where the request did.
func TestPagesCallTheServices(t *testing.T) {
	var mu sync.Mutex
	var asked []Call
	r := serve(t, func(c *Config) {
		c.Authorize = func(_ context.Context, call Call) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, call)
			if strings.HasSuffix(call.Method, "Heartbeat") {
				return status.Error(codes.PermissionDenied, "not from a page")
			}
			return nil
		}
		c.Web = func(conn grpc.ClientConnInterface) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx := metadata.AppendToOutgoingContext(r.Context(), idKey, "page-1")
				var reply wrapperspb.StringValue
				err := conn.Invoke(ctx, "/"+service+r.URL.Path, wrapperspb.String("a page"), &reply)
				fmt.Fprintf(w, "%s: %s", status.Code(err), reply.Value)
			})
		}
	})
	get := func(path string) string {
		resp, err := http.Get("http://" + r.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for path, want := range map[string]string{"/Echo": "OK: a page", "/Fail": "NotFound: ", "/Panic": "Internal: ",
		"/Heartbeat": "PermissionDenied: ", "/Nothing": "Unimplemented: "} {
		if got := get(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if r.log.line("req_id=page-1", "method=Echo", "peer=127.0.0.1:") == "" {
		t.Errorf("a page's call is not in the log:\n%s", r.log)
	}
	if got := get("/healthz"); strings.Contains(got, "Unimplemented") {
		t.Errorf("/healthz: %q", got)
	}
	if got := get("/metrics"); !strings.Contains(got, service+`/Echo"`) {
		t.Errorf("/metrics does not count the pages' calls")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, c := range asked {
		if !strings.HasPrefix(c.Peer, "127.0.0.1:") {
			t.Errorf("%s comes from %q", c.Method, c.Peer)
		}
	}
}
