package nvmftgt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/module/malloc"
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
	// Reading and writing: the holder, another registrant, a stranger.
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

// TestReservationOfLinux: Linux asks for CPTPL 11b with every registration. The
// host is registered; that nothing is kept is what RESCAP, the report and the
// feature say.
func TestReservationOfLinux(t *testing.T) {
	r := newRig(t)
	a, id := r.admin()
	w := r.ioq(id, 1)
	if s := w.resv(0x0d, 3<<30, 0, 5); s != 0 {
		t.Fatalf("IOC_PR_REGISTER: %03x", s)
	}
	if s := w.resv(0x0d, 2|3<<30, 5, 6); s != 0 {
		t.Errorf("IOC_PR_REGISTER of another key: %03x", s)
	}
	if s := w.resv(0x11, 1<<8, 6, 0); s != 0 {
		t.Errorf("IOC_PR_RESERVE: %03x", s)
	}
	if s := w.resv(0x0d, 1<<30, 0, 6); s != 0x002 {
		t.Errorf("CPTPL 01b: %03x", s)
	}
	p := w.reportPage()
	if p[9] != 0 {
		t.Errorf("PTPLS %d", p[9])
	}
	s := a.sqe(10, 1)
	s[40] = 0x83
	if c, _ := a.do(s, nil); c.status != 0 || c.dw0 != 0 {
		t.Errorf("feature: %+v", c)
	}
	s = a.sqe(9, 1)
	s[40], s[44] = 0x83, 1
	if c, _ := a.do(s, nil); c.status != 0x410e {
		t.Errorf("feature set: %03x", c.status)
	}
}

func (w *wire) reportPage() []byte {
	w.t.Helper()
	s := w.sqe(0x0e, 1)
	le.PutUint32(s[40:], 1023)
	s[44] = 1
	sglOut(s, 4096)
	_, p := w.ok(s, nil)
	return p
}

// TestPreemptOwnKey: who only removes registrants and names its own key is
// removed; who takes the reservation over stays.
func TestPreemptOwnKey(t *testing.T) {
	type host struct {
		w   *wire
		key uint64
	}
	fresh := func() (a, b host) {
		r := newRig(t)
		hosts := make([]host, 2)
		for i := range hosts {
			set := func(w *wire) { w.hostid[0] = byte(100 + i) }
			_, id := r.admin(set)
			hosts[i] = host{r.ioq(id, 1, set), uint64(10 + i)}
			if s := hosts[i].w.resv(0x0d, 0, 0, hosts[i].key); s != 0 {
				t.Fatalf("register: %03x", s)
			}
		}
		return hosts[0], hosts[1]
	}
	preempt := func(h host, typ uint32, key uint64) uint16 { return h.w.resv(0x11, 1|typ<<8, h.key, key) }
	check := func(what string, h host, status, wantStatus uint16, wantType byte, wantHolders, wantRegs int) {
		t.Helper()
		if typ, _, holders, regs := h.w.report(); status != wantStatus || typ != wantType || holders != wantHolders || regs != wantRegs {
			t.Errorf("%s: status %03x, type %d, %d holders, %d registrants; want %03x, %d, %d, %d",
				what, status, typ, holders, regs, wantStatus, wantType, wantHolders, wantRegs)
		}
	}
	a, b := fresh()
	check("without a reservation", a, preempt(a, 1, a.key), 0, 0, 0, 1)
	check("its key is gone", a, a.w.resv(0x11, 1<<8, a.key, 0), 0x083, 0, 0, 1)
	a, b = fresh()
	b.w.resv(0x11, 1<<8, b.key, 0)
	check("beside another's reservation", a, preempt(a, 1, a.key), 0, 1, 1, 1)
	a, b = fresh()
	a.w.resv(0x11, 1<<8, a.key, 0)
	check("of its own reservation", a, preempt(a, 2, a.key), 0, 2, 1, 2)
	a, b = fresh()
	a.w.resv(0x11, 5<<8, a.key, 0)
	check("of all registrants, by its key", a, preempt(a, 5, a.key), 0, 5, 1, 1)
	check("the last of all registrants", b, preempt(b, 5, b.key), 0, 0, 0, 0)
	a, b = fresh()
	a.w.resv(0x11, 5<<8, a.key, 0)
	check("of all registrants", b, preempt(b, 6, 0), 0, 6, 1, 1)
	// Two hosts with one key: both go, also the one that asks.
	a, b = fresh()
	b.w.resv(0x0d, 2, b.key, a.key)
	check("of a key of two", a, preempt(a, 1, a.key), 0, 0, 0, 0)
}

// TestReservationGeneration: every Register that succeeds counts, and Clear, and
// preempting; nothing else.
func TestReservationGeneration(t *testing.T) {
	r := newRig(t)
	_, id := r.admin()
	w := r.ioq(id, 1)
	steps := []struct {
		op          byte
		cdw10       uint32
		key, newKey uint64
		status      uint16
		gen         uint32
	}{
		{0x0d, 0, 0, 5, 0, 1},        // register
		{0x0d, 0, 0, 5, 0, 2},        // the same again
		{0x0d, 0, 0, 6, 0x083, 2},    // another key
		{0x0d, 2, 5, 5, 0, 3},        // replaced by itself
		{0x11, 1 << 8, 5, 0, 0, 3},   // acquire
		{0x15, 1 << 8, 5, 0, 0, 3},   // release
		{0x11, 1 << 8, 5, 0, 0, 3},   // acquire
		{0x11, 1 | 1<<8, 5, 5, 0, 4}, // preempt
		{0x15, 1, 5, 0, 0, 5},        // clear
		{0x0d, 0, 0, 5, 0, 6},        // register
		{0x0d, 1, 5, 0, 0, 7},        // unregister
	}
	for i, s := range steps {
		status := w.resv(s.op, s.cdw10, s.key, s.newKey)
		if _, gen, _, _ := w.report(); status != s.status || gen != s.gen {
			t.Errorf("step %d: status %03x, generation %d; want %03x, %d", i, status, gen, s.status, s.gen)
		}
	}
}

// TestReportNamesLiveControllers: a registration outlives its host's controller,
// whose id is not shown any more, and is the host's again under another.
func TestReportNamesLiveControllers(t *testing.T) {
	r := newRig(t)
	_, watcher := r.admin(func(w *wire) { w.hostid[0] = 99 })
	x := r.ioq(watcher, 1, func(w *wire) { w.hostid[0] = 99 })
	cntlid := func() uint16 { return le.Uint16(x.reportPage()[64:]) }
	a, id := r.admin()
	if s := r.ioq(id, 1).resv(0x0d, 0, 0, 5); s != 0 {
		t.Fatalf("register: %03x", s)
	}
	if got := cntlid(); got != id {
		t.Errorf("controller %d, want %d", got, id)
	}
	_ = a.c.Close()
	waitFor(t, func() bool { return len(r.sub.Controllers()) == 1 })
	if got := cntlid(); got != 0xffff {
		t.Errorf("controller %d, want none", got)
	}
	_, id = r.admin()
	if got := cntlid(); got != id {
		t.Errorf("controller %d, want %d", got, id)
	}
	if s := r.ioq(id, 1).resv(0x11, 1<<8, 5, 0); s != 0 {
		t.Errorf("acquire through the new controller: %03x", s)
	}
}

// TestReservationNeedsAHostID: hosts with id 0 have no registration to share.
func TestReservationNeedsAHostID(t *testing.T) {
	r := newRig(t)
	for _, nqn := range []string{testHost, otherHost} {
		set := func(w *wire) { w.hostid, w.hostnqn = [16]byte{}, nqn }
		_, id := r.admin(set)
		w := r.ioq(id, 1, set)
		if s := w.resv(0x0d, 0, 0, 5); s != 0x027 {
			t.Errorf("register: %03x", s)
		}
		if !w.can(1) {
			t.Error("a host without an id cannot write")
		}
	}
}

// keepReservations: what a host asks to be kept is there in the next process,
// what it does not is not, and a file that cannot be trusted is refused.
func keepReservations(t *testing.T, _ *rig) {
	file := filepath.Join(t.TempDir(), "resv")
	id := newUUID()
	start := func() (*rig, error) {
		r := newRig(t)
		d, err := malloc.New(malloc.Config{Name: "d", BlockSize: 4096, Blocks: 256, UUID: id})
		must(t, err)
		must(t, r.reg.Register(d))
		must(t, r.sub.RemoveNamespace(1))
		_, err = r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "d", PTPLFile: file})
		return r, err
	}
	connect := func(r *rig, n byte) (*wire, *wire) {
		set := func(w *wire) { w.hostid[0] = n }
		a, id := r.admin(set)
		return a, r.ioq(id, 1, set)
	}
	r, err := start()
	must(t, err)
	a, w := connect(r, 1)
	if _, p := a.identify(0, 1); p[31] != 0xff {
		t.Errorf("RESCAP %x", p[31])
	}
	_, other := connect(r, 2)
	for i, x := range []*wire{w, other} {
		if s := x.resv(0x0d, 3<<30, 0, uint64(5+i)); s != 0 {
			t.Fatalf("register: %03x", s)
		}
	}
	if s := w.resv(0x11, 1<<8, 5, 0); s != 0 {
		t.Fatalf("acquire: %03x", s)
	}
	if p := w.reportPage(); p[9] != 1 {
		t.Errorf("PTPLS %d", p[9])
	}
	r.tgt.Close()

	r, err = start()
	must(t, err)
	_, other = connect(r, 2)
	_, w = connect(r, 1)
	typ, _, holders, regs := w.report()
	if typ != 1 || holders != 1 || regs != 2 || other.can(1) || !w.can(1) {
		t.Errorf("after a restart: type %d, %d holders, %d registrants", typ, holders, regs)
	}
	if s := w.resv(0x0d, 2|2<<30, 5, 7); s != 0 { // CPTPL 10b
		t.Errorf("not to be kept any more: %03x", s)
	}
	r.tgt.Close()

	r, err = start()
	must(t, err)
	a, w = connect(r, 1)
	if _, _, _, regs := w.report(); regs != 0 {
		t.Errorf("%d registrants that were not to be kept", regs)
	}
	s := a.sqe(9, 1)
	s[40], s[44] = 0x83, 1
	a.ok(s, nil)
	w.resv(0x0d, 0, 0, 9)
	r.tgt.Close()

	text, err := os.ReadFile(file)
	must(t, err)
	for name, bad := range map[string]string{
		"of another device": strings.Replace(string(text), id.String(), newUUID().String(), 1), "cut": string(text[:len(text)/2]),
		"of two equal hosts": strings.Replace(string(text), `"registrants":[`, `"registrants":[{"rkey":9,"host_uuid":"01020304-0506-0708-090a-0b0c0d0e0f10"},`, 1),
	} {
		must(t, os.WriteFile(file, []byte(bad), 0o600))
		if _, err := start(); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
