package mirror_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

// growing is a disk that shows a part of what it has.
type growing struct {
	bdev.Device
	blocks atomic.Uint64
}

func (g *growing) Info() bdev.Info {
	i := g.Device.Info()
	i.Blocks = g.blocks.Load()
	return i
}

func (g *growing) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	return g.Device.(bdev.Mapper).Map(dst, offset, blocks)
}

// bareDisk makes a disk without room for a label, which can get it.
func (r *rig) bareDisk(i int) *growing {
	r.Helper()
	d, err := malloc.New(malloc.Config{Name: fmt.Sprint("disk", i), BlockSize: 4096, Blocks: (dataSize + label.TailSize) / 4096})
	r.ok(err)
	g := &growing{Device: d}
	g.blocks.Store(dataSize / 4096)
	r.ok(r.reg.Register(g))
	return g
}

// newBareRig is a mirror of one leg without a label.
func newBareRig(t *testing.T) (*rig, *growing) {
	r := &rig{T: t, reg: bdev.NewRegistry(), gen: 1}
	t.Cleanup(r.reg.Close)
	r.mod = mirror.New(r.reg, slog.New(slog.DiscardHandler))
	g := r.bareDisk(0)
	r.legs = []mirror.LegConfig{{VD: id(0xb0, 0), Bdev: "disk0", Role: core.Member, Bare: true}}
	r.create(false)
	return r, g
}

func TestBareConformance(t *testing.T) {
	bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
		r := &rig{T: t, reg: reg, gen: 1, mod: mirror.New(reg, slog.New(slog.DiscardHandler))}
		r.bareDisk(0)
		r.legs = []mirror.LegConfig{{VD: id(0xb0, 0), Bdev: "disk0", Role: core.Member, Bare: true}}
		r.create(false)
		return "m"
	}})
}

// One leg lends its memory, a request to it allocates nothing, and its bdev holds
// nothing but the data.
func TestOneLegCostsNothing(t *testing.T) {
	for _, bare := range []bool{true, false} {
		t.Run(fmt.Sprint("bare ", bare), func(t *testing.T) {
			var r *rig
			if bare {
				r, _ = newBareRig(t)
			} else {
				r = newRig(t, 1)
				r.until("online", online)
			}
			h := r.open()
			data := r.fill(h)
			if bare {
				r.holds(0, data)
			}
			one := bdev.Request{Blocks: 1, Iov: [][]byte{make([]byte, 4096)}, Done: func(r *bdev.Request, _ *bdev.Batch) {
				if r.Status != nvme.Success {
					t.Error(r.Status)
				}
			}}
			var b bdev.Batch
			for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes} {
				if n := testing.AllocsPerRun(1000, func() {
					one.Op = op
					h.Submit(&one, &b)
				}); n > 0 {
					t.Errorf("%v: %v allocations", op, n)
				}
			}
			_, lent := h.Map(nil, 3, 5)
			if lent != bare { // errorinj lends none
				t.Errorf("memory is lent: %v", lent)
			}
		})
	}
}

// A leg without a label is lost and comes back; then it grows, has a label, and
// another leg joins it; that one alone goes on.
func TestABareLegBecomesAMirror(t *testing.T) {
	r, g := newBareRig(t)
	h := r.open()
	data := r.fill(h)
	lent, ok := h.Map(nil, 0, 1)
	if !ok || !bytes.Equal(lent[0], data[:4096]) {
		t.Error("no memory is lent")
	}
	settled := false
	h.OnSettle(func() { settled = true })
	r.addDisk(1)
	r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, 1), Bdev: legName(1), Role: core.Target})

	g.blocks.Store((dataSize + label.TailSize) / 4096)
	r.reg.Resized("disk0")
	r.set()
	if !settled {
		t.Error("a second leg is attached while memory of the first is lent")
	}
	if _, ok := h.Map(nil, 0, 1); ok {
		t.Error("memory of a mirror of two legs is lent")
	}
	r.until("leg 1 lacks nothing", func(s mirror.Status) bool { return s.Legs[1].Ready })
	r.legs[0].Bare = false
	r.legs[1].Role, r.gen = core.Member, 2
	r.set()
	r.until("leg 1 is a member", func(s mirror.Status) bool { return s.Online && s.Legs[1].Connected })
	r.holds(1, data)
	h.Close()
	r.delete()
	r.create(false) // both have labels
	r.until("online", online)
	h = r.open()
	r.legs, r.gen = r.legs[:1], 3
	r.set()
	r.until("one leg alone is enough", func(mirror.Status) bool {
		_, ok := h.Map(nil, 0, 1)
		return ok
	})
	if got := bdevtest.Read(t, h, 0, dataSize/4096); !bytes.Equal(got, data) {
		t.Error("the mirror holds other data")
	}
	// A leg that was left out is copied whole, as nobody has noted what it lacks.
	one := bytes.Repeat([]byte{3}, 4096)
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 7, Blocks: 1, Iov: [][]byte{one}}); s != nvme.Success {
		t.Fatal(s)
	}
	copy(data[7*4096:], one)
	r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, 1), Bdev: legName(1), Role: core.Target})
	r.set()
	find := func(s mirror.Status) mirror.LegStatus {
		for _, l := range s.Legs {
			if l.Bdev == legName(1) {
				return l
			}
		}
		return mirror.LegStatus{}
	}
	r.until("it lacks nothing", func(s mirror.Status) bool { return find(s).Ready })
	r.holds(1, data)
}

// A vd without a label is moved: the new leg is copied to under load, and takes its
// place in one step. A data plane that starts again meanwhile asks what became of
// the new leg, as it may have taken the place.
func TestABareLegIsMoved(t *testing.T) {
	r, _ := newBareRig(t)
	h := r.open()
	data := r.fill(h)
	r.addDisk(1)
	old := r.legs
	r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, 1), Bdev: legName(1), Role: core.Target})
	r.set()
	r.until("the new leg lacks nothing", func(s mirror.Status) bool { return s.Legs[1].Ready })
	h.Close()
	r.delete()

	r.create(false) // SQL may have made it a member
	if s := r.m.Status(); s.Online || !s.Legs[1].Lost || !strings.Contains(s.Legs[1].Why, "control plane") {
		t.Errorf("nobody waits for a leg that may be the one: %+v", s)
	}
	if err := r.m.Set(t.Context(), 1, 1, old); err != nil {
		t.Fatal(err)
	}
	r.until("it was not", online)
	h = r.open()
	one := bytes.Repeat([]byte{3}, 4096)
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 7, Blocks: 1, Iov: [][]byte{one}}); s != nvme.Success {
		t.Fatal(s)
	}
	copy(data[7*4096:], one)
	r.set()
	r.until("it is copied again", func(s mirror.Status) bool { return len(s.Legs) == 2 && s.Legs[1].Ready })
	r.legs, r.gen = []mirror.LegConfig{{VD: id(0xb0, 1), Bdev: legName(1), Role: core.Member}}, 2
	r.set()
	r.until("it has taken the place", func(s mirror.Status) bool { return s.Online && len(s.Legs) == 1 && s.Legs[0].Connected })
	r.ok(r.reg.Unregister("disk0"))
	r.holds(1, data)
	if got := bdevtest.Read(t, h, 0, dataSize/4096); !bytes.Equal(got, data) {
		t.Error("the mirror holds other data")
	}
}

// A leg without a label that is lost and comes back goes on; other uses of such a
// leg are refused.
func TestABareLegComesBack(t *testing.T) {
	r, _ := newBareRig(t)
	h := r.open()
	data := r.fill(h)
	r.ok(r.reg.Unregister("disk0"))
	r.until("it is lost", lost(0))
	d, err := malloc.New(malloc.Config{Name: "disk0", BlockSize: 4096, Blocks: dataSize / 4096})
	r.ok(err)
	r.ok(r.reg.Register(d))
	r.set()
	r.until("online", online)
	_ = r.fill(h)
	r.holds(0, data)
	r.addDisk(1)
	for name, legs := range map[string][]mirror.LegConfig{
		"not said to be bare": {{VD: id(0xb0, 0), Bdev: "disk0", Role: core.Member}},
		"one of two members": {{VD: id(0xb0, 0), Bdev: "disk0", Role: core.Member, Bare: true},
			{VD: id(0xb0, 1), Bdev: legName(1), Role: core.Member}},
	} {
		conf := r.config(true)
		conf.Name, conf.Mirror, conf.Legs = "other", id(0xaa, 2), legs
		if r.m != nil {
			h.Close()
			r.delete()
			r.m = nil
		}
		m, err := r.mod.Create(t.Context(), conf)
		if err == nil && m.Status().Online {
			t.Errorf("%s: %+v", name, m.Status())
		}
		if err == nil {
			r.ok(r.mod.Delete("other"))
		}
	}
}

// A leg that is alone may be taken for lost by what was under way before I/O went past the
// core. When it resumes it has another handle, and I/O goes to that one.
func TestALegThatIsAloneResumes(t *testing.T) {
	r := newRig(t, 1)
	h := r.open()
	r.fill(h)
	m, err := r.mod.Find("m")
	r.ok(err)
	m.Lose(0)
	r.set()
	r.until("the leg is not lost", func(s mirror.Status) bool { return !s.Legs[0].Lost })
	data := r.fill(h)
	r.holds(0, data)
}
