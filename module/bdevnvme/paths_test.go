package bdevnvme

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// traffic keeps reads and writes going and counts how they end.
type traffic struct {
	ok, path, other atomic.Int64
	worst           atomic.Int64 // longest time without a success, ns
	stop            atomic.Bool
	wg              sync.WaitGroup
}

func newTraffic(h *bdev.Handle) *traffic {
	tr := &traffic{}
	for i := range 4 {
		tr.wg.Go(func() {
			buf := make([]byte, 8192)
			op := bdev.OpRead
			if i%2 == 0 {
				op = bdev.OpWrite
			}
			last := time.Now()
			for !tr.stop.Load() {
				switch s := bdevtest.Do(h, &bdev.Request{Op: op, Offset: uint64(i * 8), Blocks: 2, Iov: [][]byte{buf}}); {
				case s == nvme.Success:
					tr.ok.Add(1)
					tr.worst.Store(max(tr.worst.Load(), int64(time.Since(last))))
					last = time.Now()
				case s.IsPath():
					tr.path.Add(1)
					time.Sleep(time.Millisecond)
				default:
					tr.other.Add(1)
				}
			}
		})
	}
	return tr
}

func (tr *traffic) end() {
	tr.stop.Store(true)
	tr.wg.Wait()
}

// TestReconnect cuts the only path again and again: I/O waits, none fails.
func TestReconnect(t *testing.T) {
	r := newRig(t, 1)
	p := newProxy(t, r.addrs[0])
	r.addrs[0] = p.addr()
	r.attach(0, nil)
	h := r.open("Nv0n1")
	defer h.Close()
	tr := newTraffic(h)
	for range 5 {
		before := tr.ok.Load()
		r.eventually("I/O flows", func() bool { return tr.ok.Load() > before+20 })
		p.cut()
	}
	before := tr.ok.Load()
	r.eventually("I/O flows again", func() bool { return tr.ok.Load() > before+20 })
	tr.end()
	if tr.path.Load()+tr.other.Load() != 0 {
		t.Errorf("%d path errors, %d other errors", tr.path.Load(), tr.other.Load())
	}
}

// TestFastFail takes the listener away: I/O waits for the fast-fail time, then
// fails with a path status, and works again once the listener is back.
func TestFastFail(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.attach(0, func(c *AttachConfig) {
		c.CtrlrLossTimeoutSec, c.ReconnectDelaySec, c.FastIOFailTimeoutSec = -1, 1, 1
	})
	h := r.open("Nv0n1")
	defer h.Close()
	read := func() nvme.Status {
		return bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	}
	if s := read(); s != nvme.Success {
		t.Fatal(s)
	}
	began := time.Now()
	r.ok(r.sub.RemoveListener(r.addrs[0]))
	if s := read(); s != nvme.InternalPathError {
		t.Fatalf("status %v", s)
	}
	if d := time.Since(began); d < 900*time.Millisecond || d > 8*time.Second {
		t.Errorf("I/O failed after %v, want about 1 s", d)
	}
	began = time.Now()
	if s := read(); s != nvme.InternalPathError || time.Since(began) > 900*time.Millisecond {
		t.Errorf("later I/O: %v after %v, want to fail at once", s, time.Since(began))
	}
	if s := r.m.List()[0].Ctrlrs[0].State; s != "reconnect_is_delayed" && s != "resetting" {
		t.Errorf("state %q", s)
	}
	r.listen(r.addrs[0].Trsvcid)
	r.eventually("I/O works again", func() bool { return read() == nvme.Success })
}

// TestFence takes the host off the subsystem's list: waiting I/O fails once
// the target has refused the host, not after the fast-fail time, and works
// again once the host is admitted.
func TestFence(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.sub.AllowAnyHost(false)
	const me = "nqn.2016-06.io.spdk:me"
	r.ok(r.sub.AddHost(me))
	r.attach(0, func(c *AttachConfig) {
		c.HostNQN = me
		c.CtrlrLossTimeoutSec, c.ReconnectDelaySec, c.FastIOFailTimeoutSec = -1, 1, 3600
	})
	h := r.open("Nv0n1")
	defer h.Close()
	read := func() nvme.Status {
		return bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	}
	if s := read(); s != nvme.Success {
		t.Fatal(s)
	}
	r.ok(r.sub.RemoveHost(me))
	r.ends("I/O of a host that is refused", func() {
		if s := read(); s != nvme.InternalPathError {
			t.Errorf("status %v", s)
		}
	})
	r.ok(r.sub.AddHost(me))
	r.eventually("I/O works again", func() bool { return read() == nvme.Success })
}

// TestLoss: after the loss time-out controller and bdev are gone, although
// nobody asked.
func TestLoss(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.attach(0, func(c *AttachConfig) { c.CtrlrLossTimeoutSec, c.ReconnectDelaySec = 1, 1 })
	h := r.open("Nv0n1")
	defer h.Close()
	r.ok(r.sub.RemoveListener(r.addrs[0]))
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}); s != nvme.InternalPathError {
		t.Fatalf("status %v", s)
	}
	r.eventually("controller is gone", func() bool { return len(r.m.List()) == 0 && len(r.front.Names()) == 0 })
	if err := r.m.Detach("Nv0", nil); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("detach afterwards: %v", err)
	}
}

// TestNoReconnect: without the time-outs one attempt is made, and I/O fails.
func TestNoReconnect(t *testing.T) {
	r := newRig(t, 1)
	r.attach(0, func(c *AttachConfig) { c.CtrlrLossTimeoutSec, c.ReconnectDelaySec = 0, 0 })
	h := r.open("Nv0n1")
	defer h.Close()
	r.ok(r.sub.RemoveListener(r.addrs[0]))
	r.eventually("failed", func() bool { return r.m.List()[0].Ctrlrs[0].State == "failed" })
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}); s != nvme.InternalPathError {
		t.Fatalf("status %v", s)
	}
	r.listen(r.addrs[0].Trsvcid)
	r.ok(r.m.Reset("Nv0", 0))
	r.eventually("enabled after a reset", func() bool { return r.m.List()[0].Ctrlrs[0].State == "enabled" })
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}); s != nvme.Success {
		t.Fatalf("status %v", s)
	}
}

// TestDetachBlocked: nothing answers, I/O is queued or in flight for ever, and
// still Detach comes to an end.
func TestDetachBlocked(t *testing.T) {
	t.Parallel()
	for _, queued := range []bool{false, true} {
		r := newRig(t, 1)
		p := newProxy(t, r.addrs[0])
		r.addrs[0] = p.addr()
		r.attach(0, func(c *AttachConfig) { c.CtrlrLossTimeoutSec, c.ReconnectDelaySec = -1, 1 })
		h := r.open("Nv0n1")
		p.hold(true)
		if queued {
			p.cut()
			r.eventually("session is lost", func() bool { return r.m.List()[0].Ctrlrs[0].State != "enabled" })
		}
		done := make(chan nvme.Status, 1)
		req := &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}, Done: func(q *bdev.Request,
			_ *bdev.Batch) {
			done <- q.Status
		}}
		var b bdev.Batch
		h.Submit(req, &b)
		b.Flush()
		r.ends("detach", func() { r.ok(r.m.Detach("Nv0", nil)) })
		if s := <-done; s != nvme.InternalPathError {
			t.Errorf("queued %t: status %v", queued, s)
		}
		h.Close()
	}
}

// TestMultipath has two paths; each is cut, made inaccessible and restored
// under load. No I/O fails.
func TestMultipath(t *testing.T) {
	r := newRig(t, 2)
	p := newProxy(t, r.addrs[0])
	direct := r.addrs[0]
	r.addrs[0] = p.addr()
	r.attach(0, nil)
	if names := r.attach(1, nil); len(names) != 1 || names[0] != "Nv0n1" {
		t.Fatalf("second path: %v", names)
	}
	if l := r.m.List(); len(l) != 1 || len(l[0].Ctrlrs) != 2 {
		t.Fatalf("%+v", l)
	}
	r.ok(r.sub.SetANAState(r.addrs[1], 1, nvmftgt.ANANonOptimized))
	h := r.open("Nv0n1")
	defer h.Close()
	tr := newTraffic(h)
	flow := func(what string) {
		t.Helper()
		before := tr.ok.Load()
		r.eventually(what, func() bool { return tr.ok.Load() > before+50 })
	}
	flow("both paths")
	p.cut()
	flow("first path cut")
	r.eventually("first path is back", func() bool { return r.m.List()[0].Ctrlrs[0].State == "enabled" })
	for range 5 {
		r.ok(r.sub.SetANAState(r.addrs[1], 1, nvmftgt.ANAOptimized))
		r.ok(r.sub.SetANAState(direct, 1, nvmftgt.ANAInaccessible))
		flow("first path inaccessible")
		r.ok(r.sub.SetANAState(direct, 1, nvmftgt.ANAOptimized))
		r.ok(r.sub.SetANAState(r.addrs[1], 1, nvmftgt.ANAInaccessible))
		flow("second path inaccessible")
	}
	r.ok(r.m.Detach("Nv0", &Path{Trsvcid: r.addrs[1].Trsvcid}))
	flow("second path detached")
	tr.end()
	if tr.path.Load()+tr.other.Load() != 0 {
		t.Errorf("%d path errors, %d other errors", tr.path.Load(), tr.other.Load())
	}
	t.Logf("%d I/Os, longest pause %v", tr.ok.Load(), time.Duration(tr.worst.Load()))
}

// TestFailover has a standby address, which takes over.
func TestFailover(t *testing.T) {
	r := newRig(t, 2)
	mode := func(c *AttachConfig) { c.Multipath = MultipathFailover }
	r.attach(0, mode)
	r.attach(1, mode)
	l := r.m.List()[0].Ctrlrs
	if len(l) != 1 || len(l[0].Alternates) != 1 || l[0].Alternates[0].Trsvcid != r.addrs[1].Trsvcid {
		t.Fatalf("%+v", l)
	}
	h := r.open("Nv0n1")
	defer h.Close()
	r.ok(r.sub.RemoveListener(r.addrs[0]))
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}); s != nvme.Success {
		t.Fatalf("status %v", s)
	}
	if at := r.m.List()[0].Ctrlrs[0].TrID.Trsvcid; at != r.addrs[1].Trsvcid {
		t.Errorf("connected to port %s", at)
	}
}

// TestNamespaceTaken takes the namespace away on the far side under load: the
// bdev goes, and what was in flight ends with a path status, not with one that
// says the data is gone.
func TestNamespaceTaken(t *testing.T) {
	r := newRig(t, 1)
	r.attach(0, nil)
	h := r.open("Nv0n1")
	tr := newTraffic(h)
	r.eventually("I/O flows", func() bool { return tr.ok.Load() > 100 })
	r.ok(r.sub.RemoveNamespace(1))
	r.eventually("the bdev is gone", func() bool { return len(r.front.Names()) == 0 })
	tr.end()
	if tr.other.Load() != 0 || tr.path.Load() == 0 {
		t.Errorf("%d path errors, %d other errors", tr.path.Load(), tr.other.Load())
	}
}

// TestRefusedForGood: an attached controller outlives a refusal with Do Not
// Retry, as in SPDK, and is back when the subsystem is.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	other, err := r.tgt.CreateSubsystem(nvmftgt.SubsystemConfig{NQN: nqn + ":other"}) // keeps the port open
	r.ok(err)
	r.ok(other.AddListener(r.addrs[0]))
	r.attach(0, func(c *AttachConfig) {
		c.CtrlrLossTimeoutSec, c.ReconnectDelaySec, c.FastIOFailTimeoutSec = -1, 1, 1
	})
	r.ok(r.tgt.RetireSubsystem(nqn))
	r.eventually("refused", func() bool { return r.m.List()[0].Ctrlrs[0].State == "reconnect_is_delayed" })
	r.sub, err = r.tgt.CreateSubsystem(nvmftgt.SubsystemConfig{NQN: nqn, AllowAnyHost: true, ANAReporting: true})
	r.ok(err)
	r.export("back0", 1)
	r.ok(r.sub.AddListener(r.addrs[0]))
	r.eventually("back", func() bool { return len(r.m.List()) == 1 && r.m.List()[0].Ctrlrs[0].State == "enabled" })
}

// TestHoldersAreToldThatTheyAreCutOff: a connection that comes back at once is of
// no concern to those above; one that does not is told long before I/O fails.
func TestHoldersAreToldThatTheyAreCutOff(t *testing.T) {
	r := newRig(t, 1)
	p := newProxy(t, r.addrs[0])
	r.attach(0, func(c *AttachConfig) {
		c.Trsvcid = p.addr().Trsvcid
		c.CtrlrLossTimeoutSec, c.ReconnectDelaySec, c.FastIOFailTimeoutSec = -1, 60, 0
	})
	h := r.open("Nv0n1")
	defer h.Close()
	told := make(chan struct{}, 10)
	h.OnCutOff(func() { told <- struct{}{} })
	p.cut()
	bdevtest.Write(t, h, 0, make([]byte, 4096)) // it is back
	if len(told) > 0 {
		t.Error("told of a connection that came back at once")
	}
	p.close()
	r.eventually("it is told", func() bool { return len(told) > 0 })
}
