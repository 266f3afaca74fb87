// Package cmd_test holds what is asked of every program alike.
package cmd_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
)

// brokenPipe is a pipe whose reader has gone.
func brokenPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close() })
	return w
}

// bin is where the programs are once a test has asked for them; TestMain removes it.
var bin struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	status := m.Run()
	if bin.dir != "" {
		os.RemoveAll(bin.dir)
	}
	os.Exit(status)
}

// programs builds them all, once.
func programs(t *testing.T) (dir string) {
	t.Helper()
	bin.once.Do(func() {
		if bin.dir, bin.err = os.MkdirTemp("", "vda-cmd-"); bin.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", bin.dir, "./...")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			bin.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if bin.err != nil {
		t.Fatal(bin.err)
	}
	return bin.dir
}

// freePort is one that nobody serves now.
func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

// A daemon whose log goes to a reader that has gone serves on, and a command
// whose output does finishes what it does.
func TestProgramsOutliveTheReaderOfTheirOutput(t *testing.T) {
	bin, dir := programs(t), t.TempDir()
	broken := brokenPipe(t)
	uri := "sqlite:///" + filepath.Join(dir, "vda.db")
	socket := filepath.Join(dir, "tgt.sock")
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, name), args...)
		c.Dir, c.Stdout, c.Stderr = dir, broken, broken
		return c
	}
	// died reports the end of a program by a signal; its exit code is its own.
	died := func(err error) bool {
		exit, ok := err.(*exec.ExitError)
		return ok && exit.Sys().(syscall.WaitStatus).Signaled()
	}
	anyEnded := make(chan string, 8)
	start := func(name string, args ...string) {
		t.Helper()
		c, ended := command(name, args...), make(chan error, 1)
		if err := child.Start(c); err != nil {
			t.Fatal(err)
		}
		go func() {
			ended <- c.Wait()
			anyEnded <- name
		}()
		t.Cleanup(func() {
			select {
			case err := <-ended:
				t.Errorf("%s ended by itself: %v", name, err)
			default:
				c.Process.Signal(syscall.SIGTERM)
				if err := <-ended; err != nil {
					t.Errorf("%s, stopped by SIGTERM: %v", name, err)
				}
			}
		})
	}
	if err := child.Run(command("vda_db", "--action", "create", "--db-uri", uri)); died(err) {
		t.Errorf("vda_db: %v", err)
	}
	listener := func() string {
		return fmt.Sprintf(`{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"%d"}`, freePort(t))
	}
	portal, dn, monitor, cn := freePort(t), freePort(t), freePort(t), freePort(t)
	dnListener := listener()
	start("vda_tgt", "--rpc-socket", socket)
	start("vda_dn_agent", "--listener", "127.0.0.1", "--port", fmt.Sprint(dn), "--sock-path", socket, "--sock-wait", "1m",
		"--state-dir", filepath.Join(dir, "dn"), "--listener-conf", dnListener)
	start("vda_tgt", "--rpc-socket", socket+"2")
	start("vda_cn_agent", "--listener", "127.0.0.1", "--port", fmt.Sprint(cn), "--sock-path", socket+"2", "--sock-wait", "1m",
		"--state-dir", filepath.Join(dir, "cn"), "--listener-conf", listener())
	start("vda_portal", "--listener", "127.0.0.1", "--port", fmt.Sprint(portal), "--db-uri", uri)
	start("vda_monitor", "--listener", "127.0.0.1", "--port", fmt.Sprint(monitor), "--db-uri", uri)

	// Each of these makes the daemons log.
	name, address := fmt.Sprintf("127.0.0.1:%d", dn), fmt.Sprintf("127.0.0.1:%d", portal)
	for _, port := range []int{portal, dn, cn, monitor} {
		waitServed(t, port, anyEnded)
	}
	create := exec.Command(filepath.Join(bin, "vda_cli"), "--addr-port", address, "dn", "create", "--dn-name", name,
		"--dn-listener-conf", dnListener)
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("dn create: %v\n%s", err, out)
	}
	for program, args := range map[string][]string{
		"vda_cli": {"--addr-port", address, "dn", "list"},
		"vda_rpc": {"-s", socket, "rpc_get_methods"},
		"vda_db":  {"--action", "status", "--db-uri", uri},
	} {
		if err := child.Run(command(program, args...)); died(err) {
			t.Errorf("%s %s, whose output nobody reads: %v", program, strings.Join(args, " "), err)
		}
	}
	var out bytes.Buffer
	get := exec.Command(filepath.Join(bin, "vda_cli"), "--addr-port", address, "dn", "get", "--dn-name", name)
	get.Stdout, get.Stderr = &out, &out
	if err := get.Run(); err != nil {
		t.Errorf("dn get after all that: %v\n%s", err, &out)
	}
}

// waitServed waits until a program serves a port, as long as none ends.
func waitServed(t *testing.T, port int, ended <-chan string) {
	t.Helper()
	for {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return
		}
		select {
		case name := <-ended:
			t.Fatalf("%s has ended", name)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
