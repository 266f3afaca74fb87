package nvmftgt

import (
	"testing"
	"time"
)

// resvHost is a host with an admin and an I/O connection.
type resvHost struct {
	adm, io *wire
	key     uint64
}

func (r *rig) resvHost(n byte) *resvHost {
	set := func(w *wire) { w.hostid[0] = n }
	adm, id := r.admin(set)
	h := &resvHost{adm: adm, io: r.ioq(id, 1, set), key: uint64(n)}
	if s := h.io.resv(0x0d, 0, 0, h.key); s != 0 {
		r.t.Fatalf("register: %03x", s)
	}
	return h
}

// watch sends an event request and returns its id.
func (h *resvHost) watch() uint16 {
	h.adm.capsule(h.adm.sqe(12, 0), nil)
	return h.adm.cid
}

// notice is the reservation notification log: number, event, how many more
// wait, namespace.
type notice struct {
	count uint64
	event byte
	more  byte
	nsid  uint32
}

func (h *resvHost) notice(retain bool) notice {
	h.adm.t.Helper()
	c, p := h.adm.logPage(0x80, 0, 64, retain)
	if c.status != 0 {
		h.adm.t.Fatalf("reservation log: %03x", c.status)
	}
	return notice{le.Uint64(p), p[8], p[9], le.Uint32(p[12:])}
}

// told expects the event of a waiting request, then the notification.
func (h *resvHost) told(t *testing.T, cid uint16, want notice) {
	t.Helper()
	if c, _ := h.adm.await(cid, nil); c.status != 0 || c.dw0 != 0x800006 {
		t.Errorf("event %06x status %03x, want 800006", c.dw0, c.status)
	}
	if got := h.notice(true); got != want {
		t.Errorf("notification %+v, want %+v", got, want)
	}
	if got := h.notice(false); got != want {
		t.Errorf("notification after a read that retains it: %+v, want %+v", got, want)
	}
	if got := h.notice(false); got != (notice{}) {
		t.Errorf("notification %+v is there a second time", got)
	}
}

func TestReservationNotifications(t *testing.T) {
	t.Run("reservation released", func(t *testing.T) {
		for _, typ := range []uint32{1, 2, 3, 4, 5, 6} {
			r := newRig(t)
			a, b := r.resvHost(101), r.resvHost(102)
			if s := a.io.resv(0x11, typ<<8, a.key, 0); s != 0 {
				t.Fatalf("acquire: %03x", s)
			}
			waits := b.watch()
			if s := a.io.resv(0x15, typ<<8, a.key, 0); s != 0 {
				t.Fatalf("release: %03x", s)
			}
			if typ > 2 {
				b.told(t, waits, notice{1, 2, 0, 1})
			} else if got := b.notice(false); got != (notice{}) {
				t.Errorf("type %d: others were told %+v", typ, got)
			}
			if got := a.notice(false); got != (notice{}) {
				t.Errorf("who released was told %+v", got)
			}
		}
	})
	t.Run("by unregistering", func(t *testing.T) {
		r := newRig(t)
		a, b := r.resvHost(101), r.resvHost(102)
		a.io.resv(0x11, 4<<8, a.key, 0)
		waits := b.watch()
		if s := a.io.resv(0x0d, 1, a.key, 0); s != 0 {
			t.Fatalf("unregister: %03x", s)
		}
		b.told(t, waits, notice{1, 2, 0, 1})
	})
	t.Run("preempted", func(t *testing.T) {
		r := newRig(t)
		a, b, c := r.resvHost(101), r.resvHost(102), r.resvHost(103)
		a.io.resv(0x11, 3<<8, a.key, 0)
		wa, wc := a.watch(), c.watch()
		if s := b.io.resv(0x11, 1|1<<8, b.key, a.key); s != 0 {
			t.Fatalf("preempt: %03x", s)
		}
		a.told(t, wa, notice{1, 1, 0, 1}) // its registration is gone
		c.told(t, wc, notice{1, 2, 0, 1}) // the type has changed
		if got := b.notice(false); got != (notice{}) {
			t.Errorf("who preempted was told %+v", got)
		}
	})
	t.Run("cleared", func(t *testing.T) {
		r := newRig(t)
		a, b := r.resvHost(101), r.resvHost(102)
		waits := a.watch()
		if s := b.io.resv(0x15, 1, b.key, 0); s != 0 {
			t.Fatalf("clear: %03x", s)
		}
		a.told(t, waits, notice{1, 3, 0, 1})
	})
	t.Run("several", func(t *testing.T) {
		r := newRig(t)
		a, b := r.resvHost(101), r.resvHost(102)
		first := b.watch()
		second := b.watch()
		for range 300 {
			a.io.resv(0x11, 3<<8, a.key, 0)
			a.io.resv(0x15, 3<<8, a.key, 0)
		}
		if c, _ := b.adm.await(first, nil); c.dw0 != 0x800006 {
			t.Errorf("event %06x", c.dw0)
		}
		if got := b.notice(true); got != (notice{1, 2, 255, 1}) {
			t.Errorf("the first of 300: %+v", got)
		}
		// The event is masked until the log is read; then the next comes.
		ev, p := b.adm.logPageLater(0x80, second)
		if ev.dw0 != 0x800006 || le.Uint64(p) != 1 {
			t.Errorf("event %06x, notification %d", ev.dw0, le.Uint64(p))
		}
		for n := uint64(2); n <= maxNotices; n++ {
			if got := b.notice(false); got.count != n {
				t.Fatalf("notification %d where %d was due", got.count, n)
			}
		}
		if got := b.notice(false); got != (notice{}) {
			t.Errorf("%+v is one too many", got)
		}
	})
}

func TestReservationNotificationMask(t *testing.T) {
	r := newRig(t)
	a, b := r.resvHost(101), r.resvHost(102)
	mask := func(nsid, v uint32, want uint16) {
		t.Helper()
		s := b.adm.sqe(9, nsid)
		s[40] = 0x82
		le.PutUint32(s[44:], v)
		if c, _ := b.adm.do(s, nil); c.status != want {
			t.Errorf("mask of namespace %x: %03x, want %03x", nsid, c.status, want)
		}
	}
	get := func(fid byte, nsid uint32) (uint32, uint16) {
		s := b.adm.sqe(10, nsid)
		s[40] = fid
		c, _ := b.adm.do(s, nil)
		return c.dw0, c.status
	}
	cycle := func() {
		a.io.resv(0x11, 3<<8, a.key, 0)
		a.io.resv(0x15, 3<<8, a.key, 0)
	}
	mask(1, 1<<2, 0)
	if v, s := get(0x82, 1); v != 1<<2 || s != 0 {
		t.Errorf("mask %x, status %03x", v, s)
	}
	if _, s := get(0x82, 0xffffffff); s != 0x4002 {
		t.Errorf("mask of all namespaces: %03x", s)
	}
	cycle()
	if got := b.notice(false); got != (notice{}) {
		t.Errorf("masked, and told %+v", got)
	}
	mask(0xffffffff, 0, 0)
	cycle()
	if got := b.notice(false); got.event != 2 {
		t.Errorf("unmasked: %+v", got)
	}
	mask(0xffffffff, 0xe, 0)
	if v, _ := get(0x82, 1); v != 0xe {
		t.Errorf("mask after one for all: %x", v)
	}
	mask(77, 0, 0x400b)
	if v, s := get(0x83, 1); v != 0 || s != 0 {
		t.Errorf("persistence %x, status %03x", v, s)
	}
	s := b.adm.sqe(9, 1) // kept over power loss: this target cannot
	s[40], s[44] = 0x83, 1
	if c, _ := b.adm.do(s, nil); c.status&0x7ff != 0x10e {
		t.Errorf("persistence switched on: %03x", c.status)
	}
	if _, p := b.adm.logPage(0, 0, 1024, false); p[4*0x80] != 1 {
		t.Error("the supported log pages lack that of reservations")
	}
}

// TestReservationNoticeOfGoneHost: a notification to a host whose connection
// ends at the same time harms nobody.
func TestReservationNoticeOfGoneHost(t *testing.T) {
	r := newRig(t)
	a := r.resvHost(101)
	for i := range byte(20) {
		b := r.resvHost(110 + i)
		b.watch()
		done := make(chan struct{})
		go func() { _ = b.adm.c.Close(); close(done) }()
		if s := a.io.resv(0x11, 1|3<<8, a.key, b.key); s != 0 {
			t.Fatalf("preempt: %03x", s)
		}
		<-done
	}
	waitFor(t, func() bool { return len(r.sub.Controllers()) == 1 })
	_ = a.io.c.SetDeadline(time.Now().Add(2 * time.Minute))
	if !a.io.can(1) {
		t.Error("the holder cannot write")
	}
}
