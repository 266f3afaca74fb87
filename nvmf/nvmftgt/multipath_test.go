package nvmftgt

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestTwoTargetsOneSubsystem: what Linux compares before it joins two paths
// is the same on two targets that serve a subsystem together, and what must
// differ differs.
func TestTwoTargetsOneSubsystem(t *testing.T) {
	id := uuid.New()
	var ids []uint16
	var ctrl, ns, desc, ana [][]byte
	for i, state := range []ANAState{ANAOptimized, ANANonOptimized} {
		r := newRig(t, func(_ *Config, _ *TransportOpts, s *SubsystemConfig) {
			s.MinCntlid, s.MaxCntlid = uint16(i*1000+1), uint16(i*1000+1000)
		})
		must(t, r.sub.RemoveNamespace(1))
		_, err := r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "m0", UUID: id, NGUID: id, ANAGroup: 1})
		must(t, err)
		must(t, r.sub.AddListenerState(Addr{Traddr: "127.0.0.1", Trsvcid: "0"}, state))
		r.addr = r.sub.Listeners()[1].Addr
		w, cntlid := r.admin()
		ids = append(ids, cntlid)
		_, p := w.identify(1, 0)
		ctrl = append(ctrl, p)
		_, p = w.identify(0, 1)
		ns = append(ns, p)
		_, p = w.identify(3, 1)
		desc = append(desc, p)
		_, p = w.logPage(0xc, 0, 64, false)
		ana = append(ana, p)
	}
	if ids[0] != 1 || ids[1] != 1001 {
		t.Errorf("controller ids %v", ids)
	}
	for _, f := range []struct {
		name     string
		from, to int
	}{{"serial, model, firmware", 4, 72}, {"CMIC and MDTS", 76, 78}, {"ANATT to NANAGRPID", 342, 352}, {"NN", 516, 520},
		{"MNAN", 540, 544}, {"SUBNQN", 768, 1024}} {
		if !bytes.Equal(ctrl[0][f.from:f.to], ctrl[1][f.from:f.to]) {
			t.Errorf("%s differ", f.name)
		}
	}
	if !bytes.Equal(ns[0], ns[1]) || !bytes.Equal(desc[0], desc[1]) {
		t.Error("namespaces differ")
	}
	if ana[0][32] != 1 || ana[1][32] != 2 {
		t.Errorf("ANA states %d, %d", ana[0][32], ana[1][32])
	}
}

func (w *wire) abort(sqid, cid uint16) uint32 {
	w.t.Helper()
	s := w.sqe(8, 0)
	le.PutUint32(s[40:], uint32(sqid)|uint32(cid)<<16)
	c, _ := w.ok(s, nil)
	return c.dw0
}

// TestAbort: a command that waits for a buffer is aborted, one that waits for
// its data ends as aborted when the data is here, others are left alone.
func TestAbort(t *testing.T) {
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.MaxConnData = 64 << 10 })
	a, id := r.admin()
	w := r.ioq(id, 1)
	data := pattern(16*4096, 1)
	write := func() uint16 {
		s := w.rw(1, 0, 16)
		sglOut(s, len(data))
		w.capsule(s, nil)
		return w.cid
	}
	first := write()
	p, err := w.pdu()
	must(t, err)
	tag := le.Uint16(p.hdr[10:])
	second := write() // no room for its data
	waitFor(t, func() bool {
		r.sub.mu.Lock()
		defer r.sub.mu.Unlock()
		for conn := range r.sub.conns {
			conn.mu.Lock()
			n := len(conn.q.waiting)
			conn.mu.Unlock()
			if n == 1 {
				return true
			}
		}
		return false
	})
	if d := a.abort(1, second); d != 0 {
		t.Errorf("abort of a waiting command: %x", d)
	}
	if c, _ := w.await(second, nil); c.status != 0x007 {
		t.Errorf("aborted command: %03x", c.status)
	}
	if d := a.abort(1, first); d != 0 {
		t.Errorf("abort of a receiving command: %x", d)
	}
	if d := a.abort(1, first); d != 1 {
		t.Errorf("abort of an aborted command: %x", d)
	}
	w.write(w.h2cPDU(first, tag, 0, data, true))
	if c, _ := w.await(first, nil); c.status != 0x007 {
		t.Errorf("aborted command: %03x", c.status)
	}
	if !bytes.Equal(w.read(0, 1), make([]byte, 4096)) {
		t.Error("the aborted write was executed")
	}
	for _, q := range []uint16{0, 1, 7} {
		if d := a.abort(q, 999); d != 1 {
			t.Errorf("abort of no command on queue %d: %x", q, d)
		}
	}
	r.clean(t, 2)
}

// TestPoolExhausted: without a buffer left, commands wait until
// there is one, and none fails.
func TestPoolExhausted(t *testing.T) {
	r := newRig(t)
	set := func(w *wire) { w.ddg = true }
	_, id := r.admin(set)
	w := r.ioq(id, 1, set)
	hoard := r.drained()
	s := w.rw(2, 0, 32)
	sglOut(s, 32*4096)
	w.capsule(s, nil)
	time.Sleep(20 * time.Millisecond)
	hoard()
	if _, in := w.await(w.cid, nil); len(in) != 32*4096 {
		t.Errorf("%d bytes", len(in))
	}
	// So does a Verify, which reads into a buffer.
	hoard = r.drained()
	w.capsule(w.rw(0x0c, 0, 64), nil)
	time.Sleep(20 * time.Millisecond)
	hoard()
	if c, _ := w.await(w.cid, nil); c.status != 0 {
		t.Errorf("verify: %03x", c.status)
	}
	// The same with data for us: it is asked for when there is room for it,
	// and then has its place, whatever becomes of the rest.
	hoard = r.drained()
	s = w.rw(1, 0, 32)
	sglOut(s, 32*4096)
	w.capsule(s, nil)
	_ = w.c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if p, err := w.pdu(); err == nil {
		t.Fatalf("a PDU of type %d without memory", p.typ)
	}
	_ = w.c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	hoard()
	p, err := w.pdu()
	must(t, err)
	hoard = r.drained()
	w.write(w.h2cPDU(w.cid, le.Uint16(p.hdr[10:]), 0, pattern(32*4096, 1), true))
	if c, _ := w.await(w.cid, nil); c.status != 0 {
		t.Errorf("write: %03x", c.status)
	}
	hoard()
	r.clean(t, 2)
}
