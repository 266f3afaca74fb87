package nvmftgt

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/virtual-disk-array/vda/nvme"
)

// queue is the queue pair: the commands of its host, the memory that they hold,
// and how far the host has been told that the submission queue is worked off.
type queue struct {
	conn *conn
	id   uint16 // set by Connect, then constant
	size uint32 // entries of the submission queue; set by Connect, then constant

	// The reader's own, as conn.rx is.
	local     []*cmd // free slots
	fusedOne  *cmd   // first command of a fused pair
	starting  *cmd   // is being handed to its device
	carriedIn uint64 // bytes of data that came with commands
	spared    int    // commands that need not wait for those that are hungry
	farewell  *cmd   // Disconnect: nothing behind it is taken

	asked    atomic.Int32  // R2Ts whose data is not all here
	inflight atomic.Int64  // commands at a device
	idle     chan struct{} // inflight has become 0 while the connection closes

	// conn.mu guards the rest; slots is read by the reader without it, which
	// alone appends.
	slots      []*cmd
	free       []*cmd
	waiting    []*cmd // for a buffer
	held       int    // bytes in buffers
	queued     bool   // in Target.memory
	carriedOut uint64 // of carriedIn, those of commands that have ended
	head       uint32 // of the submission queue
	untold     uint32 // commands that have ended since the host was told the head
	tellHead   uint32 // how many may
	noFlow     bool   // the host wants no flow control of the submission queue
	completed  uint64 // commands that were answered
}

// growSlots allows n commands at once and as many more as replies may be on
// their way to a host that has sent the next command already.
func (q *queue) growSlots(n int) {
	q.conn.mu.Lock()
	defer q.conn.mu.Unlock()
	q.slots = append(make([]*cmd, 0, 2*n), q.slots...)
}

// slot returns a free slot, or nil when the host has more commands under way
// than its queue is long. Only the reader calls it.
func (q *queue) slot() *cmd {
	conn := q.conn
	if len(q.local) == 0 {
		conn.mu.Lock()
		q.local, q.free = q.free, q.local
		if len(q.local) == 0 && len(q.slots) < cap(q.slots) {
			c := newCmd(conn, uint16(len(q.slots)))
			q.slots = append(q.slots, c)
			q.local = append(q.local, c)
		}
		conn.mu.Unlock()
		if len(q.local) == 0 {
			return nil
		}
	}
	c := q.local[len(q.local)-1]
	q.local = q.local[:len(q.local)-1]
	c.to(taken)
	return c
}

// freeSlot returns the slot of a command that is over, and what it holds;
// conn.mu is held.
func (q *queue) freeSlot(c *cmd) {
	c.to(free)
	if c.buf != nil {
		c.releaseLocked()
	}
	c.reset()
	q.free = append(q.free, c)
}

// unwound is called after a panic of the reader's pass. A command that it was
// about to start, and the device never had, is over, so that nobody waits for
// it.
func (q *queue) unwound() {
	if c := q.starting; c != nil && c.state == starting {
		c.drop()
	}
	q.starting = nil
}

// leaveInflight ends a command's time at the device.
func (q *queue) leaveInflight() {
	if q.inflight.Add(-1) == 0 && q.conn.closing.Load() {
		select {
		case q.idle <- struct{}{}:
		default:
		}
	}
}

// outstanding reports whether a command is still to be answered. Those whose
// data has not come are not.
func (q *queue) outstanding() bool {
	conn := q.conn
	conn.mu.Lock()
	defer conn.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, (*cmd).fromHost)
	return q.inflight.Load() != 0 || len(q.waiting) > 0 || slices.ContainsFunc(q.slots, func(c *cmd) bool { return c.kept.Load() })
}

// abortable aborts the command cid: one that waits for a buffer is returned,
// to be answered now, and to be followed by leaveInflight.
func (q *queue) abortable(cid uint16) (m *cmd, aborted bool) {
	conn := q.conn
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.closing.Load() {
		return nil, false
	}
	for i, m := range q.waiting {
		if m.sqe.CID() == cid && m.sqe.Fused() == 0 { // its queue's reader may hold one of a pair
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			q.inflight.Add(1) // keeps teardown away
			return m, true
		}
	}
	due := recvOut | uint32(cid)
	for _, m := range q.slots {
		if m.receiving.CompareAndSwap(due, due|recvAborted) {
			return nil, true
		}
	}
	return nil, false
}

// setFlow sets up the flow control of the submission queue (base 2.0, section
// 3.3.1.1 and 6.3). With it a host knows from the completions how far the queue
// has been worked off, so that one is sent in time even where the SUCCESS flag
// would do; off, the flag always does.
func (q *queue) setFlow(off bool) {
	q.conn.mu.Lock()
	defer q.conn.mu.Unlock()
	q.noFlow, q.tellHead = off, math.MaxUint32
	if !off {
		q.tellHead = q.size / 2
	}
}

// advanceHead counts a command that has ended, also one that the SUCCESS flag
// ends; conn.mu is held.
func (q *queue) advanceHead() {
	if q.head++; q.head >= q.size {
		q.head = 0
	}
	q.untold++
}

// sqHead is the submission queue head of a completion, with which the host
// has been told; conn.mu is held. Without flow control Connect is answered by
// FFFFh, and the field is reserved afterwards.
func (q *queue) sqHead(c *cmd) uint16 {
	q.untold = 0
	switch {
	case !q.noFlow:
		return uint16(q.head)
	case c.sqe.Opcode() == nvme.OpFabrics && c.sqe.FabricsType() == nvme.FabricsConnect:
		return 0xffff
	}
	return 0
}
