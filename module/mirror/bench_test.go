package mirror_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

// quick makes a mirror of legs in memory, which is online.
func quick(tb testing.TB, legs int) *bdev.Handle {
	reg := bdev.NewRegistry()
	mod := mirror.New(reg, slog.New(slog.DiscardHandler))
	conf := mirror.Config{Name: "m", DA: id(0xda, 1), Mirror: id(0xaa, 1), DataSize: dataSize, Term: 1, Gen: 1, Fresh: true}
	for i := range legs {
		d, err := malloc.New(malloc.Config{Name: fmt.Sprint("disk", i), BlockSize: 4096, Blocks: (dataSize + label.TailSize) / 4096})
		if err != nil {
			tb.Fatal(err)
		}
		if err := reg.Register(d); err != nil {
			tb.Fatal(err)
		}
		conf.Legs = append(conf.Legs, mirror.LegConfig{VD: id(0xb0, i), Bdev: fmt.Sprint("disk", i), Role: core.Member})
	}
	m, err := mod.Create(tb.Context(), conf)
	if err != nil {
		tb.Fatal(err)
	}
	for !m.Status().Online {
		time.Sleep(time.Millisecond)
	}
	h, err := reg.Open("m", nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		h.Close()
		reg.Close()
	})
	return h
}

// BenchmarkSubmit is what a mirror adds to its legs' time, beside BenchmarkSubmit
// of module/raid.
func BenchmarkSubmit(b *testing.B) {
	for legs := 1; legs <= 3; legs++ {
		for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite} {
			for _, depth := range []int{1, 32} {
				b.Run(fmt.Sprintf("mirror%d/%v-4k/qd%d", legs, op, depth), func(b *testing.B) { benchmark(b, legs, op, depth) })
			}
		}
	}
}

// benchmark has depth requests under way, as far as legs in memory let any be.
func benchmark(b *testing.B, legs int, op bdev.Op, depth int) {
	h := quick(b, legs)
	var batch bdev.Batch
	reqs := make([]bdev.Request, depth)
	for i := range reqs {
		reqs[i] = bdev.Request{Op: op, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}, Done: func(r *bdev.Request, _ *bdev.Batch) {
			if r.Status != nvme.Success {
				b.Error(r.Status)
			}
		}}
	}
	b.ReportAllocs()
	b.SetBytes(4096)
	n := uint64(0)
	for b.Loop() {
		n = (n + 7) & 2047
		r := &reqs[n%uint64(depth)]
		r.Offset = n
		h.Submit(r, &batch)
		if n == 0 {
			batch.Flush()
		}
	}
	batch.Flush()
}

// TestAllocs: a request of a hot region allocates nothing.
func TestAllocs(t *testing.T) {
	for legs := 2; legs <= 3; legs++ {
		h := quick(t, legs)
		var b bdev.Batch
		r := bdev.Request{Blocks: 2, Iov: [][]byte{make([]byte, 8192)}, Done: func(*bdev.Request, *bdev.Batch) {}}
		for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite, bdev.OpWriteZeroes, bdev.OpUnmap, bdev.OpFlush} {
			r.Op, r.Offset = op, 1023 // it spans two regions
			if n := testing.AllocsPerRun(2000, func() { h.Submit(&r, &b) }); n > 0 {
				t.Errorf("%d legs, %v: %v allocations", legs, op, n)
			}
		}
	}
}
