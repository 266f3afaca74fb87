package nvmftgt

import (
	"net"
	"testing"
	"time"
)

// pollAll has two goroutines serve all connections in their readers' place,
// as those do that poll on a machine with one processor, until the test ends.
func (r *rig) pollAll() {
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, conn := range r.conns() {
					conn.PollSource()
				}
				time.Sleep(20 * time.Microsecond)
			}
		}()
	}
	r.t.Cleanup(func() {
		close(stop)
		<-done
		<-done
	})
}

func (r *rig) conns() (ks []*conn) {
	r.tgt.mu.Lock()
	defer r.tgt.mu.Unlock()
	for conn := range r.tgt.conns {
		ks = append(ks, conn)
	}
	return ks
}

// TestPolledEnd: what ends a connection ends it, too, when somebody else than
// its reader comes upon it, and its reader is not left asleep.
func TestPolledEnd(t *testing.T) {
	for name, end := range map[string]func(*wire){
		"closed":           func(w *wire) { _ = w.c.Close() },
		"reset":            func(w *wire) { _ = w.c.(*net.TCPConn).SetLinger(0); _ = w.c.Close() },
		"not a PDU":        func(w *wire) { w.write(make([]byte, 64)) },
		"half a PDU":       func(w *wire) { w.write([]byte{4, 0, 72}); _ = w.c.Close() },
		"of the wrong CID": func(w *wire) { w.write(w.h2cPDU(9, 9, 0, make([]byte, 512), true)) },
	} {
		t.Run(name, func(t *testing.T) {
			for range 4 {
				r := newRig(t)
				r.pollAll()
				_, id := r.admin()
				w := r.ioq(id, 1)
				w.read(0, 8)
				end(w)
				waitFor(t, func() bool { return len(r.conns()) == 1 })
			}
		})
	}
}

// TestPolledWithoutMemory: a poller that meets a command with data when there
// is no memory leaves it to the reader, who waits; one whose data is to be
// asked for waits by itself.
func TestPolledWithoutMemory(t *testing.T) {
	r := newRig(t)
	_, id := r.admin()
	w := r.ioq(id, 1)
	w.writeBlocks(0, pattern(128<<10, 3))
	r.reg.Buffers.SetLimit(8 << 20)
	r.pollAll()
	for _, n := range []int{8 << 10, 128 << 10} {
		var hog [][]byte
		for buf := r.reg.Buffers.Get(128 << 10); buf != nil; buf = r.reg.Buffers.Get(128 << 10) {
			hog = append(hog, buf)
		}
		returned := make(chan struct{})
		time.AfterFunc(50*time.Millisecond, func() {
			defer close(returned)
			for _, b := range hog {
				r.reg.Buffers.Put(b)
			}
		})
		if c := w.writeBlocks(0, pattern(n, 3)); c.status != 0 {
			t.Errorf("%d bytes: status %#x", n, c.status)
		}
		<-returned // a part of them was enough
	}
	r.clean(t, 2)
}
