package bdevnvme

import (
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// TestEpoch: a connection that breaks and is there again finds the epoch that it had,
// unless the target has opened the device once more meanwhile. Then the holders of the
// bdev are told before any I/O goes there, however soon the connection is back.
func TestEpoch(t *testing.T) {
	r := newRig(t, 1)
	r.sub.SetSingleAssociation(true)
	p := newProxy(t, r.addrs[0])
	ns := r.sub.Namespaces()[0]
	name := r.attach(0, func(c *AttachConfig) { c.Traddr, c.Trsvcid = p.addr().Traddr, p.addr().Trsvcid })[0]
	epoch := func() uuid.UUID {
		h, err := r.front.Open(name, nil)
		r.ok(err)
		defer h.Close()
		return h.Info().Epoch
	}
	first := epoch()
	if first == uuid.Nil {
		t.Fatal("the bdev has no epoch")
	}
	h := r.open(name)
	var told atomic.Int32
	h.OnCutOff(func() { told.Add(1) })
	p.cut()
	bdevtest.Read(t, h, 0, 1)
	if e := epoch(); e != first {
		t.Errorf("after the connection broke the epoch is %v, not %v", e, first)
	}
	for range 3 {
		p.hold(true) // the next connection comes no further, until it is another epoch
		p.cut()
		r.eventually("the connection is lost", func() bool { return r.m.mustBeAway(name) })
		r.ok(r.sub.RemoveNamespace(1))
		_, err := r.sub.AddNamespace(nvmftgt.NamespaceConfig{NSID: 1, Bdev: "back0", UUID: ns.UUID, NGUID: ns.NGUID, ANAGroup: 1})
		r.ok(err)
		told.Store(0)
		p.hold(false)
		bdevtest.Read(t, h, 0, 1)
		if told.Load() == 0 {
			t.Error("I/O went to another epoch of the device, and its holder was not told")
		}
		last := epoch()
		if last == first || last == uuid.Nil {
			t.Errorf("after the device was opened once more the epoch is %v, as before", last)
		}
		first = last
	}
}

// mustBeAway reports that the path of a bdev has no connection.
func (m *Module) mustBeAway(name string) bool {
	dev, _ := m.reg.Get(name)
	d, ok := dev.(*disk)
	return ok && !d.ioPaths()[0].ns.Usable()
}
