package aio

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"vda/bdev"
)

// iocb is struct iocb of linux/aio_abi.h, little endian.
type iocb struct {
	data    uint64 // slot of the task
	_       uint32 // key
	rwFlags uint32
	opcode  uint16
	_       int16 // priority
	fd      uint32
	buf     uint64 // address of memory or of the iovecs
	n       uint64 // bytes or iovecs
	offset  int64
	_       uint64
	_       uint32 // flags
	_       uint32 // eventfd
}

// Operations of an iocb.
const (
	cmdPread   = 0
	cmdPwrite  = 1
	cmdPreadv  = 7
	cmdPwritev = 8
	cmdPoll    = 5
)

// lastEvent is the iocb.data of the poll that ends reap.
const lastEvent = ^uint64(0)

// event is struct io_event.
type event struct {
	data, obj uint64
	res, res2 int64
}

// ring is one kernel context for asynchronous reads and writes.
type ring struct {
	d    *Device
	ctx  uintptr
	done chan struct{} // closed when reap has returned

	mu      sync.Mutex
	slots   []*task // by iocb.data; keeps tasks and their memory alive
	free    []uint32
	queue   []*task // have no slot yet
	pending []*iocb // have a slot, are not submitted
	spare   []*iocb // the other buffer of pending
	busy    bool    // somebody is submitting spare's successor
}

// newRing sets up a context for depth transfers at once.
func newRing(d *Device, depth int) (*ring, error) {
	g := &ring{d: d, done: make(chan struct{}), slots: make([]*task, depth)}
	for i := range g.slots {
		g.free = append(g.free, uint32(i))
	}
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&g.ctx)), 0); e != 0 {
		return nil, e
	}
	go g.reap()
	return g, nil
}

// add queues t for the end of the pass.
func (g *ring) add(t *task, b *bdev.Batch) {
	g.mu.Lock()
	if n := len(g.free); n > 0 && len(g.queue) == 0 {
		slot := g.free[n-1]
		g.free = g.free[:n-1]
		g.prepare(t, slot)
	} else {
		g.queue = append(g.queue, t)
	}
	g.mu.Unlock()
	b.AddOnce(g)
}

// prepare fills t's iocb; g.mu is held.
func (g *ring) prepare(t *task, slot uint32) {
	g.slots[slot] = t
	cb := &t.cb
	*cb = iocb{data: uint64(slot), fd: uint32(g.d.fd), offset: t.offset}
	write := t.r.Op == bdev.OpWrite
	if len(t.vecs) == 1 {
		cb.opcode = cmdPread
		if write {
			cb.opcode = cmdPwrite
		}
		cb.buf, cb.n = uint64(uintptr(unsafe.Pointer(t.vecs[0].Base))), t.vecs[0].Len
	} else {
		cb.opcode = cmdPreadv
		if write {
			cb.opcode = cmdPwritev
		}
		cb.buf, cb.n = uint64(uintptr(unsafe.Pointer(&t.vecs[0]))), uint64(len(t.vecs))
	}
	if write && t.r.FUA {
		cb.rwFlags = unix.RWF_DSYNC
	}
	g.pending = append(g.pending, cb)
}

// FlushBatch submits what is pending, of whichever goroutine. When another
// goroutine is at it, that one takes ours along.
func (g *ring) FlushBatch(b *bdev.Batch) {
	g.mu.Lock()
	for !g.busy && len(g.pending) > 0 {
		list := g.pending
		g.pending, g.spare = g.spare[:0], nil
		g.busy = true
		g.mu.Unlock()
		g.submit(list, b)
		clear(list)
		g.mu.Lock()
		g.spare = list[:0]
		g.busy = false
	}
	g.mu.Unlock()
}

// submit hands list to the kernel. What it does not take goes to the pool.
func (g *ring) submit(list []*iocb, b *bdev.Batch) {
	for len(list) > 0 {
		n, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, g.ctx, uintptr(len(list)), uintptr(unsafe.Pointer(&list[0])))
		switch e {
		case 0:
			list = list[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			for _, cb := range list {
				g.d.pool.add(g.take(uint32(cb.data)))
			}
			return
		default:
			// The first of the list is at fault.
			g.take(uint32(list[0].data)).finish(g.d, e, b)
			list = list[1:]
		}
	}
}

// take frees a slot and returns its task.
func (g *ring) take(slot uint32) *task {
	g.mu.Lock()
	t := g.slots[slot]
	g.release(slot)
	g.mu.Unlock()
	return t
}

// release gives the slot to the next in the queue; g.mu is held.
func (g *ring) release(slot uint32) {
	if len(g.queue) == 0 {
		g.slots[slot] = nil
		g.free = append(g.free, slot)
		return
	}
	t := g.queue[0]
	n := copy(g.queue, g.queue[1:])
	g.queue[n] = nil
	g.queue = g.queue[:n]
	g.prepare(t, slot)
}

// reap completes what the kernel has done, asleep in io_getevents until there
// is something: one wake-up of one thread, where an eventfd in the poller
// would cost a signal, the poller's wake-up and the scheduler's.
func (g *ring) reap() {
	defer close(g.done)
	var b bdev.Batch
	var events [64]event
	batch := make([]reaped, 0, len(events))
	for {
		n, _, e := unix.Syscall6(unix.SYS_IO_GETEVENTS, g.ctx, 1, uintptr(len(events)), uintptr(unsafe.Pointer(&events[0])), 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return // the context is gone
		}
		batch = batch[:0]
		g.mu.Lock()
		for i := range events[:n] {
			if events[i].data == lastEvent {
				g.mu.Unlock()
				return
			}
			batch = g.taken(batch, &events[i])
		}
		g.mu.Unlock()
		for i := range batch {
			g.complete(batch[i].t, batch[i].res, &b)
			batch[i].t = nil
		}
		g.FlushBatch(&b)
		b.Flush()
	}
}

type reaped struct {
	t   *task
	res int64
}

// taken adds a completion's task to out and frees its slot; g.mu is held.
func (g *ring) taken(out []reaped, ev *event) []reaped {
	slot := uint32(ev.data)
	out = append(out, reaped{t: g.slots[slot], res: ev.res})
	g.release(slot)
	return out
}

// complete ends a transfer, or sends the rest of a short one to the pool,
// which finds out why it was short.
func (g *ring) complete(t *task, res int64, b *bdev.Batch) {
	switch {
	case res < 0:
		t.finish(g.d, syscall.Errno(-res), b)
	case int(res) < t.left:
		t.advance(int(res))
		g.d.pool.add(t)
	default:
		t.finish(g.d, 0, b)
	}
}

// close tears the context down; nothing is in flight. reap is woken by a poll
// for something that is there, and has gone before the context goes, because
// another context may get the same id at once.
func (g *ring) close() {
	if efd, err := unix.Eventfd(1, unix.EFD_CLOEXEC); err == nil {
		cb := &iocb{data: lastEvent, opcode: cmdPoll, fd: uint32(efd), buf: unix.POLLIN}
		list := []*iocb{cb}
		if _, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, g.ctx, 1, uintptr(unsafe.Pointer(&list[0]))); e == 0 {
			<-g.done
		}
		unix.Close(efd)
	}
	unix.Syscall(unix.SYS_IO_DESTROY, g.ctx, 0, 0)
	<-g.done
}
