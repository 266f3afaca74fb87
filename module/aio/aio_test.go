package aio_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/aio"
)

// file makes a sparse file in a directory that can do direct I/O wherever the
// temporary directory can.
func file(t testing.TB, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return name
}

func register(t testing.TB, reg *bdev.Registry, c aio.Config) *aio.Device {
	t.Helper()
	d, err := aio.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for _, c := range []aio.Config{
		{Name: "direct-4096", BlockSize: 4096},
		{Name: "direct-512", BlockSize: 512},
		{Name: "shallow", BlockSize: 4096, QueueDepth: 2},
		{Name: "buffered", BlockSize: 4096, Buffered: true},
	} {
		t.Run(c.Name, func(t *testing.T) {
			var path string
			bdevtest.Run(t, bdevtest.Subject{
				New: func(t *testing.T, reg *bdev.Registry) string {
					path = file(t, 8<<20)
					c.Filename = path
					register(t, reg, c)
					return c.Name
				},
				Resize: func(t *testing.T, reg *bdev.Registry, name string) {
					if err := os.Truncate(path, 16<<20); err != nil {
						t.Fatal(err)
					}
					d, _ := reg.Get(name)
					if err := d.(*aio.Device).Rescan(reg); err != nil {
						t.Fatal(err)
					}
				},
			})
		})
	}
}

// On a block device too, when AIO_BLOCKDEV names one that may be overwritten
// (16 MiB or so, such as a loop device): only root can make one.
func TestConformanceOnBlockDevice(t *testing.T) {
	dev := os.Getenv("AIO_BLOCKDEV")
	if dev == "" {
		dev = file(t, 16<<20)
	}
	bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
		d := register(t, reg, aio.Config{Name: "block", Filename: dev, Registry: reg})
		t.Logf("%+v", d.Info())
		return "block"
	}})
}

func TestRefusesWhatItCannotServe(t *testing.T) {
	small := file(t, 100)
	big := file(t, 1<<20)
	for _, c := range []struct {
		conf aio.Config
		want syscall.Errno
	}{
		{aio.Config{Filename: big}, syscall.EINVAL},
		{aio.Config{Name: "a"}, syscall.EINVAL},
		{aio.Config{Name: "a", Filename: big, BlockSize: 1000}, syscall.EINVAL},
		{aio.Config{Name: "a", Filename: big + "-not"}, syscall.ENOENT},
		{aio.Config{Name: "a", Filename: small}, syscall.EINVAL},
		{aio.Config{Name: "a", Filename: filepath.Dir(big)}, syscall.EISDIR},
		{aio.Config{Name: "a", Filename: "/dev/null"}, syscall.EINVAL},
	} {
		if _, err := aio.New(c.conf); !bdev.IsErrno(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.conf, err, c.want)
		}
	}
}

func TestReadOnly(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	register(t, reg, aio.Config{Name: "ro", Filename: file(t, 1<<20), BlockSize: 4096, ReadOnly: true})
	h, err := reg.Open("ro", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	bdevtest.Read(t, h, 0, 4)
	for _, r := range []bdev.Request{
		{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}},
		{Op: bdev.OpWriteZeroes, Blocks: 1},
	} {
		if s := bdevtest.Do(h, &r); s.Code() != 0x20 || s.Type() != 0 || s.Retryable() {
			t.Errorf("%v: %v, want write protected and do not retry", r.Op, s)
		}
	}
}

// A file that lost its end under the device gives media errors there, and
// nothing else.
func TestTruncatedFile(t *testing.T) {
	for _, buffered := range []bool{false, true} {
		t.Run(fmt.Sprint("buffered ", buffered), func(t *testing.T) {
			reg := bdev.NewRegistry()
			defer reg.Close()
			path := file(t, 1<<20)
			register(t, reg, aio.Config{Name: "f", Filename: path, BlockSize: 4096, Buffered: buffered})
			h, err := reg.Open("f", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			if err := os.Truncate(path, 512<<10); err != nil {
				t.Fatal(err)
			}
			bdevtest.Read(t, h, 0, 128)
			for _, at := range []uint64{126, 128, 255} {
				n := min(4, 256-at)
				s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Offset: at, Blocks: n, Iov: [][]byte{make([]byte, n*4096)}})
				if s.Type() != 2 {
					t.Errorf("read of %d blocks at %d: %v, want a media error", n, at, s)
				}
			}
		})
	}
}

// TestReadOnlyOffersNoWrites: anyone who exports the device can say so.
func TestReadOnlyOffersNoWrites(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	register(t, reg, aio.Config{Name: "ro", Filename: file(t, 1<<20), BlockSize: 4096, ReadOnly: true})
	i, _ := reg.Info("ro")
	for _, op := range []bdev.Op{bdev.OpWrite, bdev.OpWriteZeroes, bdev.OpUnmap, bdev.OpCompareAndWrite} {
		if i.Ops.Has(op) {
			t.Errorf("it offers %v", op)
		}
	}
}
