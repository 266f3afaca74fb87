package conformance

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

const (
	subNQN  = "nqn.2016-06.io.spdk:vda-conf"
	hostNQN = "nqn.2016-06.io.spdk:vda-conf-host"
	nsUUID  = "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb"
	nsNGUID = "aaaaaaaa111142228333bbbbbbbbbbbb"
	blocks  = 2048 // of 4096 bytes
)

func at(port string) spdk.TransportID {
	return spdk.TransportID{TrType: "TCP", AdrFam: "IPv4", TrAddr: "127.0.0.1", TrSvcID: port}
}

// serve exports a memory bdev with ANA to one host and returns the port.
func (p *plane) serve() string {
	p.t.Helper()
	ctx, port := p.t.Context(), freePort(p.t)
	must[string](p.t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M0", BlockSize: 4096, NumBlocks: blocks}))
	p.ok(p.NvmfCreateTransport(ctx, spdk.NvmfTransportCreate{TrType: "TCP"}))
	p.ok(p.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: subNQN, SerialNumber: "CONF0001", ModelNumber: "VDA_CONTROLLER",
		ANAReporting: true, MinCntlid: 1001, MaxCntlid: 2000}))
	must[uint32](p.t)(p.NvmfSubsystemAddNS(ctx, subNQN, spdk.NvmfNamespace{NSID: 1, BdevName: "M0", UUID: nsUUID,
		NGUID: nsNGUID, ANAGrpID: 1}))
	p.ok(p.NvmfSubsystemAddHost(ctx, subNQN, hostNQN))
	p.ok(p.NvmfSubsystemAddListener(ctx, subNQN, at(port)))
	return port
}

// connect returns a connected initiator, closed with the test.
func (p *plane) connect(cfg host.Config) *host.Controller {
	p.t.Helper()
	c, err := connect(p.t.Context(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

func connect(ctx context.Context, cfg host.Config) (*host.Controller, error) {
	cfg.Traddr = "127.0.0.1"
	if cfg.SubNQN == "" {
		cfg.SubNQN = subNQN
	}
	if cfg.HostNQN == "" {
		cfg.HostNQN = hostNQN
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return host.Connect(ctx, cfg)
}

// eventually waits for something that an event brings about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("not so after two minutes: %s", what)
}

func TestIdentity(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		c := p.connect(host.Config{Trsvcid: p.serve()})
		ns := c.Namespace(1)
		if ns == nil {
			t.Fatal("no namespace 1")
		}
		if id := ns.Identity(); id.UUID.String() != nsUUID || id.Blocks != blocks || id.BlockSize != 4096 || id.ANAGroup != 1 {
			t.Errorf("namespace is %+v", id)
		}
		if id := c.CNTLID(); id < 1001 || id > 2000 {
			t.Errorf("controller id %d is outside 1001-2000", id)
		}
		if d := c.Data(); d.Model != "VDA_CONTROLLER" || d.Serial != "CONF0001" {
			t.Errorf("model %q, serial %q", d.Model, d.Serial)
		}
		if ns.ANA() != host.ANAOptimized {
			t.Errorf("ANA state is %v", ns.ANA())
		}
		l := must[[]spdk.NvmfController](t)(p.NvmfSubsystemGetControllers(t.Context(), subNQN))
		if len(l) != 1 || l[0].HostNQN != hostNQN || l[0].Cntlid != c.CNTLID() || l[0].NumIOQpairs < 1 {
			t.Errorf("controllers: %+v", l)
		}
	})
}

func TestData(t *testing.T) {
	digests := []host.Config{{}, {HeaderDigest: true}, {DataDigest: true}, {HeaderDigest: true, DataDigest: true}}
	onEach(t, func(t *testing.T, p *plane) {
		port := p.serve()
		for _, cfg := range digests {
			cfg.Trsvcid = port
			c := p.connect(cfg)
			transfer(t, c.Namespace(1))
			c.Close()
		}
	})
}

// transfer writes and reads in all the sizes that take different ways: in the
// capsule, by one R2T and by several, above the transport's limit.
func transfer(t *testing.T, ns *host.Namespace) {
	t.Helper()
	ctx := t.Context()
	for _, size := range []int{4096, 8192, 12288, 65536, 128 << 10, 132 << 10, 1 << 20} {
		want, got := make([]byte, size), make([]byte, size)
		for i := range want {
			want[i] = byte(i*7 + i/4096 + size)
		}
		off := int64(size) % (1 << 20) * 2
		if err := ns.WriteAt(ctx, want, off); err != nil {
			t.Fatalf("write of %d bytes: %v", size, err)
		}
		if err := ns.ReadAt(ctx, got, off); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read of %d bytes: %v, equal %v", size, err, bytes.Equal(got, want))
		}
		if err := ns.Flush(ctx); err != nil {
			t.Fatalf("flush: %v", err)
		}
		zero := func(what string, f func(context.Context, int64, int64) error) {
			if err := f(ctx, off, int64(size)); err != nil {
				t.Fatalf("%s of %d bytes: %v", what, size, err)
			}
			if err := ns.ReadAt(ctx, got, off); err != nil || !bytes.Equal(got, make([]byte, size)) {
				t.Fatalf("%s of %d bytes does not read as zeros: %v", what, size, err)
			}
		}
		zero("write zeroes", ns.WriteZeroes)
		if err := ns.WriteAt(ctx, want, off); err != nil {
			t.Fatal(err)
		}
		zero("deallocate", ns.Deallocate)
	}
	if s := status(ns, &bdev.Request{Op: bdev.OpRead, Offset: uint64(ns.Size())/4096 - 1, Blocks: 2,
		Iov: [][]byte{make([]byte, 8192)}}); s&^nvme.DNR != nvme.LBAOutOfRange {
		t.Errorf("read across the end: %v", s)
	}
}

// status sends a request that the blocking calls would not send.
func status(ns *host.Namespace, r *bdev.Request) nvme.Status {
	done := make(chan nvme.Status, 1)
	r.Done = func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }
	var b bdev.Batch
	ns.Submit(r, nil, &b)
	b.Flush()
	return <-done
}

func TestHostsAreAdmittedByName(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		port, ctx := p.serve(), t.Context()
		if c, err := connect(ctx, host.Config{Trsvcid: port, HostNQN: "nqn.2016-06.io.spdk:stranger"}); err == nil {
			c.Close()
			t.Error("a stranger was let in")
		}
		if c, err := connect(ctx, host.Config{Trsvcid: port, SubNQN: "nqn.2016-06.io.spdk:nowhere"}); err == nil {
			c.Close()
			t.Error("a subsystem that does not exist let a host in")
		}
		c := p.connect(host.Config{Trsvcid: port})
		p.ok(p.NvmfSubsystemRemoveHost(ctx, subNQN, hostNQN))
		if l := must[[]spdk.NvmfController](t)(p.NvmfSubsystemGetControllers(ctx, subNQN)); len(l) != 0 {
			t.Errorf("after remove_host there are controllers: %+v", l)
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := c.Namespace(1).WriteAt(short, make([]byte, 4096), 0); err == nil {
			t.Error("a removed host could write")
		}
		p.ok(p.NvmfSubsystemAllowAnyHost(ctx, subNQN, true))
		p.connect(host.Config{Trsvcid: port, HostNQN: "nqn.2016-06.io.spdk:stranger"})
	})
}

func TestANAStates(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		port, ctx := p.serve(), t.Context()
		ns := p.connect(host.Config{Trsvcid: port}).Namespace(1)
		set := func(state string) {
			p.ok(p.NvmfSubsystemListenerSetANAState(ctx, subNQN, at(port), state, 1))
		}
		set(spdk.ANAInaccessible)
		eventually(t, "the host knows of inaccessible", func() bool { return ns.ANA() == host.ANAInaccessible })
		var failed *host.IOError
		if err := ns.ReadAt(ctx, make([]byte, 4096), 0); !errors.As(err, &failed) || failed.Status&^nvme.DNR != nvme.ANAInaccessible {
			t.Errorf("read through an inaccessible path: %v", err)
		}
		set(spdk.ANANonOptimized)
		eventually(t, "the host knows of non-optimized", func() bool { return ns.ANA() == host.ANANonOptimized })
		p.ok(ns.ReadAt(ctx, make([]byte, 4096), 0))
		set(spdk.ANAOptimized)
		eventually(t, "the host knows of optimized", func() bool { return ns.ANA() == host.ANAOptimized })
		p.ok(ns.WriteAt(ctx, make([]byte, 4096), 0))
	})
}

func TestNamespacesComeAndGo(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		port, ctx := p.serve(), t.Context()
		c := p.connect(host.Config{Trsvcid: port})
		must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M1", BlockSize: 512, NumBlocks: 4096}))
		nsid := must[uint32](t)(p.NvmfSubsystemAddNS(ctx, subNQN, spdk.NvmfNamespace{BdevName: "M1", ANAGrpID: 2}))
		if nsid != 2 {
			t.Errorf("the second namespace has id %d", nsid)
		}
		eventually(t, "the host sees namespace 2", func() bool { return c.Namespace(2) != nil })
		p.ok(c.Namespace(2).WriteAt(ctx, make([]byte, 512), 512))
		p.ok(p.NvmfSubsystemRemoveNS(ctx, subNQN, 2))
		eventually(t, "the host sees it go", func() bool { return c.Namespace(2) == nil })
		p.ok(p.BdevMallocDelete(ctx, "M1"))
		p.ok(c.Namespace(1).ReadAt(ctx, make([]byte, 4096), 0))
	})
}

// TestSwapBelowALiveNamespace changes the bdev behind a namespace the way that
// works on both: inaccessible, remove, add with the same identity, optimized.
func TestSwapBelowALiveNamespace(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		port, ctx := p.serve(), t.Context()
		c := p.connect(host.Config{Trsvcid: port})
		ns := c.Namespace(1)
		p.ok(ns.WriteAt(ctx, bytes.Repeat([]byte{1}, 4096), 0))
		must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M1", BlockSize: 4096, NumBlocks: blocks}))
		p.ok(p.NvmfSubsystemListenerSetANAState(ctx, subNQN, at(port), spdk.ANAInaccessible, 1))
		p.ok(p.NvmfSubsystemRemoveNS(ctx, subNQN, 1))
		must[uint32](t)(p.NvmfSubsystemAddNS(ctx, subNQN, spdk.NvmfNamespace{NSID: 1, BdevName: "M1", UUID: nsUUID, NGUID: nsNGUID, ANAGrpID: 1}))
		p.ok(p.NvmfSubsystemListenerSetANAState(ctx, subNQN, at(port), spdk.ANAOptimized, 1))
		eventually(t, "the host reads the other bdev", func() bool {
			now, got := c.Namespace(1), make([]byte, 4096)
			return now != nil && now.ReadAt(ctx, got, 0) == nil && bytes.Equal(got, make([]byte, 4096))
		})
		if id := c.Namespace(1).Identity().UUID.String(); id != nsUUID {
			t.Errorf("the namespace is now %s", id)
		}
	})
}

func TestQoS(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		port, ctx := p.serve(), t.Context()
		ns := p.connect(host.Config{Trsvcid: port}).Namespace(1)
		p.ok(p.BdevSetQoSLimit(ctx, "M0", spdk.RateLimits{RWMbytesPerSec: 10}))
		buf := make([]byte, 1<<20)
		begin := time.Now()
		for range 20 {
			p.ok(ns.ReadAt(ctx, buf, 0))
		}
		if d := time.Since(begin); d < 1500*time.Millisecond || d > 10*time.Second {
			t.Errorf("20 MiB at 10 MiB/s took %v", d)
		}
		s := must[*spdk.IOStats](t)(p.BdevGetIOStat(ctx, "M0"))
		if len(s.Bdevs) != 1 || s.Bdevs[0].BytesRead < 20<<20 || s.Bdevs[0].ReadLatencyTicks == 0 {
			t.Errorf("counters: %+v", s)
		}
	})
}
