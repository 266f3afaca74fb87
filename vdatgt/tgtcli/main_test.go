package tgtcli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/rpccli"
	"github.com/virtual-disk-array/vda/vdatgt"
)

// The test binary is vda_tgt itself when this is set.
const asMain = "VDA_TGT_TEST_AS_MAIN"

// The test binary listens on the Unix socket that it inherits when this is set.
const asListener = "VDA_TGT_TEST_AS_LISTENER"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		program.Main(Program())
	}
	if os.Getenv(asListener) != "" {
		if err := syscall.Listen(3, 16); err != nil {
			panic(err)
		}
		fmt.Println("it listens")
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

func tgt(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asMain+"=1")
	return c
}

// ran runs vda_tgt to its end.
func ran(args ...string) (string, error) {
	var out bytes.Buffer
	c := tgt(args...)
	c.Stdout, c.Stderr = &out, &out
	err := child.Run(c)
	return out.String(), err
}

// rpc runs vda_rpc and returns exit code and output.
func rpc(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := rpccli.Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// up starts vda_tgt and returns its socket and what waits for its end.
func up(t *testing.T, args ...string) (socket string, cmd *exec.Cmd) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	cmd = tgt(append([]string{"-r", socket}, args...)...)
	if err := child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return socket, cmd
}

func TestTutorialSteps(t *testing.T) {
	socket, cmd := up(t, "--wait-for-rpc")
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"--wait", "10", "bdev_set_options", "-d"}, ""},
		{[]string{"framework_start_init"}, ""},
		{[]string{"framework_wait_init"}, ""},
		{[]string{"bdev_malloc_create", `{"name":"M0","block_size":4096,"num_blocks":8192}`}, "M0\n"},
		{[]string{"bdev_malloc_create", "--name", "M1", "--block-size=4096", "--num_blocks", "8192"}, "M1\n"},
		{[]string{"bdev_raid_get_bdevs", "--category", "all"}, "[]\n"},
	} {
		code, out, errs := rpc(t, append([]string{"-s", socket}, step.args...)...)
		if code != 0 || out != step.want || errs != "" {
			t.Fatalf("vda_rpc %v: exit %d, %q, %q", step.args, code, out, errs)
		}
	}
	code, out, errs := rpc(t, "-s", socket, "bdev_get_bdevs", "--name", "M9")
	if code != 1 || out != "" || !strings.Contains(errs, `"code": -19`) || !strings.Contains(errs, "No such device") {
		t.Errorf("unknown bdev: exit %d, %q, %q", code, out, errs)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is left behind")
	}
}

func TestRPCWithoutServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-s", socket, "spdk_get_version"}, 1, "unreachable"},
		{[]string{"-s", socket, "--wait", "0.2", "spdk_get_version"}, 1, "unreachable"},
		{nil, 2, "name a method"},
		{[]string{"-t", "0", "x"}, 2, "above 0"},
		{[]string{"--nonsense"}, 2, "unknown flag"},
		{[]string{"-s", socket, "x", "{"}, 2, "not a JSON object"},
		{[]string{"-s", socket, "x", "[]"}, 2, "not a JSON object"},
		{[]string{"-s", socket, "x", "{}", "{}"}, 2, "after the parameters"},
		{[]string{"-s", socket, "x", "-q"}, 2, "no flag -q"},
		{[]string{"-s", socket, "x", "--a", "1", "--a", "2"}, 2, "twice"},
	} {
		code, _, errs := rpc(t, tc.args...)
		if code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("vda_rpc %v: exit %d, %q; want %d and %q", tc.args, code, errs, tc.code, tc.want)
		}
	}
}

// TestOneLine: what cannot work is one line on standard error and exit 1.
func TestOneLine(t *testing.T) {
	socket, _ := up(t)
	c, err := spdk.New(spdk.Config{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, busyPort, _ := net.SplitHostPort(busy.Addr().String())
	small := filepath.Join(t.TempDir(), "small")
	if err := os.WriteFile(small, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-r", socket}, "in use"},
		{[]string{"-r", "/no/such/folder/s"}, "no such file"},
		{[]string{"--nonsense"}, "unknown flag"},
		{[]string{"-r", socket, "--log-level", "loud"}, "--log-level"},
		{[]string{"-r", socket, "--buffer-memory", "1"}, "--buffer-memory 1"},
		{[]string{"-r", socket, "--max-connections", "0"}, "--max-connections 0"},
		{[]string{"-r", socket, "--spin", "1s"}, "--spin 1s"},
		{[]string{"-r", socket, "--http-port", "70000"}, "--http-port 70000"},
		{[]string{"-r", filepath.Join(t.TempDir(), "s"), "--http-listener", "127.0.0.1", "--http-port", busyPort},
			"--http-port " + busyPort + " is in use on 127.0.0.1"},
		{[]string{"stray"}, "stray"},
		{[]string{"check", "/no/such/file"}, "/no/such/file: there is no such file or device"},
		{[]string{"check", t.TempDir()}, "it must be a regular file or a block device, with one block of 4096 bytes (--block-size) at least"},
		{[]string{"check", small}, small + ": it must be a regular file or a block device, with one block of 4096 bytes"},
		{[]string{"check", "--block-size", "7", small}, "--block-size 7: it must be a power of two from 512 to 65536"},
		{[]string{"check", small + "/x"}, small + "/x cannot be opened: not a directory"},
		{[]string{"check", ""}, "name the file or block device"},
	} {
		out, err := ran(tc.args...)
		if strings.Contains(out, "bdev") {
			t.Errorf("vda_tgt %v names what the user has not: %s", tc.args, out)
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, tc.want) ||
			strings.Count(out, "\n") != 1 {
			t.Errorf("vda_tgt %v: %v, %q; want exit 1 and a line with %q", tc.args, err, out, tc.want)
		}
	}
}

// TestHTTPIsServedOnDemand: with --http-port, and not without.
func TestHTTPIsServedOnDemand(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	lis.Close()
	socket, _ := up(t, "--http-listener", "127.0.0.1", "--http-port", port)
	if code, _, errs := rpc(t, "-s", socket, "--wait", "10", "spdk_get_version"); code != 0 {
		t.Fatal(errs)
	}
	await := time.Now().Add(time.Minute)
	for {
		r, err := http.Get("http://127.0.0.1:" + port + "/metrics")
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 200 || !strings.Contains(string(body), `vda_build_info{component="vda_tgt",version="`) {
				t.Errorf("/metrics: %d, %s", r.StatusCode, body)
			}
			break
		}
		if time.Now().After(await) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHelpNamesEveryFlagAndDefault(t *testing.T) {
	out, err := ran("--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--rpc-socket", "/var/tmp/vda.sock", "--wait-for-rpc", "--buffer-memory", "1024", "--max-connections",
		"4096", "--spin", "20µs", "--http-port", "--http-listener", "127.0.0.1", "--log-level", "info", "--cpu-profile", "check"} {
		if !strings.Contains(out, want) {
			t.Errorf("--help lacks %q", want)
		}
	}
}

// TestCheck verifies an lvstore that was killed with the process.
func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 32<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := ran("check", file); err == nil || !strings.Contains(out, "no lvstore") {
		t.Errorf("an empty file: %v, %s", err, out)
	}
	socket, cmd := up(t)
	for _, args := range [][]string{
		{"--wait", "10", "bdev_aio_create", "--name", "A0", "--filename", file, "--block-size", "4096"},
		{"bdev_lvol_create_lvstore", "--bdev-name", "A0", "--lvs-name", "lvs", "--cluster-sz", "1048576"},
		{"bdev_lvol_create", "--lvs-name", "lvs", "--lvol-name", "v", "--size-in-mib", "4"},
	} {
		if code, _, errs := rpc(t, append([]string{"-s", socket}, args...)...); code != 0 {
			t.Fatalf("vda_rpc %v: %s", args, errs)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	out, err := ran("check", file)
	if err != nil || !strings.Contains(out, "left without an unload") {
		t.Errorf("after a kill: %v, %s", err, out)
	}
	out, err = ran("check", "--repair", file)
	if err != nil || !strings.Contains(out, "repaired: ") {
		t.Errorf("repair after a kill: %v, %s", err, out)
	}
	if out, err := ran("check", file); err != nil || strings.Contains(out, "without an unload") {
		t.Errorf("after a repair: %v, %s", err, out)
	}
	socket, cmd = up(t)
	create := []string{"-s", socket, "--wait", "10", "bdev_aio_create", "--name", "A0", "--filename", file, "--block-size", "4096"}
	if code, _, errs := rpc(t, create...); code != 0 {
		t.Fatal(errs)
	}
	if code, _, errs := rpc(t, "-s", socket, "bdev_get_bdevs", "--name", "lvs/v"); code != 0 {
		t.Fatal(errs)
	}
	if out, err := ran("check", "--repair", file); err == nil {
		t.Errorf("repair of a file that a vda_tgt uses: %s", out)
	}
	// A program that only looks writes nothing, not even that it has unloaded the store.
	if code, _, errs := rpc(t, "-s", socket, "bdev_lvol_rename", "--old-name", "lvs/v", "--new-name", "w"); code != 0 {
		t.Fatal(errs)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if out, err := ran("check", file); err != nil || strings.Contains(out, "without an unload") {
		t.Errorf("after SIGTERM: %v, %s", err, out)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 4096), 0); err != nil {
		t.Fatal(err)
	}
	if out, err := ran("check", file); err == nil {
		t.Errorf("a destroyed super block passes: %s", out)
	}
}

// TestReferenceIsCurrent: docs/jsonrpc.md is what "vda_tgt methods" prints.
func TestReferenceIsCurrent(t *testing.T) {
	var want bytes.Buffer
	if err := reference(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/jsonrpc.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("docs/jsonrpc.md is not current: run go run ./cmd/vda_tgt methods > docs/jsonrpc.md")
	}
}

// TestWordsOfRPC: vda_rpc knows which parameters are strings, so that --name
// 123 is one.
func TestWordsOfRPC(t *testing.T) {
	for _, m := range vdatgt.Methods() {
		for _, p := range m.Params {
			word := p.Type == "string" || p.Type == "uuid"
			if !strings.Contains(p.Name, ".") && word != rpccli.IsWord(p.Name) {
				t.Errorf("%s of %s is a %s; vda_rpc takes it for a string: %v", p.Name, m.Name, p.Type, !word)
			}
		}
	}
	socket, _ := up(t)
	create := []string{"-s", socket, "--wait", "20", "bdev_null_create", "--name", "123", "--block-size", "512", "--num-blocks", "8"}
	if code, _, errs := rpc(t, create...); code != 0 {
		t.Errorf("--name 123: %s", errs)
	}
}

// TestCompletion: a shell completes the methods that the data plane has, and
// none when there is no data plane.
func TestCompletion(t *testing.T) {
	socket, _ := up(t)
	rpc(t, "-s", socket, "--wait", "20", "rpc_get_methods")
	code, out, _ := rpc(t, "__complete", "-s", socket, "bdev_null")
	if code != 0 || !strings.HasPrefix(out, "bdev_null_create\nbdev_null_delete\nbdev_null_resize\n:") {
		t.Errorf("exit %d, %q", code, out)
	}
	var byEnv bytes.Buffer
	rpccli.Program().Run(t.Context(), program.Process{Args: []string{"__complete", "bdev_null_c"}, Stdout: &byEnv, Stderr: io.Discard,
		Getenv: func(name string) (string, bool) { return socket, name == "VDA_SOCKET" }})
	if !strings.HasPrefix(byEnv.String(), "bdev_null_create\n") {
		t.Errorf("with the socket in the environment: %q", byEnv.String())
	}
	if code, out, _ := rpc(t, "__complete", "-s", socket+"none", "bdev_null"); code != 0 || strings.Contains(out, "bdev") {
		t.Errorf("without a data plane: exit %d, %q", code, out)
	}
}

// TestSavedConfig saves what a vda_tgt is configured as, with vda_rpc, and
// loads it into another one, which is in the start-up state until then.
func TestSavedConfig(t *testing.T) {
	first, _ := up(t, "--wait-for-rpc")
	call := func(socket string, args ...string) string {
		t.Helper()
		code, out, errs := rpc(t, append([]string{"-s", socket, "--wait", "20"}, args...)...)
		if code != 0 {
			t.Fatalf("%v: %s", args, errs)
		}
		return out
	}
	call(first, "bdev_set_options", "-d")
	call(first, "framework_start_init")
	call(first, "bdev_null_create", "--name", "N", "--block-size", "512", "--num-blocks", "8192")
	call(first, "log_set_level", "--level", "DEBUG")
	if got := call(first, "log_get_level"); got != "DEBUG\n" {
		t.Errorf("the level that was set is %q", got)
	}
	saved := call(first, "save_config")
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(saved), 0o600); err != nil {
		t.Fatal(err)
	}
	second, _ := up(t, "--wait-for-rpc")
	call(second, "load_config", path)
	if again := call(second, "save_config"); again != saved || !strings.Contains(saved, "bdev_null_create") ||
		!strings.Contains(saved, `"bdev_auto_examine": false`) {
		t.Errorf("saved %s\nand after it was loaded %s", saved, again)
	}
	if code, _, errs := rpc(t, "-s", second, "load_config", "/none"); code != 2 || !strings.Contains(errs, "/none") {
		t.Errorf("a file that there is not: %d %s", code, errs)
	}
}

// TestKilledPredecessorIsWaitedFor: a vda_tgt that was killed keeps its socket, lock
// and ports while its I/O has not ended. The next one waits for that, whereas it refuses
// to start beside one that lives. That the test has the same open files stands for
// threads that have not ended.
func TestKilledPredecessorIsWaitedFor(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	lock, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket})
	}
	if err != nil {
		t.Fatal(err)
	}
	bound := os.NewFile(uintptr(fd), socket)
	defer bound.Close()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	_, port, _ := net.SplitHostPort(web.Addr().String())

	first := exec.Command(os.Args[0])
	first.Env = append(os.Environ(), asListener+"=1")
	first.ExtraFiles = []*os.File{bound}
	says, err := first.StdoutPipe()
	if err == nil {
		err = child.Start(first)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer first.Wait() //nolint:errcheck // it was killed
	defer first.Process.Kill()
	if line, err := bufio.NewReader(says).ReadString('\n'); err != nil {
		t.Fatalf("it says %q, %v", line, err)
	}
	args := []string{"-r", socket, "--http-listener", "127.0.0.1", "--http-port", port}
	if out, err := ran(args[:2]...); err == nil || !strings.Contains(out, "in use") {
		t.Fatalf("beside one that lives: %v, %s", err, out)
	}

	if err := first.Process.Kill(); err != nil { // and not yet reaped
		t.Fatal(err)
	}
	next := tgt(args...)
	said, err := next.StderrPipe()
	if err == nil {
		err = child.Start(next)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer next.Wait() //nolint:errcheck // it was killed
	defer next.Process.Kill()
	log := bufio.NewReader(said)
	if line, err := log.ReadString('\n'); err != nil || !strings.Contains(line, "waiting for the process") {
		t.Fatalf("it says %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	for _, c := range []io.Closer{lock, bound, web} {
		c.Close()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // the kernel may not have closed the old socket yet
		code, _, errs := rpc(t, "-s", socket, "--wait", "60", "spdk_get_version")
		if code == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal(errs)
		}
	}
}
