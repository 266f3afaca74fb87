package planetest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/spdk"
)

// Log discards, or goes to stderr when VDA_TEST_LOG is set.
func Log() *slog.Logger {
	if os.Getenv("VDA_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// NodeConfig says which node to make.
type NodeConfig struct {
	Kind     string       // "dn" or "cn"
	Socket   string       // of the data plane
	Port     string       // of its listener on 127.0.0.1
	Backend  vda.Listener // agent.Config's
	StateDir string
	// CheckInterval is the time between two self-checks. Default 100 ms.
	CheckInterval time.Duration
	// OpenRaw replaces NVMe/TCP when not nil.
	OpenRaw func(ctx context.Context, at spdk.TransportID, subNQN, hostNQN string) (agent.RawDisk, error)
	// Disks replaces this machine's when not nil.
	Disks disk.Machine
	// AioDirs is agent.Config's. Default: all folders.
	AioDirs []string
	// Connect is agent.Config's.
	Connect func() (agent.Client, error)
	// KeepAlive is agent.Config's.
	KeepAlive time.Duration
	// RebuildMB is agent.Config's.
	RebuildMB uint32
	// Reach replaces TCP when not nil.
	Reach func(ctx context.Context, at spdk.TransportID) error
}

// Node connects to a data plane. The caller closes the agent that it starts on it.
func Node(t testing.TB, c NodeConfig) *agent.Node {
	t.Helper()
	cfg := agent.Config{
		Socket: c.Socket, Connect: c.Connect, StateDir: c.StateDir, Log: Log(), AioDirs: c.AioDirs, KeepAlive: c.KeepAlive,
		Address: vda.Listener{TrType: "tcp", TrAddr: "127.0.0.1", AdrFam: "ipv4", TrSvcID: c.Port},
		Backend: c.Backend, RebuildMB: c.RebuildMB, CheckInterval: c.CheckInterval, WatchInterval: 20 * time.Millisecond,
	}
	if cfg.AioDirs == nil {
		cfg.AioDirs = []string{"/"}
	}
	if cfg.CheckInterval == 0 {
		cfg.CheckInterval = 100 * time.Millisecond
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	state, err := agent.OpenState(cfg.StateDir, c.Kind)
	if err != nil {
		t.Fatal(err)
	}
	plane, err := agent.NewPlane(cfg, c.Kind)
	if err != nil {
		t.Fatal(err)
	}
	plane.State = state
	if c.OpenRaw != nil {
		plane.OpenRaw = c.OpenRaw
	}
	if c.Reach != nil {
		plane.Reach = c.Reach
	}
	err = plane.Connect(context.Background())
	for begin := time.Now(); errors.Is(err, context.DeadlineExceeded) && time.Since(begin) < patience; {
		err = plane.Connect(context.Background()) // the service is started again
	}
	if err != nil {
		t.Fatal(err)
	}
	return &agent.Node{Cfg: cfg, State: state, Plane: plane, Log: cfg.Log, Disks: c.Disks}
}

// patience is for machines that are busy: who waits this long in vain has found
// a fault.
const patience = time.Minute

// Eventually waits until ok says "" and fails with what it said last.
func Eventually(t testing.TB, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(why)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
