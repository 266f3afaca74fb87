package aio

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/bdev"
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
	flags   uint32
	eventFD uint32
}

// flagEvent has the completion signalled on eventFD.
const flagEvent = 1

// Operations of an iocb.
const (
	cmdPread   = 0
	cmdPwrite  = 1
	cmdPreadv  = 7
	cmdPwritev = 8
)

// event is struct io_event.
type event struct {
	data, obj uint64
	res, res2 int64
}

// events is how the kernel shows its ring of completions (struct aio_ring of
// fs/aio.c, which libaio and others read, too): the head, tail and io_events.
type events struct {
	_        uint32 // id
	size     uint32 // of the ring
	head     uint32 // where we read
	tail     uint32 // where the kernel writes
	magic    uint32
	_        uint32 // features that need not be known
	incompat uint32 // features that must be known
	length   uint32 // of this header, bytes
}

const eventsMagic = 0xa10a10a1

// ring is one kernel context for asynchronous reads and writes.
type ring struct {
	d      *Device
	ctx    uintptr
	events *events         // in memory shared with the kernel
	fd     uint32          // of signal
	signal *os.File        // eventfd that completions are signalled on
	wake   syscall.RawConn // of signal
	done   chan struct{}   // closed when sleep has returned
	hot    bdev.Hot

	// turn is the right to take completions and use what follows down to
	// mu. Anyone who polls may have it (PollSource), otherwise sleep.
	turn  bdev.Turn
	batch bdev.Batch
	taken []reaped
	pace  atomic.Int64 // how long completions take to come, ns, about
	last  int64        // when the last ones came

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
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	g.signal = os.NewFile(uintptr(fd), "eventfd")
	if g.wake, err = g.signal.SyscallConn(); err != nil {
		g.signal.Close()
		return nil, err
	}
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&g.ctx)), 0); e != 0 {
		g.signal.Close()
		return nil, e
	}
	g.events = *(**events)(unsafe.Pointer(&g.ctx)) // a context's id is the address of its ring
	if g.events.magic != eventsMagic || g.events.incompat != 0 {
		unix.Syscall(unix.SYS_IO_DESTROY, g.ctx, 0, 0)
		g.signal.Close()
		return nil, unix.ENOSYS
	}
	g.fd = uint32(fd)
	g.hot.Init(g)
	go g.sleep()
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
	*cb = iocb{data: uint64(slot), fd: uint32(g.d.fd), offset: t.offset, flags: flagEvent, eventFD: g.fd}
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
		now := bdev.Clock()
		for _, cb := range list {
			g.slots[cb.data].start = now
		}
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
	g.expect(bdev.Clock())
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

// sleep takes the completions that nobody has polled for, as long as the ring
// is open. It sleeps in the runtime's poller: a thread asleep in io_getevents
// keeps the processor that it came with until the scheduler notices, which
// with one processor delays everything.
func (g *ring) sleep() {
	defer close(g.done)
	_ = g.wake.Read(func(uintptr) bool {
		if g.turn.Take() {
			g.serve()
		}
		return false // an edge of the eventfd wakes us, its count is not needed
	})
}

// PollSource takes the completions that are there (bdev.Source).
func (g *ring) PollSource() bool {
	return g.turn.Try() && g.serve() // without the turn events may not be looked at: close takes them away
}

// serve takes completions and gives the turn back.
func (g *ring) serve() bool {
	any := false
	for {
		for g.reap() {
			any = true
		}
		if g.turn.Give() {
			return any
		}
	}
}

type reaped struct {
	t   *task
	res int64
}

// reap completes what the kernel has done. The kernel lets its ring be read
// without a system call by one reader at a time.
func (g *ring) reap() bool {
	head, tail := g.events.head, atomic.LoadUint32(&g.events.tail)
	if head == tail {
		return false
	}
	first := unsafe.Add(unsafe.Pointer(g.events), uintptr(g.events.length))
	g.mu.Lock()
	for head != tail {
		ev := (*event)(unsafe.Add(first, uintptr(head)*unsafe.Sizeof(event{})))
		slot := uint32(ev.data)
		g.taken = append(g.taken, reaped{t: g.slots[slot], res: ev.res})
		g.release(slot)
		if head++; head == g.events.size {
			head = 0
		}
	}
	left := len(g.slots) - len(g.free)
	g.mu.Unlock()
	atomic.StoreUint32(&g.events.head, head)
	g.learn(g.taken[len(g.taken)-1].t.start, left)
	for i := range g.taken {
		g.complete(g.taken[i].t, g.taken[i].res, &g.batch)
		g.taken[i].t = nil
	}
	g.taken = g.taken[:0]
	g.FlushBatch(&g.batch)
	g.batch.Flush()
	return true
}

// learn keeps how long it takes until something is complete, where transfers
// are under way. start is when one that is complete now was submitted, left
// how many are still under way.
func (g *ring) learn(start int64, left int) {
	now := bdev.Clock()
	took := now - max(start, g.last)
	g.last = now
	g.pace.Store((7*g.pace.Load() + took) / 8)
	if left == 0 {
		g.hot.Expect(0)
		return
	}
	g.expect(now)
}

// longest is how long it may pay to poll for a transfer, ns: what takes
// longer than a few wake-ups is better slept for.
const longest = int64(100 * time.Microsecond)

// expect has those who poll wait for what is under way, when that has been
// quick lately.
func (g *ring) expect(now int64) {
	g.hot.Warm(now)
	if pace := g.pace.Load(); pace > 0 && pace < longest {
		g.hot.Expect(now + min(2*pace, longest))
	}
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

// close tears the context down; nothing is in flight. Nobody gets the turn
// any more, because the shared memory goes with the context.
func (g *ring) close() {
	g.signal.Close()
	<-g.done
	for !g.turn.Take() {
		runtime.Gosched()
	}
	g.hot.Cool()
	unix.Syscall(unix.SYS_IO_DESTROY, g.ctx, 0, 0)
}
