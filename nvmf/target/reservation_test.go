package target

import (
	"testing"
	"time"
)

// resv sends a reservation command and returns its status.
func (w *wire) resv(op byte, cdw10 uint32, key, newKey uint64) uint16 {
	w.t.Helper()
	s := w.sqe(op, 1)
	le.PutUint32(s[40:], cdw10)
	d := make([]byte, 16)
	le.PutUint64(d, key)
	le.PutUint64(d[8:], newKey)
	if op == 0x15 {
		d = d[:8]
	}
	c, _ := w.do(s, d)
	return c.status &^ 0x4000
}

func (w *wire) report() (typ byte, gen uint32, holders, regs int) {
	w.t.Helper()
	s := w.sqe(0x0e, 1)
	le.PutUint32(s[40:], 1023)
	s[44] = 1
	sglOut(s, 4096)
	_, p := w.ok(s, nil)
	regs = int(le.Uint16(p[5:]))
	for i := range regs {
		holders += int(p[64+64*i+2] & 1)
	}
	return p[4], le.Uint32(p), holders, regs
}

func (w *wire) can(op byte) bool {
	w.t.Helper()
	s := w.rw(op, 0, 1)
	var d []byte
	if op == 1 {
		d = make([]byte, 4096)
	} else {
		sglOut(s, 4096)
	}
	c, _ := w.do(s, d)
	if c.status != 0 && c.status != 0x4083 {
		w.t.Fatalf("opcode %x: %03x", op, c.status)
	}
	return c.status == 0
}

func TestReservationTypes(t *testing.T) {
	// Who may read and write: the holder, another registrant, a stranger.
	cases := []struct {
		typ                                 uint32
		regRead, regWrite, othRead, othWrit bool
	}{
		{1, true, false, true, false},
		{2, false, false, false, false},
		{3, true, true, true, false},
		{4, true, true, false, false},
		{5, true, true, true, false},
		{6, true, true, false, false},
	}
	for _, c := range cases {
		r := newRig(t)
		hosts := make([]*wire, 3)
		for i := range hosts {
			set := func(w *wire) { w.hostid[0] = byte(100 + i) }
			_, id := r.admin(set)
			hosts[i] = r.ioq(id, 1, set)
		}
		a, b, x := hosts[0], hosts[1], hosts[2]
		if s := a.resv(0x11, c.typ<<8, 1, 0); s != 0x083 {
			t.Errorf("acquire without registration: %03x", s)
		}
		for i, w := range []*wire{a, b} {
			if s := w.resv(0x0d, 0, 0, uint64(10+i)); s != 0 {
				t.Fatalf("register: %03x", s)
			}
		}
		if s := a.resv(0x0d, 0, 0, 99); s != 0x083 {
			t.Errorf("second registration with another key: %03x", s)
		}
		if s := a.resv(0x11, c.typ<<8, 99, 0); s != 0x083 {
			t.Errorf("acquire with a wrong key: %03x", s)
		}
		if s := a.resv(0x11, c.typ<<8, 10, 0); s != 0 {
			t.Fatalf("acquire: %03x", s)
		}
		if s := b.resv(0x11, 1<<8, 11, 0); s != 0x083 {
			t.Errorf("second acquire: %03x", s)
		}
		got := []bool{a.can(2), a.can(1), b.can(2), b.can(1), x.can(2), x.can(1)}
		want := []bool{true, true, c.regRead, c.regWrite, c.othRead, c.othWrit}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("type %d: access %v, want %v", c.typ, got, want)
				break
			}
		}
		typ, _, holders, regs := x.report()
		wantHolders := 1
		if c.typ >= 5 {
			wantHolders = 2
		}
		if typ != byte(c.typ) || holders != wantHolders || regs != 2 {
			t.Errorf("type %d: report says type %d, %d holders, %d registrants", c.typ, typ, holders, regs)
		}
		if c.typ < 5 {
			if s := b.resv(0x15, c.typ<<8, 11, 0); s != 0 {
				t.Errorf("release by another registrant: %03x", s)
			}
			if !a.can(1) || x.can(1) {
				t.Error("it released the reservation")
			}
		}
		if s := a.resv(0x15, (c.typ%6+1)<<8, 10, 0); s != 0x002 {
			t.Errorf("release of another type: %03x", s)
		}
		if s := a.resv(0x15, c.typ<<8, 10, 0); s != 0 {
			t.Errorf("release: %03x", s)
		}
		if !x.can(1) || !x.can(2) {
			t.Error("still reserved after release")
		}
		if s := b.resv(0x15, 1, 11, 0); s != 0 { // clear
			t.Errorf("clear: %03x", s)
		}
		if _, _, _, regs := x.report(); regs != 0 {
			t.Errorf("%d registrants after clear", regs)
		}
	}
}

func TestReservationPreempt(t *testing.T) {
	r := newRig(t)
	hosts := make([]*wire, 3)
	for i := range hosts {
		set := func(w *wire) { w.hostid[0] = byte(100 + i) }
		_, id := r.admin(set)
		hosts[i] = r.ioq(id, 1, set)
		if s := hosts[i].resv(0x0d, 0, 0, uint64(10+i)); s != 0 {
			t.Fatalf("register: %03x", s)
		}
	}
	a, b, c := hosts[0], hosts[1], hosts[2]
	a.resv(0x11, 1<<8, 10, 0)
	if s := b.resv(0x11, 1|1<<8, 11, 77); s != 0x083 {
		t.Errorf("preempt of an unknown key: %03x", s)
	}
	if s := b.resv(0x11, 1|2<<8, 11, 12); s != 0 { // another registrant only
		t.Errorf("preempt of a registrant: %03x", s)
	}
	if typ, _, _, regs := a.report(); typ != 1 || regs != 2 || !a.can(1) {
		t.Errorf("type %d, %d registrants", typ, regs)
	}
	if s := c.resv(0x11, 1|2<<8, 12, 10); s != 0x083 {
		t.Errorf("preempt by a preempted host: %03x", s)
	}
	if s := b.resv(0x11, 2|2<<8, 11, 10); s != 0 { // the holder, and abort
		t.Errorf("preempt and abort of the holder: %03x", s)
	}
	if typ, _, holders, regs := b.report(); typ != 2 || holders != 1 || regs != 1 || !b.can(1) || a.can(2) {
		t.Errorf("type %d, %d holders, %d registrants", typ, holders, regs)
	}
	if s := b.resv(0x0d, 1, 11, 0); s != 0 { // unregister
		t.Errorf("unregister: %03x", s)
	}
	if !a.can(1) {
		t.Error("the reservation outlived its holder's registration")
	}
	if s := a.resv(0x0d, 2|1<<3, 0, 50); s != 0 { // replace, ignoring the key
		t.Errorf("replace: %03x", s)
	}
	if s := a.resv(0x11, 7, 50, 0); s != 0x002 {
		t.Errorf("unknown action: %03x", s)
	}
	if s := a.resv(0x11, 9<<8, 50, 0); s != 0x002 {
		t.Errorf("unknown type: %03x", s)
	}
}

// TestPreemptAndAbortWaits: what the preempted host has under way is done
// before the command is.
func TestPreemptAndAbortWaits(t *testing.T) {
	r := newRig(t)
	must(t, r.sub.RemoveNamespace(1))
	r.malloc("m1", 256)
	g := r.gated("g", "m1")
	_, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "g", NSID: 1})
	must(t, err)
	ws := make([]*wire, 2)
	for i := range ws {
		set := func(w *wire) { w.hostid[0] = byte(100 + i) }
		_, id := r.admin(set)
		ws[i] = r.ioq(id, 1, set)
		ws[i].resv(0x0d, 0, 0, uint64(10+i))
	}
	a, b := ws[0], ws[1]
	a.resv(0x11, 1<<8, 10, 0)
	s := a.rw(1, 0, 1)
	sglIn(s, 4096)
	a.capsule(s, make([]byte, 4096))
	waitFor(t, func() bool { return g.seen.Load() == 1 })
	done := make(chan uint16, 1)
	go func() { done <- b.resv(0x11, 2|1<<8, 11, 10) }()
	select {
	case <-done:
		t.Fatal("done with a write of the preempted host under way")
	case <-time.After(50 * time.Millisecond):
	}
	g.release()
	if s := <-done; s != 0 {
		t.Errorf("preempt and abort: %03x", s)
	}
	if c, _ := a.await(le.Uint16(s[2:]), nil); c.status != 0 {
		t.Errorf("the write: %03x", c.status)
	}
	if a.can(1) {
		t.Error("the preempted host can write")
	}
}

// TestNoReservationsWhenShared: a subsystem that other targets serve too does
// not promise what it cannot keep.
func TestNoReservationsWhenShared(t *testing.T) {
	r := newRig(t, func(_ *Config, _ *TransportOpts, s *SubsystemConfig) { s.MinCntlid, s.MaxCntlid = 1001, 2000 })
	a, id := r.admin()
	if id < 1001 || id > 2000 {
		t.Errorf("controller id %d", id)
	}
	if _, p := a.identify(1, 0); le.Uint16(p[520:])>>5&1 != 0 {
		t.Error("ONCS tells of reservations")
	}
	if _, p := a.identify(0, 1); p[31] != 0 {
		t.Errorf("RESCAP %x", p[31])
	}
	if s := r.ioq(id, 1).resv(0x0d, 0, 0, 1); s != 0x001 {
		t.Errorf("register: %03x", s)
	}
}
