package mirror_test

import (
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// remote is a device whose target says which epoch it is in.
type remote struct {
	bdev.Device
	epoch atomic.Pointer[uuid.UUID]
}

func (d *remote) Info() bdev.Info {
	i := d.Device.Info()
	i.Epoch = *d.epoch.Load()
	return i
}

func (d *remote) start() {
	e := uuid.New()
	d.epoch.Store(&e)
}

// TestEpochOfABdev: a leg that was cut off and is back in the epoch that its bdev had
// before lacks nothing, and nothing is repaired. In another epoch the regions with
// bits are. The control plane says nothing of epochs here.
func TestEpochOfABdev(t *testing.T) {
	r := newRig(t, 1)
	r.delete()
	d, err := malloc.New(malloc.Config{Name: "remote", BlockSize: 4096, Blocks: (dataSize + label.TailSize) / 4096})
	r.ok(err)
	far := &remote{Device: d}
	far.start()
	r.ok(r.reg.Register(far))
	r.legs = []mirror.LegConfig{{VD: id(0xb0, 0), Bdev: legName(0), Role: core.Member}, {VD: id(0xb0, 1), Bdev: "remote", Role: core.Target}}
	r.create(false)
	r.until("the second leg lacks nothing", func(s mirror.Status) bool { return s.Legs[1].Ready })
	r.legs[1].Role, r.gen = core.Member, 2
	r.set()
	r.until("it is a member", func(s mirror.Status) bool { return s.Online && s.Legs[1].Connected })
	r.fill(r.open())
	for _, c := range []struct {
		what     string
		restart  bool
		repaired uint64
	}{{"the same epoch", false, 0}, {"another", true, dataSize}, {"and the same again", false, 0}} {
		before := r.mod.Stats().Copied
		r.reg.CutOff("remote")
		r.until("it is lost", lost(1))
		if c.restart {
			far.start()
		}
		r.set()
		r.until("it is back", func(s mirror.Status) bool { return s.Online && s.Legs[1].Connected && s.Repair == 0 })
		if n := r.mod.Stats().Copied - before; n != c.repaired {
			t.Errorf("%s: %d bytes were repaired, not %d", c.what, n, c.repaired)
		}
	}
}
