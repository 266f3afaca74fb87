package nvmftgt

import (
	"fmt"
	"sync/atomic"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// state is where a command is; the package comment draws how it moves. Only to
// changes it. The goroutine that has the command reads and changes its state
// without a lock: which one that is follows from the state, and each hand-over
// is through a lock or an atomic of the new owner.
type state uint8

const (
	free      state = iota // the slot has no command; it is in conn.free or conn.local
	taken                  // the reader looks at it
	waiting                // in conn.waiting, for a buffer
	receiving              // an R2T is out; the data is on its way
	pairing                // fused: its data is here, and waits for that of the other, or for the other to be done
	event                  // an Asynchronous Event Request in controller.events
	held                   // in namespace.held, for the end of a swap
	entering               // at the gate of its namespace
	starting               // inside; about to be handed to the device
	away                   // the device has it: only the device can say that it is over
	settling               // a reservation is changed: outside again, also while those inside end
	replying               // its answer is queued or being sent
	showing                // the same, and the answer is sent from the device's own memory
	dropped                // over without an answer: the connection is closing
	stateCount
)

var stateNames = [stateCount]string{"free", "taken", "waiting", "receiving", "pairing", "event", "held",
	"entering", "starting", "away", "settling", "replying", "showing", "dropped"}

func (s state) String() string { return stateNames[s] }

// moves says for each state which may follow it.
var moves = [stateCount]uint32{
	free:      1 << taken,
	taken:     1<<waiting | 1<<receiving | 1<<pairing | 1<<event | 1<<entering | 1<<replying | 1<<dropped,
	waiting:   1<<receiving | 1<<entering | 1<<replying | 1<<dropped,
	receiving: 1<<taken | 1<<dropped,
	pairing:   1<<entering | 1<<replying | 1<<dropped,
	event:     1<<replying | 1<<free,
	held:      1 << entering,
	entering:  1<<starting | 1<<held | 1<<replying | 1<<dropped,
	starting:  1<<away | 1<<waiting | 1<<entering | 1<<settling | 1<<replying | 1<<dropped,
	away:      1<<entering | 1<<replying | 1<<showing | 1<<dropped,
	settling:  1 << replying,
	replying:  1<<free | 1<<dropped,
	showing:   1<<free | 1<<dropped,
}

// What a command holds in a state, beside memory, and how it looks to others
// than its owner.
const (
	counted = 1 << iota // in conn.inflight: the connection does not settle before it is elsewhere
	inside              // in its namespace's gate: the device is not closed before it is elsewhere
	due                 // its data is: cmd.receiving
	lent                // to a namespace or a controller, which also releases it: cmd.kept
)

var holds = [stateCount]uint8{
	receiving: due,
	event:     lent,
	held:      lent,
	entering:  counted,
	starting:  counted | inside,
	away:      counted | inside,
	settling:  counted,
	showing:   inside,
}

// to moves c to the state s. It enters c in conn.inflight, and takes it out of
// its gate, as s says. What it does not do is to take c out of conn.inflight:
// it reports whether that is left to the caller, as the last thing that it
// does, since a connection that closes waits for it and then releases every
// slot. To enter a gate may fail; starting is for one that has.
func (c *cmd) to(s state) (leave bool) {
	if holds[c.state] == holds[s] && checking == nil { // short enough to be inlined
		c.state = s
		return false
	}
	return c.move(s)
}

func (c *cmd) move(s state) (leave bool) {
	was := c.state
	if checking != nil {
		checkMove(was, s)
	}
	c.state = s
	lost, got := holds[was]&^holds[s], holds[s]&^holds[was]
	if lost&inside != 0 {
		c.ns.gate.leave()
	}
	if got&counted != 0 {
		c.conn.q.inflight.Add(1)
	}
	if (lost|got)&(due|lent) != 0 {
		c.show(lost, got)
	}
	return lost&counted != 0
}

// show tells others than its owner where c is.
func (c *cmd) show(lost, got uint8) {
	if lost&due != 0 && c.receiving.Swap(0)&recvAborted != 0 {
		c.aborted.Store(true)
	}
	if got&due != 0 {
		c.receiving.Store(recvOut | uint32(c.sqe.CID()))
	}
	if got&lent != 0 {
		c.kept.Store(true)
	} else if c.state == free {
		c.kept.Store(false) // in other states it is kept until its answer is queued
	}
}

// Bits of cmd.receiving above the command id.
const (
	recvOut     = 1 << 16 // set while the data is due
	recvAborted = 1 << 17 // an Abort was told that the command will not be executed
)

// checking counts the moves, and has one that moves does not list panic; nil
// outside of tests.
var checking *[stateCount][stateCount]atomic.Uint64

func checkMove(was, s state) {
	checking[was][s].Add(1)
	if moves[was]>>s&1 == 0 {
		panic(fmt.Sprintf("a command that is %v becomes %v", was, s))
	}
}

// finish ends c with status s and queues the reply.
func (c *cmd) finish(s nvme.Status, b *bdev.Batch) {
	if s != nvme.Success {
		c.toHost = false
		c.conn.noteError(c, s)
	}
	end := replying
	if c.mapped && c.toHost {
		end = showing
	}
	conn, leave := c.conn, c.to(end)
	if !c.toHost {
		c.release(b)
	}
	var second *cmd
	if c.step.kind == stepPair {
		second = c.pair
	}
	conn.reply(c, s, b) // the slot may be in use again from here on
	if second != nil {
		finishSecond(second, s, b)
	}
	if leave {
		conn.q.leaveInflight()
	}
}

// drop ends c without a reply: the connection is closing.
func (c *cmd) drop() {
	conn, leave := c.conn, c.to(dropped)
	c.release(nil)
	if leave {
		conn.q.leaveInflight()
	}
}

// release gives back the memory that c holds and goes on with commands that
// wait for some, unless b is nil.
func (c *cmd) release(b *bdev.Batch) {
	if c.buf == nil && c.reserved == 0 {
		return
	}
	conn := c.conn
	conn.mu.Lock()
	c.releaseLocked()
	waiting := len(conn.q.waiting) > 0
	conn.mu.Unlock()
	if waiting && b != nil {
		conn.q.serveWaiting(b, false)
	}
}

// releaseLocked is release for one who has conn.mu and serves those that wait.
func (c *cmd) releaseLocked() {
	if c.buf != nil {
		c.conn.q.putBuf(c.buf)
		c.buf = nil
	}
	if c.reserved > 0 {
		c.conn.q.unreserve(c)
	}
}
