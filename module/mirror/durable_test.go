package mirror_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

// cached is a disk with a volatile write cache that counts what makes data durable.
type cached struct {
	*malloc.Device
	mu           sync.Mutex
	fua, flushes int // writes of data with FUA, and flushes
}

func (d *cached) Info() bdev.Info {
	i := d.Device.Info()
	i.WriteCache = true
	return i
}

func (d *cached) Submit(r *bdev.Request, b *bdev.Batch) {
	d.mu.Lock()
	switch {
	case r.Op == bdev.OpWrite && r.FUA && r.Offset < dataSize/4096:
		d.fua++
	case r.Op == bdev.OpFlush:
		d.flushes++
	}
	d.mu.Unlock()
	d.Device.Submit(r, b)
}

// took returns the counts and forgets them.
func (d *cached) took() (fua, flushes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fua, flushes, d.fua, d.flushes = d.fua, d.flushes, 0, 0
	return fua, flushes
}

// What a host says is to be durable is so on every leg: a write with FUA is one on all
// legs, and a flush flushes all. Neither is made of what the host says nothing of. The
// mirror says that there is a cache, or hosts would not flush it.
func TestDurableOnEveryLeg(t *testing.T) {
	for legs := 1; legs <= 3; legs++ {
		t.Run(fmt.Sprint(legs, " legs"), func(t *testing.T) {
			r := &rig{T: t, reg: bdev.NewRegistry(), gen: 1}
			t.Cleanup(r.reg.Close)
			r.mod = mirror.New(r.reg, slog.New(slog.DiscardHandler))
			var disks []*cached
			for i := range legs {
				name := fmt.Sprint("cached", i)
				m, err := malloc.New(malloc.Config{Name: name, BlockSize: 4096, Blocks: (dataSize + label.TailSize) / 4096})
				r.ok(err)
				disks = append(disks, &cached{Device: m})
				r.ok(r.reg.Register(disks[i]))
				r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, i), Bdev: name, Role: core.Member, Epoch: id(0xee, i)})
			}
			r.create(true)
			h := r.open()
			if !h.Info().WriteCache {
				t.Error("the mirror hides that its legs have a volatile cache")
			}
			do := func(q *bdev.Request) {
				t.Helper()
				if q.Op == bdev.OpWrite {
					q.Offset, q.Blocks, q.Iov = 7, 1, [][]byte{make([]byte, 4096)}
				}
				if s := bdevtest.Do(h, q); s != nvme.Success {
					t.Fatal(s)
				}
			}
			took := func(what string, fua, flushes int) {
				t.Helper()
				for i, d := range disks {
					if gotFUA, gotFlushes := d.took(); gotFUA != fua || gotFlushes != flushes {
						t.Errorf("%s: leg %d has had %d writes with FUA and %d flushes, want %d and %d", what, i, gotFUA, gotFlushes, fua, flushes)
					}
				}
			}
			do(&bdev.Request{Op: bdev.OpWrite}) // also marks the region
			for _, d := range disks {
				d.took()
			}
			do(&bdev.Request{Op: bdev.OpWrite})
			took("a write", 0, 0)
			do(&bdev.Request{Op: bdev.OpWrite, FUA: true})
			took("a write with FUA", 1, 0)
			do(&bdev.Request{Op: bdev.OpFlush})
			took("a flush", 0, 1)
		})
	}
}
