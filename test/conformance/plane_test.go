package conformance

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/sandbox/dataplane"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/spdktest"
)

// kind is a data plane that can be started.
type kind struct {
	name string
	args func(socket string) []string
}

var kinds []kind

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	plan, err := dataplane.FromEnv()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 2
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "vda_tgt")
	build := exec.Command("go", "build", "-o", bin, "github.com/virtual-disk-array/vda/cmd/vda_tgt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build vda_tgt:", err)
		return 1
	}
	for _, k := range plan.Kinds() {
		kinds = append(kinds, kind{string(k), func(socket string) []string {
			argv := plan.KindArgv(k, bin, socket)
			if k == dataplane.VDA {
				argv = append(argv, "--log-level", "debug")
			}
			return argv
		}})
	}
	fmt.Println("conformance:", plan.DescribeKinds())
	return m.Run()
}

// onEach runs a test on every data plane.
func onEach(t *testing.T, f func(t *testing.T, p *plane)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { f(t, start(t, k, false)) })
	}
}

// plane is a running data plane.
type plane struct {
	*spdk.Client
	spdktest.Methods
	t    *testing.T
	kind string
	cmd  *exec.Cmd
	log  string
}

// start runs a data plane until the test ends; waiting leaves it in the
// start-up state.
func start(t *testing.T, k kind, waiting bool) *plane {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "rpc.sock")
	if len(socket) > 100 { // a socket's path is short
		short, err := os.MkdirTemp("", "c")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(short) })
		socket = filepath.Join(short, "rpc.sock")
	}
	args := k.args(socket)
	p := &plane{t: t, kind: k.name, cmd: exec.Command(args[0], args[1:]...), log: filepath.Join(dir, "log")}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := child.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	if p.Client, err = spdk.New(spdk.Config{Socket: socket, CallTimeout: 20 * time.Second}); err != nil {
		t.Fatal(err)
	}
	p.Methods.Caller = p.Client
	t.Cleanup(p.finish)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if !waiting {
		p.ok(p.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(false)}))
		p.ok(p.FrameworkStartInit(ctx))
		p.ok(p.FrameworkWaitInit(ctx))
	}
	return p
}

// finish stops the data plane and shows the end of its log if the test failed.
func (p *plane) finish() {
	_ = p.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(10*time.Second, func() {
		if p.kind == "vda" { // SPDK hangs now and then, when a host has just left
			p.t.Error("vda_tgt does not end after SIGTERM")
		}
		_ = p.cmd.Process.Kill()
	})
	err := p.cmd.Wait()
	late.Stop()
	if err != nil && p.kind == "vda" {
		p.t.Errorf("vda_tgt ended with %v", err)
	}
	if p.t.Failed() {
		if log, err := os.ReadFile(p.log); err == nil {
			p.t.Logf("end of the log of %s:\n%s", p.kind, log[max(0, len(log)-8000):])
		}
	}
}

func (p *plane) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// must returns the value of a call that has to work.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// freePort returns a TCP port that was free just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
