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
	ring := &ring{d: d, done: make(chan struct{}), slots: make([]*task, depth)}
	for i := range ring.slots {
		ring.free = append(ring.free, uint32(i))
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	ring.signal = os.NewFile(uintptr(fd), "eventfd")
	if ring.wake, err = ring.signal.SyscallConn(); err != nil {
		ring.signal.Close()
		return nil, err
	}
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&ring.ctx)), 0); e != 0 {
		ring.signal.Close()
		return nil, e
	}
	ring.events = *(**events)(unsafe.Pointer(&ring.ctx)) // a context's id is the address of its ring
	if ring.events.magic != eventsMagic || ring.events.incompat != 0 {
		unix.Syscall(unix.SYS_IO_DESTROY, ring.ctx, 0, 0)
		ring.signal.Close()
		return nil, unix.ENOSYS
	}
	ring.fd = uint32(fd)
	ring.hot.Init(ring)
	go ring.sleep()
	return ring, nil
}

// add queues t for the end of the pass.
func (ring *ring) add(t *task, b *bdev.Batch) {
	ring.mu.Lock()
	if n := len(ring.free); n > 0 && len(ring.queue) == 0 {
		slot := ring.free[n-1]
		ring.free = ring.free[:n-1]
		ring.prepare(t, slot)
	} else {
		ring.queue = append(ring.queue, t)
	}
	ring.mu.Unlock()
	b.AddOnce(ring)
}

// prepare fills t's iocb; ring.mu is held.
func (ring *ring) prepare(t *task, slot uint32) {
	ring.slots[slot] = t
	cb := &t.cb
	*cb = iocb{data: uint64(slot), fd: uint32(ring.d.fd), offset: t.offset, flags: flagEvent, eventFD: ring.fd}
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
	ring.pending = append(ring.pending, cb)
}

// FlushBatch submits what is pending, of whichever goroutine. When another
// goroutine is at it, that one takes ours along.
func (ring *ring) FlushBatch(b *bdev.Batch) {
	ring.mu.Lock()
	for !ring.busy && len(ring.pending) > 0 {
		list := ring.pending
		ring.pending, ring.spare = ring.spare[:0], nil
		ring.busy = true
		now := bdev.Clock()
		for _, cb := range list {
			ring.slots[cb.data].start = now
		}
		ring.mu.Unlock()
		ring.submit(list, b)
		clear(list)
		ring.mu.Lock()
		ring.spare = list[:0]
		ring.busy = false
	}
	ring.mu.Unlock()
}

// submit hands list to the kernel. What it does not take goes to the pool.
func (ring *ring) submit(list []*iocb, b *bdev.Batch) {
	ring.expect(bdev.Clock())
	for len(list) > 0 {
		n, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, ring.ctx, uintptr(len(list)), uintptr(unsafe.Pointer(&list[0])))
		switch e {
		case 0:
			list = list[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			for _, cb := range list {
				ring.d.pool.add(ring.take(uint32(cb.data)))
			}
			return
		default:
			// The first of the list is at fault.
			ring.take(uint32(list[0].data)).finish(ring.d, e, b)
			list = list[1:]
		}
	}
}

// take frees a slot and returns its task.
func (ring *ring) take(slot uint32) *task {
	ring.mu.Lock()
	t := ring.slots[slot]
	ring.release(slot)
	ring.mu.Unlock()
	return t
}

// release gives the slot to the next in the queue; ring.mu is held.
func (ring *ring) release(slot uint32) {
	if len(ring.queue) == 0 {
		ring.slots[slot] = nil
		ring.free = append(ring.free, slot)
		return
	}
	t := ring.queue[0]
	n := copy(ring.queue, ring.queue[1:])
	ring.queue[n] = nil
	ring.queue = ring.queue[:n]
	ring.prepare(t, slot)
}

// sleep takes the completions that nobody has polled for, as long as the ring
// is open. It sleeps in the runtime's poller: a thread asleep in io_getevents
// keeps the processor that it came with until the scheduler notices, which
// with one processor delays everything.
func (ring *ring) sleep() {
	defer close(ring.done)
	_ = ring.wake.Read(func(uintptr) bool {
		if ring.turn.Take() {
			ring.serve()
		}
		return false // an edge of the eventfd wakes us, its count is not needed
	})
}

// PollSource takes the completions that are there (bdev.Source).
func (ring *ring) PollSource() bool {
	return ring.turn.Try() && ring.serve() // without the turn events may not be looked at: close takes them away
}

// serve takes completions and gives the turn back.
func (ring *ring) serve() bool {
	any := false
	for {
		for ring.reap() {
			any = true
		}
		if ring.turn.Give() {
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
func (ring *ring) reap() bool {
	head, tail := ring.events.head, atomic.LoadUint32(&ring.events.tail)
	if head == tail {
		return false
	}
	first := unsafe.Add(unsafe.Pointer(ring.events), uintptr(ring.events.length))
	ring.mu.Lock()
	for head != tail {
		ev := (*event)(unsafe.Add(first, uintptr(head)*unsafe.Sizeof(event{})))
		slot := uint32(ev.data)
		ring.taken = append(ring.taken, reaped{t: ring.slots[slot], res: ev.res})
		ring.release(slot)
		if head++; head == ring.events.size {
			head = 0
		}
	}
	left := len(ring.slots) - len(ring.free)
	ring.mu.Unlock()
	atomic.StoreUint32(&ring.events.head, head)
	ring.learn(ring.taken[len(ring.taken)-1].t.start, left)
	for i := range ring.taken {
		ring.complete(ring.taken[i].t, ring.taken[i].res, &ring.batch)
		ring.taken[i].t = nil
	}
	ring.taken = ring.taken[:0]
	ring.FlushBatch(&ring.batch)
	ring.batch.Flush()
	return true
}

// learn keeps how long it takes until something is complete, where transfers
// are under way. start is when one that is complete now was submitted, left
// how many are still under way.
func (ring *ring) learn(start int64, left int) {
	now := bdev.Clock()
	took := now - max(start, ring.last)
	ring.last = now
	ring.pace.Store((7*ring.pace.Load() + took) / 8)
	if left == 0 {
		ring.hot.Expect(0)
		return
	}
	ring.expect(now)
}

// longest is how long it may pay to poll for a transfer, ns: what takes
// longer than a few wake-ups is better slept for.
const longest = int64(100 * time.Microsecond)

// expect has those who poll wait for what is under way, when that has been
// quick lately.
func (ring *ring) expect(now int64) {
	ring.hot.Warm(now)
	if pace := ring.pace.Load(); pace > 0 && pace < longest {
		ring.hot.Expect(now + min(2*pace, longest))
	}
}

// complete ends a transfer, or sends the rest of a short one to the pool,
// which finds out why it was short.
func (ring *ring) complete(t *task, res int64, b *bdev.Batch) {
	switch {
	case res < 0:
		t.finish(ring.d, syscall.Errno(-res), b)
	case int(res) < t.left:
		t.advance(int(res))
		ring.d.pool.add(t)
	default:
		t.finish(ring.d, 0, b)
	}
}

// close tears the context down; nothing is in flight. Nobody gets the turn
// any more, because the shared memory goes with the context.
func (ring *ring) close() {
	ring.signal.Close()
	<-ring.done
	for !ring.turn.Take() {
		runtime.Gosched()
	}
	ring.hot.Cool()
	unix.Syscall(unix.SYS_IO_DESTROY, ring.ctx, 0, 0)
}
