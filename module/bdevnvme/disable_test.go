package bdevnvme

import (
	"errors"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestDisable turns paths off and on: with another path nothing fails, without
// one everything does at once, what waits included, and the bdev stays.
func TestDisable(t *testing.T) {
	r := newRig(t, 2)
	r.attach(0, func(c *AttachConfig) { c.CtrlrLossTimeoutSec = -1 })
	r.attach(1, func(c *AttachConfig) { c.CtrlrLossTimeoutSec = -1 })
	h := r.open("Nv0n1")
	defer h.Close()
	read := func() nvme.Status {
		return bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	}
	paths := func(want ...IOPath) {
		t.Helper()
		l := r.m.IOPaths("Nv0n1")
		if len(l) != len(want) {
			t.Fatalf("paths: %+v", l)
		}
		for i, w := range want {
			if p := l[i]; p.Current != w.Current || p.Connected != w.Connected || !p.Accessible || p.Transport.Trsvcid != r.addrs[i].Trsvcid ||
				p.CNTLID == 0 {
				t.Errorf("path %d: %+v", i, p)
			}
		}
	}
	paths(IOPath{Current: true, Connected: true}, IOPath{Connected: true})
	r.ok(r.m.SetPolicy("Nv0n1", Policy{ActiveActive: true, MinIO: 1}))
	paths(IOPath{Current: true, Connected: true}, IOPath{Current: true, Connected: true})
	r.ok(r.m.SetPolicy("Nv0n1", Policy{}))

	tr := newTraffic(h)
	flows := func() {
		t.Helper()
		before := tr.ok.Load()
		r.eventually("I/O flows", func() bool { return tr.ok.Load() > before+20 })
	}
	flows()
	first := r.m.List()[0].Ctrlrs[0].CNTLID
	r.ok(r.m.Disable(t.Context(), "Nv0", first))
	paths(IOPath{}, IOPath{Current: true, Connected: true})
	if s := r.m.List()[0].Ctrlrs[0].State; s != "disabled" {
		t.Errorf("state %q", s)
	}
	flows()
	for what, err := range map[string]error{"disable twice": r.m.Disable(t.Context(), "Nv0", first),
		"reset while disabled": r.m.Reset("Nv0", first)} {
		if !errors.Is(err, syscall.EALREADY) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.ok(r.m.Enable(t.Context(), "Nv0", first))
	flows()
	tr.end()
	if tr.path.Load()+tr.other.Load() != 0 {
		t.Errorf("with another path %d path errors, %d other errors", tr.path.Load(), tr.other.Load())
	}

	r.ok(r.m.Disable(t.Context(), "Nv0", 0))
	if s := read(); s != nvme.InternalPathError {
		t.Errorf("I/O without a path: %v", s)
	}
	if _, ok := r.front.Get("Nv0n1"); !ok {
		t.Error("the bdev has gone")
	}
	r.ok(r.m.Enable(t.Context(), "Nv0", 0))
	r.eventually("I/O works again", func() bool { return read() == nvme.Success })

	// What waits for a path that may come back fails when it is disabled.
	r.ok(r.sub.RemoveListener(r.addrs[0]))
	r.ok(r.sub.RemoveListener(r.addrs[1]))
	waiting := make(chan nvme.Status, 1)
	go func() { waiting <- read() }()
	r.eventually("I/O waits", func() bool {
		d := r.m.find("Nv0").diskList()[0]
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.waiting) > 0
	})
	r.ok(r.m.Disable(t.Context(), "Nv0", 0))
	if s := <-waiting; s != nvme.InternalPathError {
		t.Errorf("what waited: %v", s)
	}
	if err := r.m.Enable(t.Context(), "Nv0", 0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("enable without a listener: %v", err)
	}
	r.listen(r.addrs[0].Trsvcid)
	r.eventually("I/O works again", func() bool { return read() == nvme.Success })
	for what, err := range map[string]error{
		"enable while enabled": r.m.Enable(t.Context(), "Nv0", r.m.List()[0].Ctrlrs[0].CNTLID),
		"unknown":              r.m.Disable(t.Context(), "zz", 0),
		"unknown path":         r.m.Disable(t.Context(), "Nv0", 65000),
	} {
		if want := map[bool]error{true: syscall.EALREADY, false: syscall.ENODEV}[what[0] == 'e']; !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
}
