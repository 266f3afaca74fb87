package nvmftgt

import (
	"fmt"
	"testing"
)

const dnr = 0x4000

// TestRefusalsUnderWay meets every refusal of a Connect that ends when an
// agent, a host or an operator has done the next step: none may say Do Not
// Retry, for which Linux, since 6.10, removes a controller for good.
func TestRefusalsUnderWay(t *testing.T) {
	r := newRig(t, func(_ *Config, o *TransportOpts, s *SubsystemConfig) {
		o.MaxAQDepth = 32
		s.AllowAnyHost = false
		s.MinCntlid, s.MaxCntlid = 10, 11
	})
	must(t, r.sub.AddHost(testHost))
	// refused connects a queue and returns the status, which is no success.
	refused := func(what string, qid, cntlid uint16, nqn string, set ...func(*wire)) {
		t.Helper()
		w := r.dial()
		for _, f := range set {
			f(w)
		}
		w.icreq()
		if c := w.connect(qid, cntlid, nqn); c.status == 0 || c.status&dnr != 0 {
			t.Errorf("%s: status %04x; it must be a refusal that is retried", what, c.status)
		}
	}
	const other = testNQN + "2"
	refused("subsystem that is not there", 0, 0xffff, other)
	half, err := r.tgt.CreateSubsystem(SubsystemConfig{NQN: other, Serial: "S"})
	must(t, err)
	refused("subsystem without a listener", 0, 0xffff, other)
	must(t, half.AddListener(r.addr))
	refused("subsystem without a host's entry", 0, 0xffff, other)
	must(t, half.AddHost(testHost))
	w := r.dial()
	w.icreq()
	if c := w.connect(0, 0xffff, other); c.status != 0 {
		t.Fatalf("complete subsystem: %04x", c.status)
	}
	must(t, half.RemoveHost(testHost))
	refused("host that was removed", 0, 0xffff, other)
	must(t, half.AddHost(testHost))
	must(t, half.RemoveListener(r.addr))
	refused("listener that was removed", 0, 0xffff, other)
	must(t, r.tgt.DeleteSubsystem(other))
	refused("subsystem that was deleted", 0, 0xffff, other)

	first, id := r.admin()
	r.admin()
	refused("a third controller of two", 0, 0xffff, testNQN)
	r.ioq(id, 1)
	refused("queue that is connected already", 1, id, testNQN)
	refused("controller of another host by now", 2, id, testNQN, func(w *wire) { w.hostid[0]++ })
	if c := first.propSet(0x14, 0x00464001); c.status != 0 {
		t.Fatalf("shutdown: %04x", c.status)
	}
	refused("controller that is shut down", 2, id, testNQN)
	first.c.Close()
	waitFor(t, func() bool { return len(r.sub.Controllers()) == 1 })
	refused("controller that is gone", 1, id, testNQN)

	// A controller of another name that has the id by now.
	must(t, r.sub.AddHost(otherHost))
	next := r.dial()
	next.hostnqn = otherHost
	next.icreq()
	if c := next.connect(0, 0xffff, testNQN); c.status != 0 || uint16(c.dw0) != id {
		t.Fatalf("the next controller: status %04x, id %d; want id %d", c.status, uint16(c.dw0), id)
	}
	refused("controller of another host", 1, id, testNQN)
	refused("controller that is not enabled yet", 1, id, testNQN, func(w *wire) { w.hostnqn = otherHost })

	deep := r.dial()
	deep.icreq()
	s, d := deep.connectSQE(0, 0xffff, 63, testNQN)
	if c, _ := deep.do(s, d); c.status != 0x182 {
		t.Errorf("admin queue deeper than the transport takes now: %04x", c.status)
	}
}

// TestRetired: only a subsystem that was retired is refused for good, and not
// once there is one of that name again.
func TestRetired(t *testing.T) {
	r := newRig(t)
	status := func(nqn string) uint16 {
		t.Helper()
		w := r.dial()
		w.icreq()
		return w.connect(0, 0xffff, nqn).status
	}
	a, _ := r.admin()
	must(t, r.tgt.RetireSubsystem(testNQN))
	if _, err := a.pdu(); err == nil {
		t.Error("the host of a retired subsystem is still connected")
	}
	other, err := r.tgt.CreateSubsystem(SubsystemConfig{NQN: testNQN + "x", Serial: "S", AllowAnyHost: true})
	must(t, err)
	must(t, other.AddListener(r.addr))
	if s := status(testNQN); s != 0x4182 {
		t.Errorf("retired: %04x", s)
	}
	if s := status(testNQN + "y"); s != 0x182 {
		t.Errorf("unknown: %04x", s)
	}
	must(t, r.tgt.RetireSubsystem(testNQN+"y")) // that was never there
	if s := status(testNQN + "y"); s != 0x4182 {
		t.Errorf("retired before it was made: %04x", s)
	}
	r.tgt.UnretireSubsystem(testNQN + "y")
	if s := status(testNQN + "y"); s != 0x182 {
		t.Errorf("announced: %04x", s)
	}
	again, err := r.tgt.CreateSubsystem(SubsystemConfig{NQN: testNQN, Serial: "S", AllowAnyHost: true})
	must(t, err)
	if s := status(testNQN); s != 0x182 {
		t.Errorf("made again, no listener yet: %04x", s)
	}
	must(t, again.AddListener(r.addr))
	if s := status(testNQN); s != 0 {
		t.Errorf("made again: %04x", s)
	}
	must(t, r.tgt.DeleteSubsystem(testNQN))
	if s := status(testNQN); s != 0x182 {
		t.Errorf("deleted, not retired: %04x", s)
	}
	if err := r.tgt.RetireSubsystem("nqn.2014-08.org.nvmexpress.discovery"); err == nil {
		t.Error("the discovery subsystem can be retired")
	}
}

// TestRetiredIsBounded: the oldest names are forgotten first.
func TestRetiredIsBounded(t *testing.T) {
	var r retired
	for i := range maxRetired + 10 {
		r.add(fmt.Sprint(i))
	}
	r.add("12")
	r.remove("13")
	r.remove("13")
	_, oldest := r.names["9"]
	_, kept := r.names["10"]
	if len(r.names) != maxRetired-1 || len(r.order) != maxRetired-1 || oldest || !kept {
		t.Errorf("%d names, %d in order; 9 known: %v, 10 known: %v", len(r.names), len(r.order), oldest, kept)
	}
}
