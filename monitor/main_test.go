package monitor

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store/dbtest"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
)

func TestMainErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	empty := dbtest.SQLite(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, 0, "--heartbeat-misses"},
		{nil, 1, "no database"},
		{[]string{"--unknown"}, 1, "unknown flag"},
		{[]string{"x"}, 1, `unexpected argument "x"`},
		{[]string{"--port", "70000", "--db-uri", empty}, 1, "--port 70000"},
		{[]string{"--listener", "256.0.0.1", "--db-uri", empty}, 1, "--listener 256.0.0.1"},
		{[]string{"--listener", "127.0.0.1", "--port", port, "--db-uri", empty}, 1, "--port " + port + " is in use on 127.0.0.1"},
		{[]string{"--log-level", "loud", "--db-uri", empty}, 1, "--log-level"},
		{[]string{"--heartbeat-timeout", "2s", "--db-uri", empty}, 1, "below heartbeat-period"},
		{[]string{"--cn-lease", "3s", "--db-uri", empty}, 1, "cn-lease 3s must be"},
		{[]string{"--heartbeat-misses", "0", "--db-uri", empty}, 1, "--heartbeat-misses 0 must be above 0"},
		{[]string{"--parallel", "-1", "--db-uri", empty}, 1, "--parallel -1 must be above 0"},
		{[]string{"--sync-timeout", "0s", "--db-uri", empty}, 1, "--sync-timeout 0s must be above 0"},
		{[]string{"--advertise", "0.0.0.0:9620", "--db-uri", empty}, 1, "--advertise"},
		{[]string{"--advertise", "192.168.0.12:9620", "--db-uri", empty}, 1, "give --listener"},
		{[]string{"--listener", "127.0.0.1", "--port", "0", "--db-uri", empty}, 1, "vda_db --action create"},
		{[]string{"--listener", "127.0.0.1", "--port", "0", "--db-uri", "postgresql://u:hunter2@127.0.0.1:1/d"}, 1, "127.0.0.1:1"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Program().Run(t.Context(), program.Process{Args: c.args, Stdout: &out, Stderr: &errs})
			if code != c.code || !strings.Contains(out.String()+errs.String(), c.want) {
				t.Errorf("exit code %d\nstdout %s\nstderr %s\nwant %q", code, out.String(), errs.String(), c.want)
			}
			if code != 0 && strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("stderr is not one line: %q", errs.String())
			}
			if strings.Contains(errs.String(), "hunter2") {
				t.Errorf("the password is in %q", errs.String())
			}
		})
	}
}

func TestServe(t *testing.T) {
	uri := storetest.SQLite(t)
	ctx, stop := context.WithCancel(t.Context())
	ready := make(chan string, 1)
	ended := make(chan error, 1)
	m := Main{Flags: daemon.Flags{Listener: "127.0.0.1"}, Config: Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
		DatabaseURI: uri, Ready: ready}
	go func() { ended <- m.Run(ctx) }()
	addr := <-ready
	pool := syncer.NewPool(rpc.DialConfig{})
	defer pool.Close()
	peer, err := pool.Monitor(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Hear(t.Context(), &apiv1.HearRequest{ClusterId: "c", NodeId: "n"}); status.Code(err) != codes.NotFound {
		t.Errorf("asked for an unknown node: %v", err)
	}
	conn, err := rpc.Dial(addr, rpc.DialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rpc := healthpb.NewHealthClient(conn)
	deadline := time.Now().Add(2 * time.Minute)
	for {
		r, err := rpc.Check(t.Context(), &healthpb.HealthCheckRequest{Service: apiv1.Monitor_ServiceDesc.ServiceName})
		if err == nil && r.Status == healthpb.HealthCheckResponse_SERVING {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("health: %v, %v", r, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for path, want := range map[string]string{"/metrics": "vda_monitor_ready 1", "/healthz": "ok"} {
		r, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v, %.100s", path, r.StatusCode, err, body)
		}
	}
	r, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	problems, err := promlint.New(r.Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// A client that watches the health does not hold up the end.
	w, err := rpc.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not stop")
	}
}
