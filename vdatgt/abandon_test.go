package vdatgt

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/raid"
	"github.com/virtual-disk-array/vda/nvme"
)

// witness is memory that cannot take more than 16 blocks at a time, nor zero
// any, and looks at what it is given.
type witness struct {
	*malloc.Device
	gone   *atomic.Bool // what every write has to carry; nil: any
	writes *atomic.Int64
	fault  *atomic.Int64 // writes that did not
}

func (w *witness) Info() bdev.Info {
	i := w.Device.Info()
	i.Ops, i.MaxIO = bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush), 16
	return i
}

func (w *witness) Submit(r *bdev.Request, b *bdev.Batch) {
	if w.gone != nil && r.Op == bdev.OpWrite {
		w.writes.Add(1)
		if r.Gone != w.gone {
			w.fault.Add(1)
		}
	}
	w.Device.Submit(r, b)
}

// TestAbandonedBelow: anyone who serves a request by several of its own tells
// them for whom they are, through a volume, an array and the pieces that a
// device takes, so that the path to a remote disk learns of a host that is
// gone; and none is begun once it is.
func TestAbandonedBelow(t *testing.T) {
	reg := bdev.NewRegistry()
	var disks []*witness
	var writes, fault atomic.Int64
	var names []string
	for i := range 2 {
		d, err := malloc.New(malloc.Config{Name: fmt.Sprintf("M%d", i), BlockSize: 4096, Blocks: 4096})
		ok(t, err)
		w := &witness{Device: d, writes: &writes, fault: &fault}
		ok(t, reg.Register(w))
		disks, names = append(disks, w), append(names, d.Info().Name)
	}
	must[*raid.Array](t)(raid.New(reg).Create(raid.Config{Name: "R", Level: raid.Raid0, StripSizeKB: 64, Bases: names}))
	st := must[*lvol.Store](t)(lvol.New(lvol.Config{Registry: reg}).CreateStore("R", "lvs", lvol.StoreOpts{ClusterSize: 1 << 20}))
	must[*lvol.Volume](t)(st.CreateVolume(lvol.VolumeOpts{Name: "v", Bytes: 8 << 20}))
	h := must[*bdev.Handle](t)(reg.Open("lvs/v", nil))
	defer h.Close()
	var gone atomic.Bool
	for _, d := range disks {
		d.gone = &gone
	}
	requests := []*bdev.Request{
		{Op: bdev.OpWrite, Blocks: 512, Iov: [][]byte{make([]byte, 2<<20)}},
		{Op: bdev.OpWriteZeroes, Blocks: 512},
	}
	for _, r := range requests {
		r.Gone = &gone
		if s := bdevtest.Do(h, r); s != nvme.Success {
			t.Errorf("%v: %v", r.Op, s)
		}
	}
	if n := writes.Load(); n < 64 || fault.Load() > 0 {
		t.Errorf("%d writes reach the disks, %d of them without Gone", n, fault.Load())
	}
	gone.Store(true)
	writes.Store(0)
	for _, r := range requests {
		if s := bdevtest.Do(h, r); !s.IsPath() {
			t.Errorf("%v of a host that is gone: %v", r.Op, s)
		}
	}
	if n := writes.Load(); n > 0 {
		t.Errorf("%d writes for a host that is gone", n)
	}
}
