package nvmftgt

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// The hosts in these tests do what Linux does: they close all sockets of an
// association at once, and send what was not answered again in the next one.

// watched is for how long a Connect that has to wait is watched. It is no limit:
// one that waits stays silent for longer.
const watched = 200 * time.Millisecond

// returning is a rig whose second namespace is on a device that keeps what it is
// given, and one association whose write of ones lies there.
type returning struct {
	*rig
	disk   *gated
	nsid   uint32
	a, q   *wire
	cntlid uint16
}

func newReturning(t *testing.T, opts ...rigOpt) *returning {
	s := &returning{rig: newRig(t, opts...)}
	s.malloc("m1", 256)
	s.disk = s.gated("slow", "m1")
	t.Cleanup(s.disk.release)
	var err error
	s.nsid, err = s.sub.AddNamespace(NamespaceConfig{Bdev: "slow"})
	must(t, err)
	s.a, s.cntlid = s.admin()
	s.q = s.ioq(s.cntlid, 1)
	s.send(s.q, 1)
	s.given(1)
	return s
}

// send writes block 0 of the slow disk and does not wait.
func (s *returning) send(w *wire, with byte) {
	c := w.rw(1, 0, 1)
	c[4] = byte(s.nsid)
	sglIn(c, 4096)
	w.capsule(c, bytes.Repeat([]byte{with}, 4096))
}

// given waits until the disk has had n requests.
func (s *returning) given(n int64) {
	s.t.Helper()
	waitFor(s.t, func() bool { return s.disk.seen.Load() == n })
}

// comeBack connects again, enables the controller and makes its I/O queue. It
// expects that this does not end before the disk lets go.
func (s *returning) comeBack(what string) *wire {
	s.t.Helper()
	var released atomic.Bool
	back := make(chan *wire, 1)
	go func() {
		a, id := s.admin()
		if !released.Load() {
			s.t.Errorf("%s: the host is let in while its former write is at the disk", what)
		}
		_ = a
		back <- s.ioq(id, 1)
	}()
	select {
	case w := <-back:
		return w
	case <-time.After(watched):
	}
	released.Store(true)
	s.disk.release()
	return <-back
}

// writes and reads back what the disk has in the end.
func (s *returning) ends(w *wire, with byte) {
	s.t.Helper()
	s.send(w, with)
	if c, _ := w.await(w.cid, nil); c.status != 0 {
		s.t.Fatalf("the new write: status %03x", c.status)
	}
	r := w.rw(2, 0, 1)
	r[4] = byte(s.nsid)
	sglOut(r, 4096)
	w.capsule(r, nil)
	if c, got := w.await(w.cid, nil); c.status != 0 || got[0] != with {
		s.t.Errorf("the disk has %d, not %d, which was written last (status %03x)", got[:1], with, c.status)
	}
}

// TestReturnWaitsForTheFormerAssociation: a host whose connections broke comes
// back while its write is at a slow disk. It is let in when that has ended, so
// that what it writes then stays.
func TestReturnWaitsForTheFormerAssociation(t *testing.T) {
	s := newReturning(t)
	_ = s.q.c.Close()
	_ = s.a.c.Close()
	s.ends(s.comeBack("all connections closed"), 2)
	s.clean(t, 2)
}

// TestReturnWaitsWhereOnlyTheAdminConnectionBroke: without it the whole
// association is over.
func TestReturnWaitsWhereOnlyTheAdminConnectionBroke(t *testing.T) {
	s := newReturning(t)
	_ = s.a.c.Close()
	s.ends(s.comeBack("the admin connection closed"), 2)
}

// TestReturnBeforeTheEnd: the end of the former association comes after the
// Connect of the next: that one is not enabled before it has settled.
func TestReturnBeforeTheEnd(t *testing.T) {
	s := newReturning(t)
	a := s.dial()
	a.icreq()
	c := a.connect(0, 0xffff, testNQN) // both are alive, as far as anyone knows
	if c.status != 0 {
		t.Fatalf("connect: status %03x", c.status)
	}
	_ = s.q.c.Close()
	_ = s.a.c.Close()
	waitFor(t, func() bool { return len(s.sub.Controllers()) == 1 })
	enabled := make(chan uint16, 1)
	go func() { enabled <- a.propSet(0x14, 0x00460001).status }()
	select {
	case status := <-enabled:
		t.Fatalf("enabled, with status %03x, while the former write is at the disk", status)
	case <-time.After(watched):
	}
	s.disk.release()
	if status := <-enabled; status != 0 {
		t.Fatalf("enable: status %03x", status)
	}
	s.ends(s.ioq(uint16(c.dw0), 1), 2)
}

// TestSecondAssociationOfAHost: two associations of one host that are both
// alive, as by nvme connect -D, are nothing to each other.
func TestSecondAssociationOfAHost(t *testing.T) {
	s := newReturning(t)
	_, id := s.admin()
	other := s.ioq(id, 1)
	other.read(0, 1)
	s.disk.release()
	if c, _ := s.q.await(s.q.cid, nil); c.status != 0 {
		t.Errorf("the write of the first: status %03x", c.status)
	}
	s.a.ok(s.a.sqe(0x18, 0), nil)
	s.ends(s.q, 2)
	s.clean(t, 4)
}

// TestSingleAssociation: where a host has one association at most, the former
// one ends when it comes again, although the network has swallowed its end; what
// still comes by it is not carried out.
func TestSingleAssociation(t *testing.T) {
	s := newReturning(t)
	s.sub.SetSingleAssociation(true)
	w := s.comeBack("nothing closed")
	// A write that was held up in the network.
	c := s.q.rw(1, 0, 1)
	c[4] = byte(s.nsid)
	sglIn(c, 4096)
	_, _ = s.q.c.Write(s.q.capsulePDU(c, bytes.Repeat([]byte{3}, 4096)))
	s.ends(w, 2)
	if n := s.disk.seen.Load(); n != 3 {
		t.Errorf("the disk had %d requests: the two writes and the read were 3", n)
	}
	s.clean(t, 2)
	// Another host is nothing to it.
	_, id := s.admin(func(w *wire) { w.hostnqn = otherHost })
	s.ioq(id, 1, func(w *wire) { w.hostnqn = otherHost }).read(0, 1)
	s.ends(w, 4)
}

// TestSingleAssociationIsNobodyElses: a host that is not let in, or says what no
// Connect may, ends nobody's association.
func TestSingleAssociationIsNobodyElses(t *testing.T) {
	s := newReturning(t)
	s.sub.SetSingleAssociation(true)
	s.disk.release()
	if c, _ := s.q.await(s.q.cid, nil); c.status != 0 {
		t.Errorf("the write of before: status %03x", c.status)
	}
	w := s.dial()
	w.icreq()
	if c := w.connect(0, 7, testNQN); c.status == 0 {
		t.Fatal("a static controller id is taken")
	}
	s.a.ok(s.a.sqe(0x18, 0), nil)
	s.ends(s.q, 2)
}

// TestReturnThatTakesTooLong: a host that would have to wait for long is told to
// come again, and never not to.
func TestReturnThatTakesTooLong(t *testing.T) {
	s := newReturning(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.ReturnTime = 10 * time.Millisecond })
	_ = s.q.c.Close()
	_ = s.a.c.Close()
	for range 2 {
		w := s.dial()
		w.icreq()
		if c := w.connect(0, 0xffff, testNQN); c.status != uint16(nvme.ConnectControllerBusy) {
			t.Fatalf("status %04x; it must be busy, and to be retried", c.status)
		}
		_ = w.c.Close()
	}
	s.disk.release()
	waitFor(t, func() bool {
		s.sub.mu.Lock()
		defer s.sub.mu.Unlock()
		return len(s.sub.conns) == 0
	})
	_, id := s.admin()
	s.ends(s.ioq(id, 1), 2)
}

// stuck is a device that takes a request only when the test lets it: a reader
// that hands it one hangs.
type stuck struct {
	*gated
	pass chan struct{}
}

func (d *stuck) Submit(r *bdev.Request, b *bdev.Batch) {
	d.seen.Add(1)
	<-d.pass
	d.Device.Submit(r, b)
}

// TestReturnWithUnreadCommands: the reader of a broken connection is held up with
// a command; behind that lie more, and the end, unread. When the host has come
// back, the one is waited for, and none of the others is carried out.
func TestReturnWithUnreadCommands(t *testing.T) {
	r := newRig(t)
	r.malloc("m1", 256)
	m, _ := r.reg.Get("m1")
	d := &stuck{&gated{Device: m, name: "stuck", open: true}, make(chan struct{})}
	must(t, r.reg.Register(d))
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "stuck"})
	must(t, err)
	s := &returning{rig: r, disk: d.gated, nsid: nsid}
	s.a, s.cntlid = s.admin()
	s.q = s.ioq(s.cntlid, 1)
	s.send(s.q, 1)
	s.given(1)
	s.send(s.q, 3)
	s.send(s.q, 3)
	_ = s.q.c.Close() // the admin connection stays
	back := make(chan *wire, 1)
	go func() {
		_, id := s.admin()
		back <- s.ioq(id, 1)
	}()
	var w *wire
	select {
	case w = <-back:
		t.Error("the host is let in while its former write is at the disk")
		close(d.pass)
	case <-time.After(watched):
		close(d.pass)
		w = <-back
	}
	s.ends(w, 2)
	if n := d.seen.Load(); n != 3 {
		t.Errorf("the disk had %d requests: the two writes and the read were 3", n)
	}
}
