package portal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
)

// command runs vda_portal until it ends by itself, and returns what it prints.
func command(t *testing.T, env string, args ...string) (line string, exit int) {
	t.Helper()
	var out bytes.Buffer
	exit = Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &out, Getenv: func(name string) (string, bool) {
		return env, name == dbflag.Env
	}})
	return out.String(), exit
}

// TestReachable: what a portal prints can be typed into a browser.
func TestReachable(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{"0.0.0.0:9520": net.JoinHostPort(host, "9520"), "[::]:9520": net.JoinHostPort(host, "9520"),
		"192.0.2.1:9520": "192.0.2.1:9520", "[2001:db8::1]:9520": "[2001:db8::1]:9520"} {
		if got := reachable(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at))); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

// TestStartRefused starts portals that cannot run: one line, exit status 1.
func TestStartRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, busy, _ := net.SplitHostPort(taken.Addr().String())
	free := fmt.Sprint(freePort(t))
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("a secret of all\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	oidc := []string{"--tls-dir", dir, "--oidc-client-id", "vda", "--oidc-issuer"}
	nowhere := "sqlite:///" + filepath.Join(dir, "none", "vda.db")
	for _, tt := range []struct {
		env  string
		args []string
		says []string
	}{
		{"", []string{"--port", free}, []string{"no database", "--db-uri", dbflag.Env}},
		{"", []string{"--bogus"}, []string{"--bogus"}},
		{"", []string{"serve"}, []string{`"serve"`}},
		{nowhere, []string{"--port", "70000"}, []string{"--port 70000", "0 to 65535"}},
		{nowhere, []string{"--port", "x"}, []string{"--port"}},
		{nowhere, []string{"--web-token-file", filepath.Join(dir, "none"), "--port", free}, []string{"--web-token-file", "no such file"}},
		{nowhere, []string{"--web-token-file", empty, "--port", free}, []string{"--web-token-file " + empty, "0 characters", "16 at least"}},
		{nowhere, []string{"--web-token-file", empty, "--no-web"}, []string{"--web-token-file", "--no-web"}},
		{nowhere, []string{"--oidc-client-id", "vda"}, []string{"--oidc-issuer is missing"}},
		{nowhere, []string{"--oidc-issuer", "https://l.example"}, []string{"--oidc-issuer needs --tls-dir"}},
		{nowhere, []string{"--oidc-issuer", "https://l.example", "--tls-dir", dir}, []string{"--oidc-client-id is missing"}},
		{nowhere, slices.Concat(oidc, []string{"https://l.example"}), []string{"--oidc-role is missing"}},
		{nowhere, slices.Concat(oidc, []string{"https://l.example", "--oidc-role", "boss"}), []string{`--oidc-role "boss"`, "VALUE=ROLE"}},
		{nowhere, slices.Concat(oidc, []string{"https://l.example", "--oidc-role", "a=boss"}), []string{`the role "boss"`, "admin, operator"}},
		{nowhere, slices.Concat(oidc, []string{"http://l.example", "--oidc-role", "a=admin"}), []string{`issuer "http://l.example"`, "https://"}},
		{nowhere, slices.Concat(oidc, []string{"https://l.example", "--oidc-role", "a=admin", "--oidc-client-secret-file", open}),
			[]string{"--oidc-client-secret-file " + open, "others may open it"}},
		{nowhere, slices.Concat(oidc, []string{"https://l.example", "--oidc-role", "a=admin", "--oidc-ca-file", open}),
			[]string{"--oidc-ca-file " + open, "no certificate in PEM"}},
		{nowhere, []string{"--discovery", "host:8009"}, []string{`--discovery: "host:8009" is not an IP address and a port`, "192.168.0.11:8009"}},
		{nowhere, []string{"--discovery", "192.168.0.11"}, []string{`--discovery: "192.168.0.11" is not`}},
		{nowhere, []string{"--log-level", "loud", "--port", free}, []string{"--log-level", "loud"}},
		{nowhere, []string{"--sync-timeout", "-1s", "--port", free}, []string{"--sync-timeout -1s must be above 0"}},
		{nowhere, []string{"--sync-timeout", "0s", "--port", free}, []string{"--sync-timeout 0s must be above 0"}},
		{nowhere, []string{"--listener", "127.0.0.1", "--port", busy}, []string{"--port " + busy, "in use", "127.0.0.1"}},
		{nowhere, []string{"--listener", "203.0.113.7", "--port", free}, []string{"--listener 203.0.113.7"}},
		{nowhere, []string{"--listener", "127.0.0.1", "--port", free}, []string{"vda.db"}},
		{"", []string{"--listener", "127.0.0.1", "--port", free, "--db-uri", "oracle://x"}, []string{"db-uri", "oracle", "postgresql://"}},
		{"", []string{"--listener", "127.0.0.1", "--port", free, "--db-uri", "postgresql://u:hushhush@127.0.0.1:1/x"}, []string{"127.0.0.1:1"}},
		{"", []string{"--port", free, "--db-uri", "sqlite:////x", "--db-uri-file", empty}, []string{"both"}},
		{"", []string{"--port", free, "--db-uri-file", empty}, []string{"--db-uri-file", "empty"}},
		{"", []string{"--port", free, "--db-uri-file", filepath.Join(dir, "gone")}, []string{"--db-uri-file", "gone", "no such file"}},
	} {
		line, exit := command(t, tt.env, tt.args...)
		if exit != 1 || strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "vda_portal: ") || strings.Contains(line, "hushhush") {
			t.Errorf("%v: exit %d, %q", tt.args, exit, line)
		}
		for _, s := range tt.says {
			if !strings.Contains(line, s) {
				t.Errorf("%v: %q does not say %q", tt.args, line, s)
			}
		}
	}
	if usage, exit := command(t, "", "--help"); exit != 0 || !strings.Contains(usage, "--db-uri-file") {
		t.Errorf("--help: exit %d, %s", exit, usage)
	}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestStartStop runs a portal with the URI from a file, uses it, and stops it
// as SIGTERM does; a second portal on the port is refused meanwhile.
func TestStartStop(t *testing.T) {
	uri := "sqlite:///" + filepath.Join(t.TempDir(), "vda.db")
	if _, _, err := store.Create(context.Background(), uri); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(file, []byte(uri+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(freePort(t))
	args := []string{"--listener", "127.0.0.1", "--port", port, "--db-uri-file", file}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		ended <- Program().Run(ctx, program.Process{Args: args, Stdout: io.Discard, Stderr: t.Output()})
	}()

	c, err := client.New(client.Config{Portals: []string{"127.0.0.1:" + port}, Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ListDa(ctx, &apiv1.ListDaRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	r, err := http.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	metrics, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(metrics), `vda_server_calls_total{code="OK",method="vda.v1.Portal/ListDa"} 1`) {
		t.Errorf("/metrics: %v, %s", err, metrics)
	}
	if line, exit := command(t, "", args...); exit != 1 || !strings.Contains(line, "in use") {
		t.Errorf("a second portal on the port: exit %d, %q", exit, line)
	}
	cancel()
	select {
	case exit := <-ended:
		if exit != 0 {
			t.Errorf("exit %d", exit)
		}
	case <-time.After(2 * time.Minute):
		t.Error("it does not stop")
	}
}
