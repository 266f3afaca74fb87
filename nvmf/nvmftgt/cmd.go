package nvmftgt

import (
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// cmd is a slot for one command. Slots belong to a connection for its
// lifetime and are reused, so that commands allocate nothing.
type cmd struct {
	conn *conn
	tag  uint16 // index in conn.slots, the transfer tag of its R2T

	state state // only to changes it

	// The same for others than the owner.
	receiving atomic.Uint32 // an R2T is out and its data not here yet: recvOut and the command id
	kept      atomic.Bool   // its keeper, a namespace or a controller, releases it

	sqe nvme.Command
	dw0 uint32
	dw1 uint32

	ns       *namespace
	req      bdev.Request
	iov      [][]byte // the data; backed by pieces unless a device maps more
	buf      []byte   // data buffer from the pool
	n        uint32   // bytes of data to move
	got      uint32   // bytes received from the host
	reserved int      // bytes of a buffer that is promised and not taken yet
	carried  uint32   // bytes of data that came with it

	toHost  bool // iov is sent with a successful reply
	mapped  bool // iov is the device's memory
	badData bool // a data digest was wrong
	aborted atomic.Bool

	step   stepper
	pair   *cmd // the other command of a fused pair
	pieces [4][]byte
}

func newCmd(conn *conn, tag uint16) *cmd {
	c := &cmd{conn: conn, tag: tag}
	c.req.Owner, c.req.Gone, c.req.NVMe = c, &conn.closing, &c.sqe
	c.req.Done = cmdDone
	return c
}

// reset makes a slot ready for another command. It runs for every command:
// what is seldom set is only cleared when it is.
func (c *cmd) reset() {
	c.dw0, c.dw1 = 0, 0
	c.iov, c.buf, c.n, c.got, c.reserved, c.carried = nil, nil, 0, 0, 0, 0
	c.toHost, c.mapped, c.badData = false, false, false
	c.req.FUA, c.req.Transient, c.req.Host = false, false, uuid.UUID{}
	if c.aborted.Load() {
		c.aborted.Store(false)
	}
	if c.step.kind != stepNone || c.step.ready {
		c.step = stepper{}
	}
	if c.pair != nil {
		c.pair = nil
	}
}

// setData makes p the data of c.
func (c *cmd) setData(p []byte) {
	c.pieces[0] = p
	c.iov = c.pieces[:1]
}

// keep makes in-capsule data of a command that cannot be submitted now
// outlive the receive buffer. Without a buffer the data is lost, and the
// command ends with a status that hosts retry.
func (c *cmd) keep() {
	if c.step.kind == stepPair && c.pair.req.Transient {
		c.pair.keep()
		c.badData = c.badData || c.pair.badData
	}
	if !c.req.Transient || len(c.iov) == 0 {
		return
	}
	c.req.Transient = false
	buf := c.conn.q.keepBuf(int(c.n))
	if buf == nil {
		c.iov = nil
		c.badData = true
		return
	}
	v := bdev.IovAt(c.iov, 0)
	v.Gather(buf)
	c.buf = buf
	c.setData(buf)
}

// submit sends c, or what is left of it, to its namespace's device: ANA state
// and reservation are looked at now, when nothing more has to come from the
// host. The reservation inside of the gate: who waits until nobody is inside,
// to change it or to put another device there, has nobody behind it who has only
// seen the one before.
func (c *cmd) submit(b *bdev.Batch) {
	c.to(entering)
	c.enter(b)
}

// enter goes on with a command at the gate of its namespace.
func (c *cmd) enter(b *bdev.Batch) {
	conn, n := c.conn, c.ns
	for {
		if c.badData {
			c.finish(nvme.TransientTransport, b)
			return
		}
		if s := c.access(); s != nvme.Success {
			if s == nvme.InvalidNamespace {
				c.gone(b)
				return
			}
			c.finish(s, b)
			return
		}
		if conn.closing.Load() { // the connection has been given up; nothing of it may reach the device
			c.drop()
			return
		}
		if n.gate.enter() {
			break
		}
		if !n.refuse(c, b) {
			return
		}
	}
	c.to(starting)
	h := n.handle.Load()
	if h == nil {
		c.finish(n.lostStatus(), b)
		return
	}
	if n.remote.Load() {
		c.req.Host = c.hostID()
	} else if s := c.conflict(c.sqe.Opcode()); s != nvme.Success {
		c.finish(s, b)
		return
	}
	if b != &conn.batch {
		c.start(h, b)
		return
	}
	conn.q.starting = c
	c.start(h, b)
	conn.q.starting = nil
}

// access is the status that keeps c from being executed, or Success.
func (c *cmd) access() nvme.Status {
	n := c.ns
	if s := c.conn.lis.ana.status(n.group.Load()); s != nvme.Success {
		return s
	}
	if c.conn.sub.namespace(n.nsid) != n { // it has gone since the command came; another may be there
		return nvme.InvalidNamespace
	}
	return nvme.Success
}

// cmdDone is the Done of every request of a command.
func cmdDone(r *bdev.Request, b *bdev.Batch) {
	c := r.Owner.(*cmd)
	if b != &c.conn.batch {
		c.conn.guarded(func() { c.advance(r.Status, b) })
		return
	}
	c.advance(r.Status, b)
}
