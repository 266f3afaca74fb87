package bdev_test

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/null"
)

// BenchmarkSubmitParallel is what all cores pay together for one handle's
// bookkeeping: the device does nothing.
func BenchmarkSubmitParallel(b *testing.B) {
	for _, c := range []struct {
		name  string
		setup func(*bdev.Registry) error
	}{
		{"plain", func(*bdev.Registry) error { return nil }},
		{"histogram", func(g *bdev.Registry) error { return g.EnableHistogram("Null0", true, 0) }},
		{"qos", func(g *bdev.Registry) error { return g.SetQoS("Null0", bdev.Limits{RWIOs: 1 << 40}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			reg := bdev.NewRegistry()
			defer reg.Close()
			d, err := null.New(null.Config{Name: "Null0", BlockSize: 512, Blocks: 1024})
			if err != nil {
				b.Fatal(err)
			}
			h := add(b, reg, d)
			defer h.Close()
			if err := c.setup(reg); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var batch bdev.Batch
				p := make([]byte, 512)
				done := make(chan struct{}, 1)
				r := bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{p}, Done: func(*bdev.Request, *bdev.Batch) { done <- struct{}{} }}
				for n := 0; pb.Next(); n++ {
					h.Submit(&r, &batch)
					<-done
					if n&31 == 0 {
						batch.Flush()
					}
				}
			})
		})
	}
}
