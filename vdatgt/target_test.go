package vdatgt

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func TestStates(t *testing.T) {
	p := start(t, Config{WaitForRPC: true})
	ctx := t.Context()
	if _, err := p.BdevGetBdevs(ctx); !spdk.IsNotInitialized(err) {
		t.Errorf("a run-time method in the start-up state: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- p.FrameworkWaitInit(ctx) }()
	before := must[[]string](t)(p.GetMethods(ctx, true))
	select {
	case err := <-waited:
		t.Fatalf("framework_wait_init returned early: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	ok(t, p.FrameworkStartInit(ctx))
	ok(t, <-waited)
	after := must[[]string](t)(p.GetMethods(ctx, true))
	if !slices.Contains(before, "framework_start_init") || slices.Contains(before, "bdev_get_bdevs") ||
		slices.Contains(after, "framework_start_init") || !slices.Contains(after, "bdev_get_bdevs") {
		t.Errorf("callable before: %v\nafter: %v", before, after)
	}
	if err := p.FrameworkStartInit(ctx); spdk.Code(err) != jsonrpc.CodeInvalidState {
		t.Errorf("framework_start_init twice: %v", err)
	}
	// Waiting ends with the process as well.
	w := start(t, Config{WaitForRPC: true})
	go func() { waited <- w.FrameworkWaitInit(ctx) }()
	time.Sleep(20 * time.Millisecond)
	ok(t, w.stop())
	if err := <-waited; err == nil {
		t.Error("framework_wait_init reports success of a target that never started")
	}
}

// TestSocketIsItsOwnersAlone: who opens the socket can do anything; another mode is for an
// operator to set.
func TestSocketIsItsOwnersAlone(t *testing.T) {
	p := start(t, Config{})
	fi, err := os.Stat(p.Socket())
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", fi.Mode(), err)
	}
}

func TestSocketInUse(t *testing.T) {
	p := start(t, Config{})
	tgt := must[*Target](t)(New(Config{RPCSocket: p.Socket(), Log: testLog()}))
	if err := tgt.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second target on the socket: %v", err)
	}
	if _, err := p.GetVersion(t.Context()); err != nil {
		t.Errorf("the first one suffered: %v", err)
	}
	ok(t, p.stop())
	for _, left := range []string{p.Socket(), p.Socket() + ".lock"} {
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind", left)
		}
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rpc.sock")
	l := must[*net.UnixListener](t)(net.ListenUnix("unix", &net.UnixAddr{Name: path}))
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	start(t, Config{RPCSocket: path})
}

func TestSocketPathsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	ok(t, os.WriteFile(file, []byte("precious"), 0o600))
	long := filepath.Join(dir, strings.Repeat("x", 120))
	for path, why := range map[string]string{"": "no path", long: "at most", filepath.Join(dir, "none", "s"): "no such file",
		file: "not a socket"} {
		tgt, err := New(Config{RPCSocket: path, Log: testLog()})
		if err == nil {
			err = tgt.Run(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("socket path %q: %v, want an error with %q", path, err, why)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}

// TestMethodTable: every method can be documented, and answers a parameter
// object that it cannot know with an error of its style.
func TestMethodTable(t *testing.T) {
	p := start(t, Config{})
	for _, m := range Methods() {
		if m.Doc == "" || !strings.HasSuffix(m.Doc, ".") {
			t.Errorf("%s: documentation %q is no sentence", m.Name, m.Doc)
		}
		if !m.Startup && !m.Runtime {
			t.Errorf("%s can never be called", m.Name)
		}
		for _, f := range m.Params {
			if f.Doc == "" {
				t.Errorf("%s: parameter %s is not documented", m.Name, f.Name)
			}
		}
		if !m.Runtime || m.Name == "framework_wait_init" {
			continue
		}
		err := p.Call(t.Context(), m.Name, json.RawMessage(`{"no such parameter":1,"listen_address":3,"namespace":3,"host":3,"trtype":3}`), nil)
		if c := spdk.Code(err); c != jsonrpc.CodeInvalidParams && c != jsonrpc.CodeInternalError && c != jsonrpc.CodeParseError {
			t.Errorf("%s: nonsense was answered with %v", m.Name, err)
		}
	}
}

// TestExamine: an lvstore is found by itself, or only when asked for.
func TestExamine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	ok(t, os.WriteFile(file, nil, 0o600))
	ok(t, os.Truncate(file, 32*miB))
	disk := spdk.AioCreate{Name: "A0", Filename: file, BlockSize: 4096}
	ctx := t.Context()

	p := start(t, Config{})
	must[string](t)(p.BdevAioCreate(ctx, disk))
	must[string](t)(p.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "A0", LvsName: "lvs", ClusterSz: miB}))
	must[string](t)(p.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "lvs", LvolName: "v", SizeInMiB: 4}))
	ok(t, p.stop())

	auto := start(t, Config{})
	must[string](t)(auto.BdevAioCreate(ctx, disk))
	must[*spdk.Bdev](t)(auto.BdevGet(ctx, "lvs/v", 0))
	ok(t, auto.stop())

	asked := start(t, Config{WaitForRPC: true})
	ok(t, asked.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(false)}))
	ok(t, asked.FrameworkStartInit(ctx))
	must[string](t)(asked.BdevAioCreate(ctx, disk))
	if _, err := asked.BdevLvolGetLvstore(ctx, "lvs"); !spdk.IsNoSuchDevice(err) {
		t.Fatalf("found without being asked: %v", err)
	}
	ok(t, asked.BdevExamine(ctx, "A0"))
	ok(t, asked.BdevWaitForExamine(ctx))
	must[*spdk.Lvstore](t)(asked.BdevLvolGetLvstore(ctx, "lvs"))
	ok(t, asked.stop())

	before := start(t, Config{WaitForRPC: true})
	ok(t, before.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(false)}))
	ok(t, before.FrameworkStartInit(ctx))
	ok(t, before.BdevExamine(ctx, "A0"))
	must[string](t)(before.BdevAioCreate(ctx, disk))
	must[*spdk.Lvstore](t)(before.BdevLvolGetLvstore(ctx, "lvs"))
}

func TestKillInstance(t *testing.T) {
	cfg := Config{RPCSocket: filepath.Join(t.TempDir(), "s"), Log: testLog()}
	tgt := must[*Target](t)(New(cfg))
	ended := make(chan error, 1)
	go func() { ended <- tgt.Run(context.Background()) }()
	c := must[*spdk.Client](t)(spdk.New(spdk.Config{Socket: cfg.RPCSocket}))
	defer c.Close()
	must[*spdk.Version](t)(c.WaitReady(t.Context()))
	if err := c.Call(t.Context(), "spdk_kill_instance", map[string]string{"sig_name": "SIGSTOP"}, nil); !spdk.IsInvalidParams(err) {
		t.Errorf("SIGSTOP: %v", err)
	}
	ok(t, c.Call(t.Context(), "spdk_kill_instance", map[string]string{"sig_name": "SIGTERM"}, nil))
	select {
	case err := <-ended:
		ok(t, err)
	case <-time.After(time.Minute):
		t.Fatal("it lives on")
	}
	if err := c.Call(t.Context(), "spdk_get_version", nil, nil); !errors.Is(err, syscall.ENOENT) && !spdk.IsConnection(err) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestShutdownWithoutDisks: a controller whose disks are gone, with I/O
// waiting for them without limit, can still be stopped.
func TestShutdownWithoutDisks(t *testing.T) {
	ctx := t.Context()
	d := newDisk(t, 0)
	cn, port := start(t, Config{}), freePort(t)
	must[[]string](t)(cn.BdevNvmeAttachController(ctx, spdk.NvmeAttach{Name: "vda-vd-0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: d.port,
		SubNQN: d.nqn, HostNQN: term(1),
		CtrlrLossTimeoutSec: spdk.Ptr[int32](-1), ReconnectDelaySec: spdk.Ptr[uint32](1)}))
	must[string](t)(cn.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "vda-vd-0n1", LvsName: "da", ClusterSz: miB}))
	vol := must[string](t)(cn.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "da", LvolName: "vol", SizeInMiB: 4}))
	cn.export(exporter(0), exported(vol), port, userNQN)
	user := dial(t, port, exportNQN, userNQN)
	ok(t, user.WriteAt(ctx, make([]byte, 4096), 0))
	ok(t, d.stop())
	written := make(chan error, 1)
	go func() { written <- user.WriteAt(ctx, make([]byte, 4096), 0) }()
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	ok(t, cn.stop())
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("shutting down took %v", took)
	}
	if err := <-written; err == nil {
		t.Error("a write that reached no disk was acknowledged")
	}
}

// TestShutdownWithHangingRequests: a request that a test made to hang below a
// namespace does not hold up the shutdown.
func TestShutdownWithHangingRequests(t *testing.T) {
	ctx := t.Context()
	p, port := start(t, Config{}), freePort(t)
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M0", BlockSize: 4096, NumBlocks: 1024}))
	ok(t, p.Call(ctx, "bdev_error_create", map[string]string{"base_name": "M0"}, nil))
	p.export(exporter(0), exported("EE_M0"), port, userNQN)
	user := dial(t, port, exportNQN, userNQN)
	ok(t, p.Call(ctx, "bdev_error_inject_error", map[string]any{"name": "EE_M0", "io_type": "write", "error_type": "pending", "num": 1}, nil))
	written := make(chan error, 1)
	go func() { written <- user.WriteAt(ctx, make([]byte, 4096), 0) }()
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	ok(t, p.stop())
	if took := time.Since(begin); took > settleGrace {
		t.Errorf("shutting down took %v", took)
	}
	if err := <-written; err == nil {
		t.Error("the hanging write was acknowledged")
	}
}

// TestWhatRPCPySends: SPDK's rpc.py names metadata on every call, to say that
// it wants none.
func TestWhatRPCPySends(t *testing.T) {
	p := start(t, Config{})
	for method, params := range map[string]map[string]any{
		"bdev_malloc_create": {"name": "M", "num_blocks": 256, "block_size": 4096, "md_interleave": false, "dif_is_head_of_md": false},
		"bdev_null_create":   {"name": "N", "num_blocks": 256, "block_size": 4096, "dif_is_head_of_md": false},
	} {
		if err := p.Call(context.Background(), method, params, nil); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		params["name"], params["md_size"] = "with-metadata", 8
		if err := p.Call(context.Background(), method, params, nil); err == nil {
			t.Errorf("%s with metadata is not refused", method)
		}
	}
}
