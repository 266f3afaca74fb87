package vdatgt

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/spdktest"
)

// plane is a running target with a client.
type plane struct {
	*spdk.Client
	spdktest.Methods
	t    *testing.T
	cfg  Config
	stop func() error // shuts down and returns what Run returned
}

// start runs a target until the test ends.
func start(t *testing.T, cfg Config) *plane {
	t.Helper()
	if cfg.RPCSocket == "" {
		cfg.RPCSocket = filepath.Join(t.TempDir(), "rpc.sock")
	}
	if cfg.Log == nil {
		cfg.Log = testLog()
	}
	tgt, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tgt.Run(ctx) }()
	c, err := spdk.New(spdk.Config{Socket: cfg.RPCSocket})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	p := &plane{Client: c, Methods: spdktest.Methods{Caller: c}, t: t, cfg: cfg}
	p.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		c.Close()
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(2 * time.Minute):
			t.Fatal("the target does not shut down")
			return nil
		}
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	wait, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	if _, err := c.WaitReady(wait); err != nil {
		t.Fatal(err)
	}
	return p
}

// testLog is silent unless VDA_TEST_LOG is set.
func testLog() *slog.Logger {
	if os.Getenv("VDA_TEST_LOG") == "" {
		return slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
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

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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

func at(port string) spdk.TransportID {
	return spdk.TransportID{TrType: "TCP", AdrFam: "IPv4", TrAddr: "127.0.0.1", TrSvcID: port}
}

// export shows a bdev through a new subsystem with a listener and one host.
func (p *plane) export(sub spdk.NvmfSubsystemCreate, ns spdk.NvmfNamespace, port, host string) {
	p.t.Helper()
	ctx := p.t.Context()
	if l := must[[]spdk.NvmfTransport](p.t)(p.NvmfGetTransports(ctx)); len(l) == 0 {
		ok(p.t, p.NvmfCreateTransport(ctx, spdk.NvmfTransportCreate{TrType: "TCP"}))
	}
	ok(p.t, p.NvmfCreateSubsystem(ctx, sub))
	must[uint32](p.t)(p.NvmfSubsystemAddNS(ctx, sub.NQN, ns))
	ok(p.t, p.NvmfSubsystemAddHost(ctx, sub.NQN, host))
	ok(p.t, p.NvmfSubsystemAddListener(ctx, sub.NQN, at(port)))
}

// connect attaches a remote subsystem and returns the bdev of namespace 1.
func (p *plane) connect(name, port, sub, host string) string {
	p.t.Helper()
	names := must[[]string](p.t)(p.BdevNvmeAttachController(p.t.Context(), spdk.NvmeAttach{
		Name: name, TrType: "TCP", AdrFam: "IPv4", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: sub, HostNQN: host,
		CtrlrLossTimeoutSec: spdk.Ptr[int32](-1), ReconnectDelaySec: spdk.Ptr[uint32](1), FastIOFailTimeoutSec: spdk.Ptr[uint32](2),
	}))
	if len(names) != 1 || names[0] != name+"n1" {
		p.t.Fatalf("attach %s: bdevs %v", name, names)
	}
	return names[0]
}

// dial connects our own initiator and returns namespace 1.
func dial(t *testing.T, port, sub, hostNQN string) *host.Namespace {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: port, SubNQN: sub, HostNQN: hostNQN, Log: testLog()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ns := c.Namespace(1)
	if ns == nil {
		t.Fatalf("%s at port %s has no namespace 1", sub, port)
	}
	return ns
}

// stamp fills a buffer so that every 4 KiB block tells its place and version.
func stamp(buf []byte, off int64, version int) {
	for b := 0; b < len(buf); b += 4096 {
		line := fmt.Sprintf("block %d version %d. ", (off+int64(b))/4096, version)
		copy(buf[b:b+4096], strings.Repeat(line, 4096/len(line)+1))
	}
}
