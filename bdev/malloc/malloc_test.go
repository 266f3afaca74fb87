package malloc_test

import (
	"syscall"
	"testing"

	"vda/bdev"
	"vda/bdev/bdevtest"
	"vda/bdev/malloc"
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
