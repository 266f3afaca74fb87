package nvmftgt

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// FuzzConnection feeds a byte stream to a connection at a stage of its life:
// untouched, initialized, an admin queue, an I/O queue. Whatever it is, the
// connection ends, nothing of ours panics, no buffer is lost, and everything
// that waits for commands to end returns.
func FuzzConnection(f *testing.F) {
	r := newRig(f, func(c *Config, o *TransportOpts, _ *SubsystemConfig) {
		c.SendTime = time.Second
		o.InCapsuleDataSize = 4096
	})
	must(f, r.sub.AddHost(testHost))
	w := &wire{t: f, hostnqn: testHost, hostid: testHostID}
	ic := raw(0, 0, 128, 0, 128, make([]byte, 120)...)
	f.Add(uint8(0), ic)
	s, d := w.connectSQE(0, 0xffff, 31, testNQN)
	sglIn(s, len(d))
	f.Add(uint8(0), append(append([]byte(nil), ic...), w.capsulePDU(s, d)...))
	f.Add(uint8(1), w.capsulePDU(s, d))
	for _, op := range []byte{2, 6, 8, 9, 10, 12, 0x18, 0x7f} {
		s := w.sqe(op, 1)
		sglOut(s, 4096)
		f.Add(uint8(2), w.capsulePDU(s, nil))
	}
	for _, op := range []byte{0, 1, 2, 5, 8, 9, 0xc, 0xd, 0xe, 0x11, 0x15} {
		s := w.rw(op, 0, 1)
		sglIn(s, 4096)
		f.Add(uint8(3), w.capsulePDU(s, pattern(4096, op)))
		s = w.rw(op, 0, 8)
		sglOut(s, 8*4096)
		f.Add(uint8(3), append(w.capsulePDU(s, nil), w.h2cPDU(w.cid, 0, 0, pattern(8*4096, op), true)...))
	}
	f.Add(uint8(3), append(w.capsulePDU(w.sqe(0, 0xffffffff), nil), w.capsulePDU(w.sqe(0x7f, 8), nil)...)) // flush all, disconnect
	a, b := w.rw(5, 0, 1), w.rw(1, 0, 1)
	a[1] |= 1
	b[1] |= 2
	sglIn(a, 4096)
	sglOut(b, 4096)
	pair := append(w.capsulePDU(a, pattern(4096, 1)), w.capsulePDU(b, nil)...)
	f.Add(uint8(3), append(pair, w.h2cPDU(w.cid, 1, 0, pattern(4096, 1), true)...))
	for _, stage := range []uint8{1, 2, 3} { // Fabrics commands, on every queue and before there is one
		for fctype := range uint32(9) {
			s := w.sqe(0x7f, fctype)
			sglIn(s, 1024)
			f.Add(stage, w.capsulePDU(s, pattern(1024, 3)))
			f.Add(stage, append(w.usedSlot(), w.fabricsByR2T(fctype)...))
			f.Add(stage, w.fabricsByR2T(fctype))
		}
	}
	f.Fuzz(func(t *testing.T, stage uint8, in []byte) {
		panics := r.tgt.Stats().Panics
		var w *wire
		switch stage % 4 {
		case 0:
			w = dialFor(t, r)
		case 1:
			w = dialFor(t, r)
			w.icreq()
		case 2:
			w, _ = adminFor(t, r)
		default:
			a, id := adminFor(t, r)
			defer a.c.Close()
			w = dialFor(t, r)
			w.icreq()
			if c := w.connect(1, id, testNQN); c.status != 0 {
				t.Fatalf("connect: %03x", c.status)
			}
		}
		_, _ = w.c.Write(in)
		_ = w.c.(*net.UnixConn).CloseWrite()
		if _, err := io.Copy(io.Discard, w.c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection does not end")
		}
		w.c.Close()
		r.takeDown(t)
		if p := r.tgt.Stats().Panics; p != panics {
			t.Fatal("a panic")
		}
		r.putUp(t)
	})
}

// usedSlot is a write that leaves something behind in the slot of its command.
func (w *wire) usedSlot() []byte {
	s := w.rw(1, 0, 1)
	sglIn(s, 4096)
	return w.capsulePDU(s, pattern(4096, 9))
}

// fabricsByR2T is a Fabrics command with data that the target has to ask for,
// and the data.
func (w *wire) fabricsByR2T(fctype uint32) []byte {
	s := w.sqe(0x7f, fctype)
	sglOut(s, 1024)
	p := w.capsulePDU(s, nil)
	for tag := range uint16(2) { // one of them is its slot
		p = append(p, w.h2cPDU(w.cid, tag, 0, pattern(1024, 4), true)...)
	}
	return p
}

// takeDown makes the calls that wait for commands; each has to return.
func (r *rig) takeDown(t *testing.T) {
	t.Helper()
	for _, call := range []struct {
		name string
		f    func() error
	}{
		{"nvmf_subsystem_remove_host", func() error { return r.sub.RemoveHost(testHost) }},
		{"vda_nvmf_swap_ns", func() error { return r.sub.SwapNamespace(1, "m0") }},
		{"nvmf_subsystem_remove_ns", func() error { return r.sub.RemoveNamespace(1) }},
		{"nvmf_delete_subsystem", func() error { return r.tgt.DeleteSubsystem(testNQN) }},
	} {
		done := make(chan error, 1)
		go func() { done <- call.f() }()
		select {
		case err := <-done:
			must(t, err)
		case <-time.After(2 * time.Minute):
			t.Fatalf("%s does not return", call.name)
		}
	}
}

// putUp makes the subsystem that takeDown has removed again.
func (r *rig) putUp(t *testing.T) {
	t.Helper()
	var err error
	r.sub, err = r.tgt.CreateSubsystem(SubsystemConfig{NQN: testNQN, ANAReporting: true})
	must(t, err)
	_, err = r.sub.AddNamespace(NamespaceConfig{Bdev: "m0"})
	must(t, err)
	must(t, r.sub.AddHost(testHost))
	must(t, r.sub.AddListener(Addr{Traddr: "127.0.0.1", Trsvcid: "0"}))
}

// dialFor connects without a port: a fuzzer would use them all up.
func dialFor(t *testing.T, r *rig) *wire {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(t, err)
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		ends[i], err = net.FileConn(f)
		must(t, err)
		must(t, f.Close())
	}
	r.tgt.serve(ends[1].(*net.UnixConn), r.sub.listeners[0].portal)
	_ = ends[0].SetDeadline(time.Now().Add(2 * time.Minute))
	return &wire{t: t, c: ends[0], hostnqn: testHost, hostid: testHostID}
}

func adminFor(t *testing.T, r *rig) (*wire, uint16) {
	w := dialFor(t, r)
	w.icreq()
	c := w.connect(0, 0xffff, testNQN)
	if c.status != 0 {
		t.Fatalf("connect: %03x", c.status)
	}
	w.propSet(0x14, 0x00460001)
	return w, uint16(c.dw0)
}
