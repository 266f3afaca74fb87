package aio_test

import (
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/nvme"
)

// BenchmarkRandom does random I/O on a file of 1 GiB (named by AIO_FILE, or
// made for the purpose) at a queue depth, as fio does: the next request is
// submitted when one completes.
func BenchmarkRandom(b *testing.B) {
	path := os.Getenv("AIO_FILE")
	if path == "" {
		path = file(b, 1<<30)
		fillFile(b, path)
	}
	for _, c := range []struct {
		name   string
		op     bdev.Op
		blocks uint64
		depth  int
	}{
		{"read-4k-qd1", bdev.OpRead, 1, 1},
		{"read-4k-qd32", bdev.OpRead, 1, 32},
		{"write-4k-qd1", bdev.OpWrite, 1, 1},
		{"write-4k-qd32", bdev.OpWrite, 1, 32},
		{"read-128k-qd32", bdev.OpRead, 32, 32},
		{"write-128k-qd32", bdev.OpWrite, 32, 32},
	} {
		b.Run(c.name, func(b *testing.B) {
			reg := bdev.NewRegistry()
			defer reg.Close()
			register(b, reg, aio.Config{Name: "a", Filename: path, BlockSize: 4096})
			h, err := reg.Open("a", nil)
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			spin(b, h, reg.Buffers, c.op, c.blocks, c.depth)
		})
	}
}

func spin(b *testing.B, h *bdev.Handle, bufs *bdev.Pool, op bdev.Op, blocks uint64, depth int) {
	var issued, ended atomic.Int64
	done := make(chan struct{})
	places := h.Info().Blocks / blocks
	next := func(r *bdev.Request, batch *bdev.Batch) {
		if issued.Add(1) > int64(b.N) {
			if ended.Add(1) == int64(depth) {
				close(done)
			}
			return
		}
		r.Offset = rand.Uint64N(places) * blocks
		h.Submit(r, batch)
	}
	b.SetBytes(int64(blocks) * 4096)
	b.ReportAllocs()
	b.ResetTimer()
	var batch bdev.Batch
	for range depth {
		buf := bufs.Get(int(blocks) * 4096)
		defer bufs.Put(buf)
		r := &bdev.Request{Op: op, Blocks: blocks, Iov: [][]byte{buf}}
		r.Done = func(r *bdev.Request, batch *bdev.Batch) {
			if r.Status != nvme.Success {
				b.Error(r.Status)
			}
			next(r, batch)
		}
		next(r, &batch)
	}
	batch.Flush()
	<-done
}

func fillFile(b *testing.B, path string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 4<<20)
	for at := int64(0); at < 1<<30; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}
