package raid_test

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/raid"
)

func benchmark(b *testing.B, reg *bdev.Registry, name string, r bdev.Request) {
	h, err := reg.Open(name, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer reg.Close()
	defer h.Close()
	left := 0
	r.Done = func(*bdev.Request, *bdev.Batch) { left-- }
	var batch bdev.Batch
	b.ReportAllocs()
	b.SetBytes(int64(r.Blocks) * 4096)
	n := uint64(0)
	for b.Loop() {
		left++
		n = (n + r.Blocks) & 2047
		r.Offset = n
		h.Submit(&r, &batch)
		if left != 0 {
			b.Fatal("not complete")
		}
		if n == 0 {
			batch.Flush()
		}
	}
}

// In place: Iov is the device's own memory, as for a read served from there.
func inPlace(b *testing.B, reg *bdev.Registry, name string, blocks uint64) {
	h, err := reg.Open(name, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer reg.Close()
	defer h.Close()
	r := bdev.Request{Op: bdev.OpRead, Blocks: blocks, Done: func(*bdev.Request, *bdev.Batch) {}}
	var batch bdev.Batch
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n = (n + blocks) & 2047
		r.Offset = n
		iov, ok := h.Map(r.Iov[:0], n, blocks)
		if !ok {
			b.Fatal("no memory")
		}
		r.Iov = iov
		h.Submit(&r, &batch)
	}
}

func BenchmarkSubmit(b *testing.B) {
	read := func(blocks uint64) bdev.Request {
		return bdev.Request{Op: bdev.OpRead, Blocks: blocks, Iov: [][]byte{make([]byte, blocks*4096)}}
	}
	write := bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}
	memory := func(b *testing.B) *bdev.Registry {
		reg := bdev.NewRegistry()
		bases(b, reg, 4096, 4096)
		return reg
	}
	striped := func(b *testing.B) *bdev.Registry {
		reg := memory(b)
		if _, err := raid.New(reg).Create(raid.Config{Name: "Raid0", Level: raid.Raid0, StripSizeKB: 64, Bases: []string{"Malloc0",
			"Malloc1"}}); err != nil {
			b.Fatal(err)
		}
		return reg
	}
	b.Run("malloc/read-4k-in-place", func(b *testing.B) { inPlace(b, memory(b), "Malloc0", 1) })
	b.Run("malloc/read-4k", func(b *testing.B) { benchmark(b, memory(b), "Malloc0", read(1)) })
	b.Run("malloc/write-4k", func(b *testing.B) { benchmark(b, memory(b), "Malloc0", write) })
	b.Run("raid0/read-4k-in-place", func(b *testing.B) { inPlace(b, striped(b), "Raid0", 1) })
	b.Run("raid0/read-4k", func(b *testing.B) { benchmark(b, striped(b), "Raid0", read(1)) })
	b.Run("raid0/read-256k", func(b *testing.B) { benchmark(b, striped(b), "Raid0", read(64)) })
	b.Run("raid0/flush", func(b *testing.B) { benchmark(b, striped(b), "Raid0", bdev.Request{Op: bdev.OpFlush}) })
}
