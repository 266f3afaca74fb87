package vdatgt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/module/bdevnvme"
	"github.com/virtual-disk-array/vda/module/errorinj"
	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/raid"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// Config of a Target.
type Config struct {
	// RPCSocket is the path of the JSON-RPC Unix socket. A stale file there
	// is replaced, a process that was killed is waited for until it has gone
	// (AwaitPredecessor); one that another process has is an error.
	RPCSocket string
	// WaitForRPC starts in the start-up state, until framework_start_init.
	WaitForRPC bool
	// BufferMemory bounds the bytes of the target's data buffers, shared by all
	// its connections and modules. Default 1 GiB.
	BufferMemory int
	// MaxConns bounds the NVMe/TCP connections of hosts. Default 4096.
	MaxConns int
	// Spin is how long a busy NVMe/TCP connection polls before it sleeps.
	// Default 20 µs; negative never.
	Spin time.Duration
	// HTTP is where /metrics and /healthz are served; nil: nowhere. Run closes
	// it.
	HTTP net.Listener
	// Log gets what happens. Default slog.Default().
	Log *slog.Logger
	// LogLevel is the level of Log, which log_set_level changes. nil: it is
	// fixed.
	LogLevel *slog.LevelVar
	// RecentLog is the end of what was logged, for vda_get_log; nil: none is kept.
	RecentLog func() []byte
}

func (c *Config) validate() error {
	if c.RPCSocket == "" {
		return errors.New("the JSON-RPC socket has no path; give one, such as /var/tmp/vda.sock")
	}
	if len(c.RPCSocket) > maxSocketPath {
		return fmt.Errorf("the JSON-RPC socket path %q has %d bytes; the system takes at most %d", c.RPCSocket, len(c.RPCSocket), maxSocketPath)
	}
	if c.BufferMemory <= 0 {
		c.BufferMemory = 1 << 30
	}
	if c.Spin == 0 {
		c.Spin = defaultSpin
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

// defaultSpin was the knee of the curve when it was measured: longer gains
// nothing.
const defaultSpin = 20 * time.Microsecond

// Target is one data plane.
type Target struct {
	cfg      Config
	log      *slog.Logger
	methods  map[string]*Method // by name
	reg      *bdev.Registry
	raids    *raid.Module
	mirrors  *mirror.Module
	lvols    *lvol.Module
	nvmes    *bdevnvme.Module
	nvmf     *nvmftgt.Target
	keyring  keyring
	examines examiner

	running chan struct{} // closed when the run-time state begins
	runtime atomic.Bool
	stop    context.CancelFunc // set by Run
	rpc     atomic.Pointer[jsonrpc.Server]

	mallocs   atomic.Uint64 // for names of malloc bdevs without one
	qosUpdate sync.Mutex    // serializes bdev_set_qos_limit

	levelName   atomic.Pointer[string] // as log_set_level was told
	nvmeUpdate  sync.Mutex             // serializes bdev_nvme_set_options
	nvmeTimeout nvmeTimeout
}

// New returns a target; Run makes it work.
func New(cfg Config) (*Target, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t := &Target{cfg: cfg, log: cfg.Log, methods: methods(), reg: bdev.NewRegistry(), running: make(chan struct{}), stop: func() {}}
	t.reg.Buffers.SetLimit(cfg.BufferMemory)
	if err := t.openModules(); err != nil {
		return nil, err
	}
	t.nvmf = nvmftgt.New(nvmftgt.Config{Registry: t.reg, Log: cfg.Log, MaxConns: cfg.MaxConns, Spin: cfg.Spin})
	t.examines.init(t)
	t.reg.Examine = t.examines.appeared
	if !cfg.WaitForRPC {
		t.startInit()
	}
	return t, nil
}

// Registry is where the target's bdevs are, for tests and tools in the same
// process.
func (t *Target) Registry() *bdev.Registry { return t.reg }

// Run serves until ctx ends, then shuts down cleanly. It returns an error
// when it could not start.
func (t *Target) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var web sync.WaitGroup
	defer web.Wait()
	defer cancel()
	t.stop = cancel
	if err := AwaitPredecessor(ctx, t.cfg.RPCSocket, t.log); err != nil {
		return err
	}
	sock, err := listen(t.cfg.RPCSocket)
	if err != nil {
		return err
	}
	defer sock.remove()
	srv, err := jsonrpc.NewServer(sock.Listener, jsonrpc.Config{Lookup: t.lookup, Log: t.log})
	if err != nil {
		return err
	}
	t.rpc.Store(srv)
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	if t.cfg.HTTP != nil {
		t.serveHTTP(ctx, t.cfg.HTTP, &web)
		t.log.Info("HTTP is served", "addr", t.cfg.HTTP.Addr().String())
	}
	t.log.Info("vda_tgt is up", "socket", t.cfg.RPCSocket, "waiting_for_rpc", t.cfg.WaitForRPC)
	stopping := daemon.Serving()
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	stopping()
	t.log.Info("vda_tgt is shutting down")
	srv.Close(shutdownGrace)
	t.close()
	t.log.Info("vda_tgt has shut down")
	return err
}

// rpcLimitsMet is how often a JSON-RPC client met a limit.
func (t *Target) rpcLimitsMet() uint64 {
	if s := t.rpc.Load(); s != nil {
		return s.LimitsMet()
	}
	return 0
}

// shutdownGrace is how long calls under way may hold up the shutdown.
const shutdownGrace = 2 * time.Second

// settleGrace is how long I/O under way may hold up the shutdown. After that
// remote controllers are given up, so that nothing waits for a path any more.
const settleGrace = 5 * time.Second

// close takes everything down, from the hosts to the disks.
func (t *Target) close() {
	for _, d := range t.reg.List() {
		if e, ok := d.(*errorinj.Device); ok {
			e.Retire() // requests that were made to hang
		}
	}
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		t.nvmf.Close()
		t.examines.stop()
		if err := t.lvols.Close(); err != nil {
			t.log.Error("lvstores were not all unloaded clean", "err", err)
		}
	}()
	select {
	case <-settled:
	case <-time.After(settleGrace):
		t.log.Warn("I/O does not settle; giving up remote controllers")
	}
	t.nvmes.Close()
	select {
	case <-settled:
		t.reg.Close()
	case <-time.After(settleGrace):
		// A request that never completes is a fault of ours. What was
		// acknowledged is on the disks; the next load repairs the rest.
		t.log.Error("I/O still does not settle; the process ends as after a crash")
	}
}

// startInit begins the run-time state; false when it has begun before.
func (t *Target) startInit() bool {
	if !t.runtime.CompareAndSwap(false, true) {
		return false
	}
	close(t.running)
	return true
}
