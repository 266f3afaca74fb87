package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/virtual-disk-array/vda/daemon/httpd"
)

func get(t *testing.T, r *rig, path string) (status int, body string) {
	t.Helper()
	return fetch(t, http.DefaultClient, "http://"+r.addr+path)
}

func fetch(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// await polls until fn holds, or fails the test after a minute.
func await(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !fn(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestOnePortServesBoth(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(DialConfig{})
	if err := do(t.Context(), c, "Echo"); err != nil {
		t.Fatal(err)
	}
	await(t, "the program is well", func() bool { code, _ := get(t, r, "/healthz"); return code == 200 })
	code, body := get(t, r, "/metrics")
	for _, want := range []string{`vda_server_calls_total{code="OK",method="vda.test.T/Echo"} 1`, "vda_server_healthy 1",
		`vda_server_call_duration_seconds_count{method="vda.test.T/Echo"} 1`, "vda_server_calls_refused_total 0",
		`vda_build_info{component="vda_test"`} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("/metrics: %d, %q is missing in\n%s", code, want, body)
		}
	}
	// Bytes may come one by one.
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, b := range []byte("PRI\r\n") { // what HTTP/2 begins with, for a while
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Errorf("neither of both: %q, %v", answer, err)
	}
}

// TestTLS: one port, one certificate; clients of gRPC and of HTTP are told
// apart by ALPN, and Authorize learns who calls.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	var names atomic.Value
	names.Store("")
	r := serve(t, func(c *Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "server")}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert}
		c.Authorize = func(_ context.Context, c Call) error {
			if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 {
				return errors.New("no certificate")
			}
			names.Store(names.Load().(string) + c.Method + " by " + c.TLS.PeerCertificates[0].Subject.CommonName + "\n")
			return nil
		}
	})
	client := &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.issue(t, "admin")}}
	if err := do(t.Context(), r.dial(DialConfig{TLS: client}), "Echo"); err != nil {
		t.Fatal(err)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}}
	defer web.CloseIdleConnections()
	if code, _ := fetch(t, web, "https://"+r.addr+"/metrics"); code != 200 {
		t.Errorf("/metrics: %d", code)
	}
	if got, want := names.Load(), "/vda.test.T/Echo by admin\nGET /metrics by admin\n"; got != want {
		t.Errorf("asked for %q, want %q", got, want)
	}
	if err := do(t.Context(), r.dial(DialConfig{}), "Echo"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call in the clear: %v", err)
	}
	if err := do(t.Context(), r.dial(DialConfig{TLS: &tls.Config{RootCAs: a.pool}}), "Echo"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call without a certificate: %v", err)
	}
	other := newAuthority(t)
	if err := do(t.Context(), r.dial(DialConfig{TLS: &tls.Config{RootCAs: other.pool}}), "Echo"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call to a server of another authority: %v", err)
	}
}

// token says who calls.
type token string

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

func (token) RequireTransportSecurity() bool { return true }

// TestCredentialsReachAuthorize over TLS, and are not sent in the clear.
func TestCredentialsReachAuthorize(t *testing.T) {
	a := newAuthority(t)
	r := serve(t, func(c *Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "server")}}
		c.Authorize = func(ctx context.Context, _ Call) error {
			if got := metadata.ValueFromIncomingContext(ctx, "authorization"); len(got) == 1 && got[0] == "Bearer sesame" {
				return nil
			}
			return status.Error(codes.Unauthenticated, "who are you?")
		}
	})
	secure := DialConfig{TLS: &tls.Config{RootCAs: a.pool}}
	if err := do(t.Context(), r.dial(secure), "Echo"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	secure.Credentials = token("sesame")
	if err := do(t.Context(), r.dial(secure), "Echo"); err != nil {
		t.Errorf("with a token: %v", err)
	}
	if c, err := Dial(r.addr, DialConfig{Credentials: token("sesame")}); err == nil {
		c.Close()
		t.Error("a token would be sent in the clear")
	}
}

// TestStopWaitsForCalls: a call under way is answered, a stream ends, and no
// other call is taken.
func TestStopWaitsForCalls(t *testing.T) {
	r := serve(t, func(c *Config) { c.Grace = time.Hour })
	c := r.dial(DialConfig{})
	answered := make(chan error, 1)
	go func() { answered <- do(t.Context(), c, "Wait") }()
	<-r.entered
	s := open(t, t.Context(), c)
	<-r.entered
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if err := s.RecvMsg(nil); status.Code(err) != codes.Canceled {
		t.Errorf("the stream: %v", err)
	}
	if err := do(t.Context(), r.dial(DialConfig{}), "Echo"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call after the end: %v", err)
	}
	select {
	case err := <-answered:
		t.Errorf("the call under way was ended: %v", err)
	case <-stopped:
		t.Error("the server did not wait for the call under way")
	default:
	}
	close(r.release)
	if err := errors.Join(<-answered, <-stopped); err != nil {
		t.Error(err)
	}
}

func TestStopEndsCallsAfterTheGrace(t *testing.T) {
	r := serve(t, func(c *Config) { c.Grace = 10 * time.Millisecond })
	answered := make(chan error, 1)
	go func() { answered <- do(t.Context(), r.dial(DialConfig{}), "Wait") }()
	<-r.entered
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if err := <-answered; err == nil {
		t.Error("a call was answered that never ended")
	}
}

func TestHealth(t *testing.T) {
	for _, alive := range []bool{false, true} {
		var sick atomic.Bool
		changed := make(chan struct{}, 1)
		r := serve(t, func(c *Config) {
			c.Alive, c.Changed, c.HealthPeriod = alive, changed, time.Hour
			c.Health = func(context.Context) error {
				if sick.Load() {
					return errors.New("the disk is on fire")
				}
				return nil
			}
		})
		health := healthpb.NewHealthClient(r.dial(DialConfig{}))
		is := func(name string) healthpb.HealthCheckResponse_ServingStatus {
			resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			if err != nil {
				t.Fatal(err)
			}
			return resp.Status
		}
		await(t, "well", func() bool { return is(service) == healthpb.HealthCheckResponse_SERVING })
		sick.Store(true)
		changed <- struct{}{}
		await(t, "not well", func() bool { return is(service) == healthpb.HealthCheckResponse_NOT_SERVING })
		if got := is("") == healthpb.HealthCheckResponse_SERVING; got != alive {
			t.Errorf("alive %v: the program serves: %v", alive, got)
		}
		code, body := get(t, r, "/healthz")
		if ok := code == 200 && body == "ok\n"; ok != alive || !alive && (code != 503 || body != "the disk is on fire\n") {
			t.Errorf("alive %v: /healthz %d, %s", alive, code, body)
		}
		if _, body := get(t, r, "/metrics"); !strings.Contains(body, "vda_server_healthy 0") {
			t.Errorf("the metrics say it is well:\n%s", body)
		}
	}
}

// TestNews: who watches for news of a service hears of each, and who watches its
// health does not.
func TestNews(t *testing.T) {
	news := make(chan struct{}, 1)
	r := serve(t, func(c *Config) { c.News, c.HealthPeriod = news, time.Hour })
	health := healthpb.NewHealthClient(r.dial(DialConfig{}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watch, err := health.Watch(ctx, &healthpb.HealthCheckRequest{Service: service + NewsSuffix})
	if err != nil {
		t.Fatal(err)
	}
	for was := healthpb.HealthCheckResponse_SERVICE_UNKNOWN; was == healthpb.HealthCheckResponse_SERVICE_UNKNOWN; {
		m, err := watch.Recv() // it may be watched before it is served
		if err != nil {
			t.Fatal(err)
		}
		was = m.Status
	}
	for range 5 {
		news <- struct{}{}
		if _, err := watch.Recv(); err != nil {
			t.Fatalf("news are not heard of: %v", err)
		}
	}
	resp, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil || resp.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("the service itself: %v, %v", resp, err)
	}
}

// TestSilentConnectionsAreClosed: a client that does not say what it wants is
// given up.
func TestSilentConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lis := bufconn.Listen(1 << 10)
		p := newPort(lis, noTLS, always, nil)
		done := make(chan error, 1)
		go func() { done <- p.run() }()
		begin := time.Now()
		c, err := lis.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("PRI * HTTP/2.0")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(begin) != hello {
			t.Errorf("after %v: %v; want the end after %v", time.Since(begin), err, hello)
		}
		p.close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// tired is a listener that cannot accept at first, as for want of descriptors.
type tired struct {
	*bufconn.Listener
	times int
}

type passing struct{ error }

func (passing) Temporary() bool { return true }

func (l *tired) Accept() (net.Conn, error) {
	if l.times > 0 {
		l.times--
		return nil, passing{syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestAcceptingGoesOn when it could not be done for a while, and ends when it
// cannot be done any more.
func TestAcceptingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lis := &tired{bufconn.Listen(1 << 10), 20}
		p := newPort(lis, noTLS, always, nil)
		done := make(chan error, 1)
		go func() { done <- p.run() }()
		c, err := lis.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := p.web.Accept(); err != nil {
			t.Error(err)
		}
		lis.Close() // by somebody else
		if err := <-done; err == nil {
			t.Error("a port that cannot accept any more does not say so")
		}
	})
}

func TestMetricsAreLintClean(t *testing.T) {
	reg := httpd.NewRegistry("vda_test")
	s, err := newServer(Config{Services: (&rig{}).register, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	s.metrics.calls.WithLabelValues("a", "OK").Inc()
	s.metrics.seconds.WithLabelValues("a").Observe(1)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
