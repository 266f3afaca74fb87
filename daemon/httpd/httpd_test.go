package httpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// serve starts Serve on a loopback port, and fails the test when it does not
// end well.
func serve(t *testing.T, c Config) (addr string, stop func()) {
	t.Helper()
	lis := listen(t)
	return lis.Addr().String(), serveOn(t, lis, c)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func serveOn(t *testing.T, lis net.Listener, c Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := Serve(ctx, lis, c); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func get(t *testing.T, addr, path string) (status int, body string) {
	t.Helper()
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestServesMetricsAndHealth(t *testing.T) {
	sick := make(chan error, 1)
	addr, stop := serve(t, Config{Registry: NewRegistry("vda_example"), Healthy: func() error {
		select {
		case err := <-sick:
			return err
		default:
			return nil
		}
	}})
	if code, body := get(t, addr, "/metrics"); code != 200 || !strings.Contains(body, `vda_build_info{component="vda_example",version="`) ||
		!strings.Contains(body, "vda_log_lines_dropped_total 0") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d, %s", code, body)
	}
	if code, body := get(t, addr, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d, %s", code, body)
	}
	sick <- errors.New("the disk is on fire")
	if code, body := get(t, addr, "/healthz"); code != 503 || body != "the disk is on fire\n" {
		t.Errorf("/healthz of a sick program: %d, %s", code, body)
	}
	if code, _ := get(t, addr, "/"); code != 404 {
		t.Errorf("/: %d", code)
	}
	if r, err := http.Post("http://"+addr+"/metrics", "text/plain", nil); err != nil || r.StatusCode != 405 {
		t.Errorf("POST /metrics: %v, %v", r, err)
	}
	stop()
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it still listens")
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	addr, _ := serve(t, Config{Registry: NewRegistry("vda_example"), Authorize: func(r *http.Request) error {
		if r.URL.Path == "/healthz" {
			return nil
		}
		return errors.New("who are you?")
	}})
	if code, body := get(t, addr, "/metrics"); code != 403 || body != "who are you?\n" {
		t.Errorf("/metrics: %d, %s", code, body)
	}
	if code, _ := get(t, addr, "/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
}

// pipes is a listener in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return nil }

// TestConnectionsAreBounded: those beyond the limit wait, those that ask nothing
// are closed, and then the others get their turn.
func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lis := make(pipes, maxConns+2)
		var ends []net.Conn
		for range cap(lis) {
			ours, theirs := net.Pipe()
			lis <- theirs
			ends = append(ends, ours)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, lis, Config{Registry: NewRegistry("vda_example")}) }()
		synctest.Wait()
		if n := len(lis); n != 2 {
			t.Errorf("%d connections wait, want 2 beyond the limit of %d", n, maxConns)
		}
		last := ends[len(ends)-1]
		go last.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
		r, err := http.ReadResponse(bufio.NewReader(last), nil)
		if err != nil || r.StatusCode != 200 {
			t.Errorf("the last one got %v, %v", r, err)
		}
		for _, c := range ends {
			c.Close()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRegistryIsLintClean(t *testing.T) {
	Lint(t, NewRegistry("vda_example"))
}

// Lint fails the test for what promlint says of VDA's own metrics.
func Lint(t *testing.T, g prometheus.Gatherer) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "vda_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
