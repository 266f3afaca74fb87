package perf

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nqn = "nqn.2016-06.io.spdk:perf"

// serve exports one malloc device over loopback.
func serve(t testing.TB, spin time.Duration) nvmftgt.Addr {
	reg := bdev.NewRegistry()
	d, err := malloc.New(malloc.Config{Name: "m0", BlockSize: 4096, Blocks: 16384})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	tgt := nvmftgt.New(nvmftgt.Config{Registry: reg, Spin: spin, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { tgt.Close(); reg.Close() })
	if err := tgt.CreateTransport(nvmftgt.TransportOpts{Trtype: "TCP"}); err != nil {
		t.Fatal(err)
	}
	s, err := tgt.CreateSubsystem(nvmftgt.SubsystemConfig{NQN: nqn, AllowAnyHost: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddNamespace(nvmftgt.NamespaceConfig{Bdev: "m0"}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddListener(nvmftgt.Addr{Trtype: "TCP", Adrfam: "IPv4", Traddr: "127.0.0.1", Trsvcid: "0"}); err != nil {
		t.Fatal(err)
	}
	return s.Listeners()[0].Addr
}

func dial(t testing.TB, a nvmftgt.Addr, set func(*host.Config)) *host.Controller {
	cfg := host.Config{Traddr: a.Traddr, Trsvcid: a.Trsvcid, SubNQN: nqn}
	if set != nil {
		set(&cfg)
	}
	c, err := host.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestVerify(t *testing.T) {
	a := serve(t, -1)
	for _, digests := range []bool{false, true} {
		c := dial(t, a, func(c *host.Config) { c.HeaderDigest, c.DataDigest, c.Queues = digests, digests, 3 })
		for _, w := range []Workload{Write, RandWrite, Read, RandRead} {
			for _, bs := range []int{4096, 12288, 131072} {
				var r Result
				var err error
				for r.IOs == 0 && err == nil { // a busy machine may do nothing in that time
					r, err = Run(t.Context(), c.Namespace(1), Config{Workload: w, BlockSize: bs, QueueDepth: 17, Duration: 100 * time.Millisecond,
						Verify: true, Length: 8 << 20})
				}
				if err != nil {
					t.Errorf("%v of %d bytes, digests %t: %v, %v", w, bs, digests, r, err)
				}
			}
		}
	}
}

func TestVerifyFinds(t *testing.T) {
	b := make([]byte, 8192)
	stamp(b, 4096, 7, 3)
	if n := check(b, 4096, 7, 3); n != 0 {
		t.Fatalf("%d bad blocks in what was stamped", n)
	}
	b[4096+160]++ // one word of the second block
	if n := check(b, 4096, 7, 3); n != 1 {
		t.Fatalf("%d bad blocks, want 1", n)
	}
	if n := check(b, 4096, 8, 3); n != 2 {
		t.Fatalf("misplaced blocks: %d bad, want 2", n)
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	for i := range 100000 {
		h.add(int64(i))
	}
	for _, q := range []float64{.01, .5, .9, .99, .999} {
		got, want := float64(h.quantile(q)), q*100000
		if got < want*.999 || got > want*1.13 {
			t.Errorf("quantile %v is %v, want within an eighth of %v", q, got, want)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 10000 {
		v := int64(r.Uint64() >> (r.IntN(62) + 1))
		if b := bucket(v); ceiling(b) < v || b > 0 && ceiling(b-1) >= v {
			t.Fatalf("%d is in bucket %d, up to %d", v, b, ceiling(b))
		}
	}
}

func TestRefusals(t *testing.T) {
	c := dial(t, serve(t, -1), nil)
	for name, cfg := range map[string]Config{
		"workload": {}, "block size": {Workload: Read, BlockSize: 1000}, "range": {Workload: Read, Length: 1 << 40},
		"offset": {Workload: Read, Offset: 5}, "verify": {Workload: Write, Verify: true, QueueDepth: 32, Length: 4096},
	} {
		if _, err := Run(t.Context(), c.Namespace(1), cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	c.Close()
	if _, err := Run(t.Context(), c.Namespace(1), Config{Workload: Read, Duration: 10 * time.Millisecond}); err == nil ||
		errors.Is(err, ErrVerify) {
		t.Errorf("a closed controller: %v", err)
	}
}

func TestDiscover(t *testing.T) {
	a := serve(t, -1)
	l, err := host.Discover(t.Context(), host.Config{Traddr: a.Traddr, Trsvcid: a.Trsvcid})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range l {
		found = found || e.SubNQN == nqn && e.Traddr == a.Traddr && e.Trsvcid == a.Trsvcid
	}
	if !found {
		t.Fatalf("%s is not in the log: %+v", nqn, l)
	}
}

// BenchmarkLoopback measures host and target together in one process.
func BenchmarkLoopback(b *testing.B) {
	for _, spin := range []time.Duration{0, 20 * time.Microsecond} {
		tgtSpin := spin
		if spin == 0 {
			tgtSpin = -1
		}
		c := dial(b, serve(b, tgtSpin), func(c *host.Config) { c.Queues, c.Spin, c.QueueDepth = 1, spin, 256 })
		for _, v := range []struct {
			w      Workload
			bs, qd int
		}{{RandRead, 4096, 1}, {RandWrite, 4096, 1}, {RandRead, 4096, 32}, {RandWrite, 4096, 32}, {RandRead, 4096, 128}, {RandWrite, 4096,
			128}, {Read, 131072, 32}, {Write, 131072, 32}} {
			b.Run(v.w.String()+"/"+time.Duration(spin).String()+"/"+strconv.Itoa(v.bs)+"/"+strconv.Itoa(v.qd), func(b *testing.B) {
				for b.Loop() {
					r, err := Run(b.Context(), c.Namespace(1), Config{Workload: v.w, BlockSize: v.bs, QueueDepth: v.qd, Duration: 500 * time.Millisecond})
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(r.IOPS, "iops")
					b.ReportMetric(float64(r.P50.Microseconds()), "p50-µs")
					b.ReportMetric(float64(r.P99.Microseconds()), "p99-µs")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func local(port string) nvmftgt.Addr { return nvmftgt.Addr{Traddr: "127.0.0.1", Trsvcid: port} }

// TestManyIdle holds 300 connected controllers and says what one costs here,
// host and target together.
func TestManyIdle(t *testing.T) {
	a := serve(t, -1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 300
	for range n {
		c := dial(t, a, func(c *host.Config) { c.Queues, c.KeepAlive = 1, time.Minute })
		if err := c.Namespace(1).ReadAt(t.Context(), make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc + after.StackInuse - before.HeapAlloc - before.StackInuse) / n
	t.Logf("%d KiB a controller with its two connections, on both sides", each>>10)
	if each > 300<<10 {
		t.Errorf("an idle controller costs %d KiB", each>>10)
	}
}
