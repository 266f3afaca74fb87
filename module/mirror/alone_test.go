package mirror_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestLeftAlone: a mirror whose only member catches up by its label waits, and says why, until a
// user has had it go on; one of a control plane that does not say which sets are a user's does not
// wait.
func TestLeftAlone(t *testing.T) {
	r := newRig(t, 2)
	h := r.open()
	data := r.fill(h)
	h.Close()
	r.delete()
	r.catchesUp(1)
	r.legs = r.legs[1:]
	r.gen = 2
	c := r.config(false)
	m, err := r.mod.Create(t.Context(), c)
	r.ok(err)
	r.m = m
	waits := func() {
		t.Helper()
		s := r.m.Status()
		if l := s.Legs[0]; s.Assembled || s.Online || !l.Lost || !l.CatchingUp || l.Why != core.LeftAlone {
			t.Errorf("left alone: %+v", s)
		}
	}
	waits()
	r.set()
	waits()
	r.gen = 3
	r.m.SetRecovered(2)
	r.set()
	r.until("online", online)
	if got := bdevtest.Read(t, r.open(), 0, dataSize/4096); !bytes.Equal(got, data) {
		t.Error("the mirror holds other data")
	}

	r = newRig(t, 2)
	r.delete()
	r.catchesUp(1)
	r.legs = r.legs[1:]
	r.gen = 2
	c = r.config(false)
	c.Recovered = math.MaxUint64
	r.m, err = r.mod.Create(t.Context(), c)
	r.ok(err)
	r.until("online", online)
}

// catchesUp has the label of a leg say that the leg catches up, as it stands when its primary
// dies then.
func (r *rig) catchesUp(i int) {
	r.Helper()
	h, err := r.reg.Open(legName(i), nil)
	r.ok(err)
	defer h.Close()
	slots := bdevtest.Read(r, h, dataSize/4096, 2)
	l, err := label.Decode(slots)
	r.ok(err)
	l.Seq++
	l.Clean, l.Source, l.CatchingUp = false, l.Members[0], []label.ID{l.VD}
	b, err := l.Encode()
	r.ok(err)
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: dataSize/4096 + uint64(label.Slot(l.Seq))/4096, Blocks: 1,
		Iov: [][]byte{b}}); s != nvme.Success {
		r.Fatal(s)
	}
}
