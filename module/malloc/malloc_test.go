package malloc_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
)

func TestConformance(t *testing.T) {
	for _, bs := range []uint32{512, 4096} {
		t.Run("", func(t *testing.T) {
			bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
				d, err := malloc.New(malloc.Config{Name: "Malloc0", BlockSize: bs, Blocks: 8 << 20 / uint64(bs)})
				if err != nil {
					t.Fatal(err)
				}
				if err := reg.Register(d); err != nil {
					t.Fatal(err)
				}
				return "Malloc0"
			}})
		})
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []struct {
		conf malloc.Config
		want syscall.Errno
	}{
		{malloc.Config{BlockSize: 512, Blocks: 1}, syscall.EINVAL},
		{malloc.Config{Name: "m", BlockSize: 1000, Blocks: 1}, syscall.EINVAL},
		{malloc.Config{Name: "m", BlockSize: 512}, syscall.EINVAL},
		{malloc.Config{Name: "m", BlockSize: 4096, Blocks: 1 << 52}, syscall.ENOMEM},
	} {
		if _, err := malloc.New(c.conf); !bdev.IsErrno(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.conf, err, c.want)
		}
	}
}

// The latencies of memory are told though they are shorter than a pass, of
// which the clock is read once: some are measured for all.
func TestLatencies(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	d, err := malloc.New(malloc.Config{Name: "m", BlockSize: 4096, Blocks: 1024})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("m", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const n = 61 * 40
	read := func() bdev.OpStat {
		var b bdev.Batch
		buf := make([]byte, 4096)
		r := &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{buf}, Done: func(*bdev.Request, *bdev.Batch) {}}
		for i := range uint64(n) {
			r.Offset = i % 1024
			h.Submit(r, &b)
		}
		b.Flush()
		s, err := reg.IOStat("m")
		if err != nil {
			t.Fatal(err)
		}
		return s.Op[bdev.OpRead]
	}
	begin := time.Now()
	s := read()
	took := uint64(time.Since(begin))
	if s.Ops != n || s.Min == 0 || s.Max < s.Min || s.Nanos < n*s.Min || s.Nanos > n*s.Max || s.Min > took {
		t.Errorf("%d reads in %d ns: %+v", n, took, s)
	}
	if err := reg.EnableHistogram("m", true, 0); err != nil {
		t.Fatal(err)
	}
	read()
	hist, err := reg.Histogram("m")
	if err != nil {
		t.Fatal(err)
	}
	if q := hist.Quantile(0.5); q == 0 {
		t.Error("with a histogram every request is timed, but half of them took 0 ns")
	}
}
