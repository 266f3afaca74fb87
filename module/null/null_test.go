package null_test

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/null"
)

func TestConformance(t *testing.T) {
	bdevtest.Run(t, bdevtest.Subject{
		Discards: true,
		New: func(t *testing.T, reg *bdev.Registry) string {
			d, err := null.New(null.Config{Name: "Null0", BlockSize: 4096, Blocks: 2048})
			if err != nil {
				t.Fatal(err)
			}
			if err := reg.Register(d); err != nil {
				t.Fatal(err)
			}
			return "Null0"
		},
		Resize: func(t *testing.T, reg *bdev.Registry, name string) {
			d, _ := reg.Get(name)
			if err := d.(*null.Device).Resize(4096); err != nil {
				t.Fatal(err)
			}
			reg.Resized(name)
		},
	})
}
