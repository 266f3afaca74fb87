package tgtcli

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
)

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, p...)
	return len(p), nil
}

// TestLimitsAreNoLock: with a limit of 80 files (which vda_tgt raises where it
// may), 200 idle connections to the target and 70 to the JSON-RPC socket, the
// data plane is still managed, and says what is the matter in a few lines.
func TestLimitsAreNoLock(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	plain := tgt("-r", socket)
	cmd := exec.Command("/bin/sh", append([]string{"-c", `ulimit -n 80; exec "$0" "$@"`, plain.Path}, plain.Args[1:]...)...)
	cmd.Env = plain.Env
	var log output
	cmd.Stderr = &log
	if err := child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	call := func(args ...string) string {
		t.Helper()
		code, out, errs := rpc(t, append([]string{"-s", socket, "--wait", "10", "-t", "20"}, args...)...)
		if code != 0 {
			t.Fatalf("%v: %s", args, errs)
		}
		return out
	}
	call("nvmf_create_transport", `{"trtype":"TCP"}`)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	call("nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:a"}`)
	call("nvmf_subsystem_add_listener", `{"nqn":"nqn.2016-06.io.spdk:a","listen_address":`+
		`{"trtype":"TCP","adrfam":"IPv4","traddr":"127.0.0.1","trsvcid":"`+port+`"}}`)
	for range 200 {
		if c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second); err == nil {
			defer c.Close()
		}
	}
	for range 70 {
		if c, err := net.Dial("unix", socket); err == nil {
			defer c.Close()
		}
	}
	for range 3 {
		if out := call("nvmf_get_stats"); !strings.Contains(out, "vda_limits_met") || !strings.Contains(out, "vda_rpc_limits_met") {
			t.Errorf("nvmf_get_stats: %s", out)
		}
	}
	call("nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:b"}`)
	log.mu.Lock()
	defer log.mu.Unlock()
	if n := strings.Count(string(log.buf), "level=WARN"); n == 0 || n > 6 {
		t.Errorf("%d lines of warnings:\n%s", n, log.buf)
	}
}
