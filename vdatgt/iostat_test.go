package vdatgt

import (
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestIOStat: what a host does with a namespace is counted there, to the operation and the
// byte, with the latency of each; another subsystem of the same bdev has its own counts; and
// what there is not is left out.
func TestIOStat(t *testing.T) {
	ctx := t.Context()
	p, port := start(t, Config{BufferMemory: 64 << 20}), freePort(t)
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M0", BlockSize: 4096, NumBlocks: 1024}))
	const other = exportNQN + "-other"
	p.export(exporter(0), exported("M0"), port, userNQN)
	p.export(spdk.NvmfSubsystemCreate{NQN: other, SerialNumber: "B"}, exported("M0"), port, userNQN)
	user := dial(t, port, exportNQN, userNQN)
	stats := func() *spdk.VdaIOStats {
		t.Helper()
		return must[*spdk.VdaIOStats](t)(p.VdaGetIOStat(ctx, []string{"M0", "nowhere"},
			[]string{exportNQN, other, "nqn.2016-06.io.spdk:nowhere"}))
	}
	before := stats().Subsystems[0].Namespaces[0].IOCounts
	for range 3 {
		ok(t, user.WriteAt(ctx, make([]byte, 8192), 0))
	}
	ok(t, user.ReadAt(ctx, make([]byte, 4096), 0))
	s := stats()
	if len(s.Bdevs) != 1 || s.Bdevs[0].Name != "M0" || len(s.Subsystems) != 2 || s.Subsystems[1].NQN != other {
		t.Fatalf("a bdev and two subsystems: %+v", s)
	}
	if len(s.Bounds) != len(bdev.Latencies{})-1 || !slices.IsSorted(s.Bounds) || s.Bounds[0] != 32_000 {
		t.Errorf("bounds %v", s.Bounds)
	}
	io := s.Subsystems[0].Namespaces[0].IOCounts
	if io.Writes-before.Writes != 3 || io.WrittenBytes-before.WrittenBytes != 3*8192 || io.Reads-before.Reads != 1 ||
		io.ReadBytes-before.ReadBytes != 4096 || io.Errors != 0 {
		t.Errorf("3 writes of 8192 bytes and a read of 4096: %+v, before %+v", io, before)
	}
	if d := s.Bdevs[0].IOCounts; d.Writes < io.Writes || d.Reads < io.Reads {
		t.Errorf("the bdev has less than a namespace of it: %+v", d)
	}
	if o := s.Subsystems[1].Namespaces[0].IOCounts; o.Writes != 0 {
		t.Errorf("nobody has written through the other subsystem: %+v", o)
	}
	if h := s.Subsystems[0].Hosts; len(h) != 1 || h[0].NQN != userNQN || h[0].Controllers != 1 || h[0].Queues < 1 {
		t.Errorf("hosts %+v", h)
	}
	if h := s.Subsystems[1].Hosts; len(h) != 0 {
		t.Errorf("hosts of the other: %+v", h)
	}
	sum := func(l []uint64) (n uint64) {
		for _, v := range l {
			n += v
		}
		return n
	}
	// In memory one of 61 is timed, the first of a batch always.
	if n := sum(io.WriteLatencies); n == 0 || n > io.Writes || io.WriteNanos == 0 {
		t.Errorf("%d of %d writes are in the latencies, which are %d ns", n, io.Writes, io.WriteNanos)
	}
}
