package nvmftgt

import (
	"fmt"
	"io"
	"testing"
)

// TestFlowControl: a host that goes by SQHD alone keeps its queue going, and
// every SQHD counts all commands that have ended, also those that the SUCCESS
// flag ended.
func TestFlowControl(t *testing.T) {
	for _, size := range []int{2, 3, 8, 32} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r := newRig(t)
			_, id := r.admin()
			w := r.dial()
			w.icreq()
			s, d := w.connectSQE(1, id, uint16(size-1), testNQN)
			c, _ := w.ok(s, d)
			// tail is how many commands were sent, head how many of them the
			// target has said to have taken; both go round with the queue.
			tail, head, ended, flags := 1, int(c.sqhd), 1, 0
			full := func() bool { return (tail+1)%size == head%size }
			for sent := 0; sent < 20*size || ended <= sent; {
				for sent < 20*size && !full() {
					s := w.rw(2, 0, 1)
					sglOut(s, 4096)
					w.capsule(s, nil)
					sent++
					tail = (tail + 1) % size
				}
				p, err := w.pdu()
				must(t, err)
				switch {
				case p.typ == 7 && p.flags&8 != 0:
					ended++
					flags++
				case p.typ == 5:
					ended++
					c := parseCQE(p.hdr[8:])
					if int(c.sqhd) != ended%size {
						t.Fatalf("SQHD %d when %d commands have ended", c.sqhd, ended)
					}
					head = int(c.sqhd)
				}
			}
			if size > 3 && flags < 20*size/2 {
				t.Errorf("only %d of %d reads were ended by their data", flags, 20*size)
			}
		})
	}
}

// TestNoFlowControl: a host that wants none is told so by SQHD FFFFh, and all
// of its reads are ended by their data.
func TestNoFlowControl(t *testing.T) {
	r := newRig(t)
	a := r.dial()
	a.noflow = true
	a.icreq()
	s, d := a.connectSQE(0, 0xffff, 31, testNQN)
	c, _ := a.ok(s, d)
	id := uint16(c.dw0)
	if c.sqhd != 0xffff {
		t.Errorf("Connect of the admin queue: SQHD %#x", c.sqhd)
	}
	if c := a.propSet(0x14, 0x00460001); c.sqhd != 0 {
		t.Errorf("SQHD %#x, which is reserved", c.sqhd)
	}
	w := r.dial()
	w.noflow = true
	w.icreq()
	s, d = w.connectSQE(1, id, 7, testNQN)
	if c, _ := w.ok(s, d); c.sqhd != 0xffff {
		t.Errorf("Connect of an I/O queue: SQHD %#x", c.sqhd)
	}
	for i := range 100 {
		w.read(uint64(i), 1)
	}
	if w.sawSuccess != 100 {
		t.Errorf("%d of 100 reads were ended by their data", w.sawSuccess)
	}
	if c, _ := w.ok(w.sqe(0, 1), nil); c.sqhd != 0 {
		t.Errorf("flush: SQHD %#x, which is reserved", c.sqhd)
	}
	_ = w.c.(interface{ CloseWrite() error }).CloseWrite()
	_, _ = io.Copy(io.Discard, w.c)
}
