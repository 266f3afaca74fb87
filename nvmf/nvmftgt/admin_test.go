package nvmftgt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var le = binary.LittleEndian

func (w *wire) identify(cns uint8, nsid uint32) (cqe, []byte) {
	w.t.Helper()
	s := w.sqe(6, nsid)
	s[40] = cns
	sglOut(s, 4096)
	return w.do(s, nil)
}

func (w *wire) logPage(lid uint8, off uint64, n int, rae bool) (cqe, []byte) {
	w.t.Helper()
	s := w.sqe(2, 0xffffffff)
	s[40] = lid
	if rae {
		s[41] |= 0x80
	}
	le.PutUint16(s[42:], uint16(n/4-1))
	le.PutUint16(s[44:], uint16((n/4-1)>>16))
	le.PutUint64(s[48:], off)
	sglOut(s, n)
	return w.do(s, nil)
}

func (w *wire) setFeature(fid uint8, v uint32) cqe {
	w.t.Helper()
	s := w.sqe(9, 0)
	s[40] = fid
	le.PutUint32(s[44:], v)
	c, _ := w.do(s, nil)
	return c
}

func (w *wire) getFeature(fid, sel uint8) cqe {
	w.t.Helper()
	s := w.sqe(10, 0)
	s[40], s[41] = fid, sel
	c, _ := w.do(s, nil)
	return c
}

// TestLinuxConnects walks through what Linux 6.12 asks of a new controller
// and checks each answer as its driver does.
func TestLinuxConnects(t *testing.T) {
	r := newRig(t)
	w := r.dial()
	w.keep = 5000
	w.icreq()
	c := w.connect(0, 0xffff, testNQN)
	if c.status != 0 || c.dw0 == 0 {
		t.Fatalf("connect: %+v", c)
	}
	id := uint16(c.dw0)
	capr := w.propGet(0, true)
	cv := uint64(capr.dw1)<<32 | uint64(capr.dw0)
	if mqes := cv & 0xffff; mqes != 127 {
		t.Errorf("MQES %d", mqes)
	}
	if cv>>37&1 != 1 || cv>>16&1 != 1 {
		t.Errorf("CAP %x", cv)
	}
	if v := w.propGet(8, false); v.dw0 != 0x20000 {
		t.Errorf("VS %x", v.dw0)
	}
	if v := w.propGet(0x1c, false); v.dw0 != 0 {
		t.Errorf("CSTS before enable %x", v.dw0)
	}
	if c, _ := w.identify(1, 0); c.status&0x7ff != 0x00c {
		t.Errorf("identify before enable: %03x", c.status)
	}
	w.propSet(0x14, 0x00460001)
	if v := w.propGet(0x1c, false); v.dw0 != 1 {
		t.Errorf("CSTS %x", v.dw0)
	}
	_, d := w.identify(1, 0)
	if le.Uint16(d[78:]) != id {
		t.Error("CNTLID differs from Connect's")
	}
	if got := strings.TrimRight(string(d[4:24]), " "); got != "SER1" {
		t.Errorf("serial %q", got)
	}
	if got := strings.TrimRight(string(d[24:64]), " "); got != "VDA_CONTROLLER" {
		t.Errorf("model %q", got)
	}
	checks := []struct {
		name      string
		got, want uint64
	}{
		{"CMIC", uint64(d[76]), 0x0b},
		{"MDTS", uint64(d[77]), 5},
		{"VER", uint64(le.Uint32(d[80:])), 0x20000},
		{"OAES", uint64(le.Uint32(d[92:])), 1<<8 | 1<<11},
		{"CNTRLTYPE", uint64(d[111]), 1},
		{"LPA", uint64(d[261]), 0x26},
		{"KAS", uint64(le.Uint16(d[320:])), 10},
		{"ANACAP", uint64(d[343]), 7},
		{"ANAGRPMAX", uint64(le.Uint32(d[344:])), 32},
		{"NANAGRPID", uint64(le.Uint32(d[348:])), 32},
		{"SQES", uint64(d[512]), 0x66},
		{"CQES", uint64(d[513]), 0x44},
		{"MAXCMD", uint64(le.Uint16(d[514:])), 128},
		{"NN", uint64(le.Uint32(d[516:])), 32},
		{"MNAN", uint64(le.Uint32(d[540:])), 32},
		{"VWC", uint64(d[525] & 1), 1},
		{"SGLS", uint64(le.Uint32(d[536:])), 1 | 1<<20 | 1<<21},
		{"IOCCSZ", uint64(le.Uint32(d[1792:])), (64 + 8192) / 16},
		{"IORCSZ", uint64(le.Uint32(d[1796:])), 1},
		{"ICDOFF", uint64(le.Uint16(d[1800:])), 0},
	}
	for _, k := range checks {
		if k.got != k.want {
			t.Errorf("%s is 0x%x, want 0x%x", k.name, k.got, k.want)
		}
	}
	if got := string(bytes.TrimRight(d[768:1024], "\x00")); got != testNQN {
		t.Errorf("SUBNQN %q", got)
	}
	if c := w.setFeature(7, 3|3<<16); c.status != 0 || c.dw0 != 3|3<<16 {
		t.Errorf("queues: %+v", c)
	}
	if c := w.setFeature(0xb, 1<<8|1<<11); c.status != 0 {
		t.Errorf("async events: %+v", c)
	}
	if c, p := w.logPage(5, 0, 4096, false); c.status != 0 || le.Uint32(p[4*6:]) == 0 || le.Uint32(p[1024+4*1:]) != 3|1<<20 {
		t.Errorf("effects log: %+v", c)
	}
	_, p := w.identify(2, 0)
	if le.Uint32(p) != 1 || le.Uint32(p[4:]) != 0 {
		t.Errorf("active list % x", p[:8])
	}
	n := r.sub.Namespaces()[0]
	_, p = w.identify(3, 1)
	want := append([]byte{2, 16, 0, 0}, n.NGUID[:]...)
	want = append(append(want, 3, 16, 0, 0), n.UUID[:]...)
	want = append(want, 4, 1, 0, 0, 0)
	if !bytes.Equal(p[:len(want)], want) {
		t.Errorf("descriptors % x", p[:48])
	}
	_, p = w.identify(0, 1)
	if le.Uint64(p) != 4096 || le.Uint64(p[8:]) != 4096 || p[26] != 0 || p[30] != 1 || le.Uint32(p[92:]) != 1 || p[128+2] != 12 ||
		!bytes.Equal(p[104:120], n.NGUID[:]) {
		t.Errorf("namespace % x", p[:132])
	}
	if _, p = w.identify(8, 1); p[1] != 1 || le.Uint32(p[4:]) != 1 || p[14] != 1 {
		t.Errorf("independent data % x", p[:16])
	}
	if c, _ := w.identify(6, 0); c.status != 0 {
		t.Errorf("CNS 6: %03x", c.status)
	}
	if c, _ := w.identify(8, 2); c.status != 0xb {
		t.Errorf("CNS 8 of an inactive namespace: %03x", c.status)
	}
	if _, p = w.identify(0, 2); !bytes.Equal(p, make([]byte, 4096)) {
		t.Error("inactive namespace is not all zeros")
	}
	_, p = w.logPage(0x0c, 0, 16+32+4, false)
	if le.Uint16(p[8:]) != 1 || le.Uint32(p[16:]) != 1 || le.Uint32(p[20:]) != 1 || p[32] != 1 || le.Uint32(p[48:]) != 1 {
		t.Errorf("ANA log % x", p)
	}
	for q := uint16(1); q <= 4; q++ {
		r.ioq(id, q).read(0, 1)
	}
	if got := len(r.sub.Qpairs()); got != 5 {
		t.Errorf("%d queue pairs", got)
	}
	if c := w.propSet(0x14, 0x00464001); c.status != 0 { // shutdown
		t.Errorf("shutdown: %03x", c.status)
	}
	if v := w.propGet(0x1c, false); v.dw0>>2&3 != 2 {
		t.Errorf("CSTS after shutdown %x", v.dw0)
	}
}

func TestConnectRefused(t *testing.T) {
	r := newRig(t, func(_ *Config, _ *TransportOpts, s *SubsystemConfig) {
		s.AllowAnyHost = false
		s.MinCntlid, s.MaxCntlid = 10, 11
	})
	must(t, r.sub.AddHost(testHost))
	try := func(f func(w *wire) ([]byte, []byte)) cqe {
		w := r.dial()
		w.icreq()
		s, d := f(w)
		c, _ := w.do(s, d)
		return c
	}
	cases := []struct {
		name string
		want uint16
		dw0  uint32
		f    func(w *wire) ([]byte, []byte)
	}{
		{"unknown subsystem", 0x182, 1<<16 | 256, func(w *wire) ([]byte, []byte) { return w.connectSQE(0, 0xffff, 31, "nqn.x") }},
		{"empty subsystem", 0x4182, 1<<16 | 256, func(w *wire) ([]byte, []byte) { return w.connectSQE(0, 0xffff, 31, "") }},
		{"unknown host", 0x184, 0, func(w *wire) ([]byte, []byte) {
			w.hostnqn = otherHost
			return w.connectSQE(0, 0xffff, 31, testNQN)
		}},
		{"empty host", 0x184, 0, func(w *wire) ([]byte, []byte) { w.hostnqn = ""; return w.connectSQE(0, 0xffff, 31, testNQN) }},
		{"static controller", 0x4182, 1<<16 | 16, func(w *wire) ([]byte, []byte) { return w.connectSQE(0, 3, 31, testNQN) }},
		{"queue of one", 0x4182, 44, func(w *wire) ([]byte, []byte) { return w.connectSQE(0, 0xffff, 0, testNQN) }},
		{"queue too deep", 0x182, 44, func(w *wire) ([]byte, []byte) { return w.connectSQE(0, 0xffff, 200, testNQN) }},
		{"record format", 0x4180, 0, func(w *wire) ([]byte, []byte) {
			s, d := w.connectSQE(0, 0xffff, 31, testNQN)
			s[40] = 1
			return s, d
		}},
		{"short data", 0x400f, 0, func(w *wire) ([]byte, []byte) {
			s, d := w.connectSQE(0, 0xffff, 31, testNQN)
			return s, d[:512]
		}},
		{"no controller", 0x182, 1<<16 | 16, func(w *wire) ([]byte, []byte) { return w.connectSQE(1, 10, 31, testNQN) }},
		{"command before Connect", 0x400c, 0, func(w *wire) ([]byte, []byte) { return w.sqe(6, 0), nil }},
		{"property before Connect", 0x400c, 0, func(w *wire) ([]byte, []byte) { return w.sqe(0x7f, 4), nil }},
	}
	for _, c := range cases {
		if got := try(c.f); got.status != c.want || got.dw0 != c.dw0 {
			t.Errorf("%s: status %04x dw0 %x, want %04x %x", c.name, got.status, got.dw0, c.want, c.dw0)
		}
	}
	a, id := r.admin()
	if id != 10 {
		t.Errorf("controller id %d", id)
	}
	r.admin()
	w := r.dial()
	w.icreq()
	if c := w.connect(0, 0xffff, testNQN); c.status != 0x181 {
		t.Errorf("third controller of two: %04x", c.status)
	}
	r.ioq(id, 1)
	for name, q := range map[string]struct {
		qid    uint16
		f      func(*wire)
		status uint16
	}{
		"queue in use":  {1, func(*wire) {}, 0x101},
		"queue 1000":    {1000, func(*wire) {}, 0x4101},
		"other host id": {2, func(w *wire) { w.hostid[0] = 99 }, 0x182},
	} {
		w := r.dial()
		q.f(w)
		w.icreq()
		if c := w.connect(q.qid, id, testNQN); c.status != q.status {
			t.Errorf("%s: %04x", name, c.status)
		}
	}
	_ = a
}

// TestKeepAlive: any traffic keeps a controller, and without some it ends, with
// its I/O queues, not before its time. That it ended too early shows in the
// time from the last command that the target can have got to the end as the
// host saw it, which is never shorter than the keep alive time of a right
// target. A machine that kept this test waiting for longer proves nothing, and
// it begins again with a longer time.
func TestKeepAlive(t *testing.T) {
	r := newRig(t, func(_ *Config, o *TransportOpts, _ *SubsystemConfig) { o.KAS = 1 })
	for kato := 300 * time.Millisecond; !r.keepsAlive(kato); kato *= 2 {
		t.Logf("the machine did not let the host send a command in %v", kato)
	}
}

// keepsAlive is TestKeepAlive with one keep alive time. False: this process was
// not let run for that long.
func (r *rig) keepsAlive(kato time.Duration) bool {
	t := r.t
	patient := func(w *wire) { _ = w.c.SetDeadline(time.Now().Add(time.Minute + 8*kato)) }
	a, id := r.admin(patient, func(w *wire) { w.keep = uint32(kato.Milliseconds()) })
	last := time.Now() // before the last command that surely has been received
	ended := func(where string, err error) bool {
		if idle := time.Since(last); idle < kato || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: %v, %v after a command; the keep alive time is %v", where, err, idle, kato)
		}
		return false
	}
	q := r.dial()
	patient(q)
	q.icreq()
	s, d := q.connectSQE(1, id, 31, testNQN)
	sglIn(s, len(d))
	q.capsule(s, d)
	c, _, err := q.tryAwait(q.cid, nil)
	if err != nil || c.status != 0 {
		return ended("connect of the I/O queue", fmt.Errorf("status %03x, %v", c.status, err))
	}
	for begun := time.Now(); time.Since(begun) < 2*kato; time.Sleep(kato / 6) { // traffic of the I/O queue alone
		now := time.Now()
		s := q.rw(2, 0, 1)
		sglOut(s, 4096)
		if _, err := q.c.Write(q.capsulePDU(s, nil)); err != nil {
			return ended("write", err)
		}
		if _, _, err := q.tryAwait(q.cid, nil); err != nil {
			return ended("read", err)
		}
		last = now
	}
	now := time.Now()
	if _, err := a.c.Write(a.capsulePDU(a.sqe(0x18, 0), nil)); err != nil {
		return ended("keep alive", err)
	}
	if _, _, err := a.tryAwait(a.cid, nil); err != nil {
		return ended("keep alive", err)
	}
	last = now
	p, err := a.pdu()
	if err == nil {
		t.Fatalf("a PDU of type %d came instead of the end", p.typ)
	}
	ended("the end", err)
	if _, err := q.pdu(); err == nil {
		t.Error("the I/O queue is still there")
	}
	waitFor(t, func() bool { return len(r.sub.Controllers()) == 0 })
	return true
}

func waitFor(t testing.TB, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen in two minutes")
		}
	}
}

func TestEvents(t *testing.T) {
	r := newRig(t)
	a, _ := r.admin()
	a.setFeature(0xb, 1<<8|1<<11)
	var cids []uint16
	for range 5 {
		a.capsule(a.sqe(12, 0), nil)
		cids = append(cids, a.cid)
	}
	if c, _ := a.await(cids[4], nil); c.status&0x7ff != 0x105 {
		t.Errorf("fifth event request: %03x", c.status)
	}
	r.malloc("m1", 256)
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "m1"})
	must(t, err)
	if c, _ := a.await(cids[0], nil); c.dw0 != 0x040002 {
		t.Errorf("namespace event %06x", c.dw0)
	}
	must(t, r.sub.RemoveNamespace(nsid)) // masked until the log is read
	must(t, r.sub.SetANAState(r.addr, 1, ANANonOptimized))
	if c, _ := a.await(cids[1], nil); c.dw0 != 0x0c0302 {
		t.Errorf("ANA event %06x", c.dw0)
	}
	if _, p := a.logPageLater(4, cids[2]); le.Uint32(p) != 2 || le.Uint32(p[4:]) != 0 {
		t.Errorf("changed namespaces % x", p[:8])
	}
	if _, p := a.logPage(4, 0, 4096, false); le.Uint32(p) != 0 {
		t.Error("the list was not cleared")
	}
	_, p := a.logPage(0x0c, 0, 64, false)
	if p[32] != 2 {
		t.Errorf("ANA state %d", p[32])
	}
	s := a.sqe(8, 0) // abort the last request
	le.PutUint32(s[40:], uint32(cids[3])<<16)
	a.capsule(s, nil)
	if c, _ := a.await(cids[3], nil); c.status&0x7ff != 7 {
		t.Errorf("aborted event request: %03x", c.status)
	}
	if c, _ := a.await(a.cid, nil); c.dw0 != 0 {
		t.Errorf("abort: %x", c.dw0)
	}
}

// logPageLater reads a log page whose reading lets the pending event through,
// which may be completed before or after.
func (w *wire) logPageLater(lid uint8, event uint16) (cqe, []byte) {
	s := w.sqe(2, 0xffffffff)
	s[40] = lid
	le.PutUint16(s[42:], 1023)
	sglOut(s, 4096)
	w.capsule(s, nil)
	var page []byte
	var ev cqe
	for page == nil || ev.cid == 0 {
		p, err := w.pdu()
		must(w.t, err)
		if p.typ == 7 {
			page = p.data
		} else if ev = parseCQE(p.hdr[8:]); ev.cid != event {
			w.t.Fatalf("completion of %d", ev.cid)
		}
	}
	return ev, page
}

func TestFeatures(t *testing.T) {
	r := newRig(t)
	a, id := r.admin()
	if c := a.getFeature(6, 0); c.dw0 != 1 {
		t.Errorf("write cache %x", c.dw0)
	}
	a.setFeature(6, 0)
	if c := a.getFeature(6, 0); c.dw0 != 0 {
		t.Errorf("write cache after switching off %x", c.dw0)
	}
	if c := a.getFeature(6, 1); c.dw0 != 1 {
		t.Errorf("default write cache %x", c.dw0)
	}
	if c := a.getFeature(0x7d, 0); c.status&0x7ff != 2 {
		t.Errorf("unknown feature: %03x", c.status)
	}
	s := a.sqe(10, 0)
	s[40], s[44] = 0x81, 1
	sglOut(s, 16)
	if _, p := a.do(s, nil); !bytes.Equal(p, testHostID[:]) {
		t.Errorf("host id % x", p)
	}
	r.ioq(id, 1)
	if c := a.setFeature(7, 0); c.status&0x7ff != 0xc {
		t.Errorf("queues after the first I/O queue: %03x", c.status)
	}
	// By R2T, as Linux does for 512 bytes outside the capsule.
	behavior := pattern(512, 9)
	s = a.sqe(9, 0)
	s[40] = 0x16
	sglOut(s, 512)
	a.capsule(s, nil)
	if c, _ := a.await(a.cid, behavior); c.status != 0 {
		t.Errorf("host behavior: %03x", c.status)
	}
	s = a.sqe(10, 0)
	s[40] = 0x16
	sglOut(s, 512)
	if _, p := a.do(s, nil); !bytes.Equal(p, behavior) {
		t.Error("host behavior differs")
	}
	if _, p := a.logPage(1, 0, 64, false); le.Uint64(p) != 2 {
		t.Errorf("error log count %d", le.Uint64(p))
	}
	for _, lid := range []uint8{0, 1, 2, 3, 4, 5, 0xc} {
		if c, _ := a.logPage(lid, 0, 512, true); c.status != 0 {
			t.Errorf("log %x: %03x", lid, c.status)
		}
	}
	if c, _ := a.logPage(0x55, 0, 512, true); c.status&0x7ff != 0x109 {
		t.Errorf("unknown log: %03x", c.status)
	}
}

func TestDiscovery(t *testing.T) {
	r := newRig(t, func(_ *Config, _ *TransportOpts, s *SubsystemConfig) { s.AllowAnyHost = false })
	must(t, r.sub.AddHost(testHost))
	connect := func(host string) *wire {
		w := r.dial()
		w.hostnqn = host
		w.keep = 30000
		w.icreq()
		if c := w.connect(0, 0xffff, "nqn.2014-08.org.nvmexpress.discovery"); c.status != 0 {
			t.Fatalf("connect: %03x", c.status)
		}
		w.propSet(0x14, 0x00460001)
		return w
	}
	w := connect(testHost)
	_, d := w.identify(1, 0)
	if d[111] != 2 || le.Uint32(d[92:]) != 1<<31 {
		t.Errorf("CNTRLTYPE %d OAES %x", d[111], le.Uint32(d[92:]))
	}
	if c := w.setFeature(0xb, 1<<31); c.status != 0 {
		t.Errorf("async events: %03x", c.status)
	}
	_, p := w.logPage(0x70, 0, 1024, true)
	gen := le.Uint64(p)
	if le.Uint64(p[8:]) != 1 {
		t.Fatalf("%d entries", le.Uint64(p[8:]))
	}
	_, p = w.logPage(0x70, 1024, 1024, false)
	if p[0] != 3 || p[1] != 1 || p[2] != 2 || le.Uint16(p[6:]) != 0xffff || strings.TrimRight(string(p[32:64]), " ") != r.addr.Trsvcid ||
		string(bytes.TrimRight(p[256:512], "\x00")) != testNQN || strings.TrimRight(string(p[512:768]), " \x00") != "127.0.0.1" {
		t.Errorf("entry % x", p[:64])
	}
	w.capsule(w.sqe(12, 0), nil)
	aer := w.cid
	must(t, r.sub.AddHost(otherHost))
	if c, _ := w.await(aer, nil); c.dw0 != 0x70f002 {
		t.Errorf("discovery event %06x", c.dw0)
	}
	if _, p = w.logPage(0x70, 0, 1024, false); le.Uint64(p) == gen {
		t.Error("the generation did not change")
	}
	must(t, r.sub.RemoveHost(otherHost))
	if _, p = connect(otherHost).logPage(0x70, 0, 1024, false); le.Uint64(p[8:]) != 0 {
		t.Error("a host sees a subsystem that does not admit it")
	}
	if c, _ := w.identify(2, 0); c.status&0x7ff != 2 {
		t.Errorf("active list of the discovery controller: %03x", c.status)
	}
}
