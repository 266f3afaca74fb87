package nvmftgt

import (
	"bytes"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCommandsOfALapsedHost: what a host sent before it gave the controller up
// is not carried out when this process runs on after a stop.
func TestCommandsOfALapsedHost(t *testing.T) {
	r := newRig(t)
	a, id := r.admin(func(w *wire) { w.keep = 60_000 })
	q := r.ioq(id, 1)
	old := bytes.Repeat([]byte{1}, 4096)
	if c := q.writeBlocks(0, old); c.status != 0 {
		t.Fatalf("write: status %#x", c.status)
	}
	// As if the process had been stopped for longer than the keep alive time.
	for _, c := range r.sub.controllers(anyController) {
		c.admin.seen.Store(nanotime() - int64(61*time.Second))
		c.mu.Lock()
		for _, conn := range c.io {
			conn.seen.Store(nanotime() - int64(61*time.Second))
		}
		c.mu.Unlock()
	}
	late := q.rw(1, 0, 1)
	sglIn(late, 4096)
	q.capsule(late, bytes.Repeat([]byte{2}, 4096))
	if p, err := q.pdu(); err == nil {
		t.Fatalf("PDU %v came instead of the end", p)
	}
	if _, err := a.pdu(); err == nil {
		t.Error("the admin queue is still there")
	}
	waitFor(t, func() bool { return len(r.sub.Controllers()) == 0 })
	_, id = r.admin()
	if got := r.ioq(id, 1).read(0, 1); !bytes.Equal(got, old) {
		t.Errorf("the block reads %v…, not what was acknowledged", got[:4])
	}
}

// TestCommandsBeforeTheEndOfAStoppedTarget: a host that gives its controller up before
// the keep alive time is over closes the connection. What it had sent, and sends
// elsewhere then, is not carried out when the target goes on.
func TestCommandsBeforeTheEndOfAStoppedTarget(t *testing.T) {
	r := newRig(t)
	_, id := r.admin(func(w *wire) { w.keep = 60_000 })
	q := r.ioq(id, 1)
	old := bytes.Repeat([]byte{1}, 4096)
	if c := q.writeBlocks(0, old); c.status != 0 {
		t.Fatalf("write: status %#x", c.status)
	}
	// As if the process had been stopped for a second: the command and the end of the
	// connection come in one segment.
	for _, c := range r.sub.controllers(anyController) {
		c.mu.Lock()
		for _, conn := range c.io {
			conn.seen.Store(nanotime() - int64(time.Second))
		}
		c.mu.Unlock()
	}
	raw, err := q.c.(*net.TCPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) }))
	must(t, err)
	late := q.rw(1, 0, 1)
	sglIn(late, 4096)
	q.capsule(late, bytes.Repeat([]byte{2}, 4096))
	must(t, q.c.Close())
	c := r.sub.controllers(anyController)[0]
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.io) == 0
	})
	_, id = r.admin()
	if got := r.ioq(id, 1).read(0, 1); !bytes.Equal(got, old) {
		t.Errorf("the block reads %v…, not what was acknowledged", got[:4])
	}
}

// TestIdleQueueDoesNotLapse: a queue may be idle for long while another is in
// use.
func TestIdleQueueDoesNotLapse(t *testing.T) {
	r := newRig(t)
	a, id := r.admin(func(w *wire) { w.keep = 60_000 })
	q := r.ioq(id, 1)
	for _, c := range r.sub.controllers(anyController) {
		c.mu.Lock()
		for _, conn := range c.io {
			conn.seen.Store(nanotime() - int64(61*time.Second))
		}
		c.mu.Unlock()
	}
	a.ok(a.sqe(0x18, 0), nil)
	q.read(0, 1)
}

// TestEndedQueueDoesNotLapse: a host whose I/O kept the controller alive closes
// its I/O queues and shuts the controller down, as Linux does in nvme
// disconnect; its admin queue had nothing to say for longer than the keep
// alive time.
func TestEndedQueueDoesNotLapse(t *testing.T) {
	r := newRig(t)
	a, id := r.admin(func(w *wire) { w.keep = 60_000 })
	q := r.ioq(id, 1)
	q.read(0, 1)
	c := r.sub.controllers(anyController)[0]
	c.admin.seen.Store(nanotime() - int64(61*time.Second))
	_ = q.c.Close()
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.io) == 0
	})
	a.ok(a.sqe(0x18, 0), nil)
}
