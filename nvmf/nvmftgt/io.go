package nvmftgt

import (
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// io takes a command of an I/O queue. data is what came in the capsule and
// stays valid until io returns.
func (conn *conn) io(c *cmd, data []byte) {
	b := &conn.batch
	op := c.sqe.Opcode()
	if f := c.sqe.Fused(); f != 0 || conn.q.fusedOne != nil {
		if !conn.q.fuse(c, f) {
			return
		}
	}
	if op == nvme.IOFlush && c.sqe.NSID() == nvme.NSIDAll {
		c.step.kind = stepFlush
		c.nextFlush(b)
		return
	}
	n := conn.sub.namespace(c.sqe.NSID())
	if n == nil {
		conn.fail(c, conn.absent(c.sqe.NSID()))
		return
	}
	c.ns = n
	need, s := c.plan(op)
	if s != nvme.Success {
		conn.fail(c, s)
		return
	}
	c.n = need
	if op.Transfer() != nvme.HostToController {
		if need > 0 {
			if s := c.sink(need); s != nvme.Success {
				c.finish(s, b)
				return
			}
		}
		c.submit(b)
		return
	}
	if need == 0 {
		c.submit(b)
		return
	}
	data, s = c.source(need, data)
	if s != nvme.Success {
		conn.fail(c, s)
		return
	}
	if data != nil {
		c.setData(data)
		c.req.Transient = true
		c.carried = need
		conn.q.carriedIn += uint64(need)
		conn.ioReady(c, b)
		return
	}
	if s = c.access(); s == nvme.Success {
		s = c.conflict(op)
	}
	if s != nvme.Success { // before the host sends it all
		conn.fail(c, s)
		return
	}
	c.receive()
}

// ioReady goes on with a command whose data is there.
func (conn *conn) ioReady(c *cmd, b *bdev.Batch) {
	switch {
	case c.aborted.Load():
		conn.fail(c, nvme.AbortRequested)
	case c.badData:
		conn.fail(c, nvme.TransientTransport)
	case c.sqe.Fused() != 0:
		conn.q.fusedReady(c, b)
	default:
		c.submit(b)
	}
}

// fail ends c, and the other command of its pair.
func (conn *conn) fail(c *cmd, s nvme.Status) {
	if c.sqe.Fused() != 0 {
		conn.q.unfuse(c)
	}
	c.finish(s, &conn.batch)
}

// absent is the status of a namespace id without a namespace: where ANA says
// that its group is inaccessible, that, so that a host under multipath waits
// instead of failing.
func (conn *conn) absent(nsid uint32) nvme.Status {
	if conn.sub.cfg.ANAReporting && nsid != 0 && nsid <= conn.sub.cfg.MaxNamespaces {
		group := nsid
		if g := conn.sub.lastGroup[nsid-1].Load(); g != 0 {
			group = g
		}
		if s := conn.lis.ana.status(group); s != nvme.Success {
			return s
		}
	}
	return nvme.InvalidNamespace | nvme.DNR
}

// plan checks an I/O command and returns the bytes of data it moves.
func (c *cmd) plan(op nvme.Opcode) (uint32, nvme.Status) {
	i := c.ns.deviceInfo()
	switch op {
	case nvme.IOFlush:
		return 0, nvme.Success
	case nvme.IORead, nvme.IOWrite, nvme.IOCompare, nvme.IOVerify, nvme.IOWriteZeroes:
		c.req.Offset, c.req.Blocks = c.sqe.SLBA(), uint64(c.sqe.Blocks())
		if end := c.req.Offset + c.req.Blocks; end > i.Blocks || end < c.req.Offset {
			return 0, nvme.LBAOutOfRange | nvme.DNR
		}
		if op == nvme.IOWriteZeroes && c.req.Blocks*uint64(i.BlockSize) > 4096<<writeZeroesPages {
			return 0, nvme.InvalidField | nvme.DNR
		}
		if op == nvme.IOVerify || op == nvme.IOWriteZeroes {
			return 0, nvme.Success
		}
		bytes := c.req.Blocks * uint64(i.BlockSize)
		if bytes > uint64(c.conn.opts.maxIO) {
			return 0, nvme.InvalidField | nvme.DNR
		}
		return uint32(bytes), nvme.Success
	case nvme.IODatasetManagement:
		return (c.sqe.CDW(10)&0xff + 1) * nvme.DSMRangeLen, nvme.Success
	}
	if !c.ns.sub.reserves() {
		return 0, nvme.InvalidOpcode | nvme.DNR
	}
	switch op {
	case nvme.IOResvRegister, nvme.IOResvAcquire:
		return 16, nvme.Success
	case nvme.IOResvRelease:
		return 8, nvme.Success
	case nvme.IOResvReport:
		bytes := (uint64(c.sqe.CDW(10)) + 1) * 4
		if bytes > uint64(c.conn.opts.maxIO) {
			return 0, nvme.InvalidField | nvme.DNR
		}
		return uint32(bytes), nvme.Success
	}
	return 0, nvme.InvalidOpcode | nvme.DNR
}

// start begins a command at the device; the namespace's gate is entered.
func (c *cmd) start(h *bdev.Handle, b *bdev.Batch) {
	i := h.Info()
	r := &c.req
	if c.step.kind == stepPair {
		c.startPair(h, i, b)
		return
	}
	if r.Transient && i.Align > 1 { // data in the capsule lies anywhere
		c.keep()
		if c.badData {
			c.finish(nvme.CommandInterrupted, b)
			return
		}
	}
	switch c.sqe.Opcode() {
	case nvme.IORead:
		if !c.room(h) {
			return
		}
		c.toHost = true
		r.Op, r.Iov = bdev.OpRead, c.iov
	case nvme.IOWrite:
		r.Op, r.Iov = bdev.OpWrite, c.iov
		r.FUA = c.sqe.CDW(12)&nvme.CDW12FUA != 0 || c.conn.ctrl.writeThrough.Load()
	case nvme.IOFlush:
		r.Op, r.Offset, r.Blocks, r.Iov, r.FUA = bdev.OpFlush, 0, 0, nil, false
		if !i.Ops.Has(bdev.OpFlush) {
			c.advance(nvme.Success, b)
			return
		}
	case nvme.IOCompare:
		r.Op, r.Iov = bdev.OpCompare, c.iov
	case nvme.IOWriteZeroes:
		c.startWriteZeroes(h, i, b)
		return
	case nvme.IOVerify:
		c.startVerify(h, i, b)
		return
	case nvme.IODatasetManagement:
		c.startDSM(h, i, b)
		return
	default:
		c.reserve(h, b)
		return
	}
	c.to(away)
	h.Submit(r, b)
}

// room finds memory for the data of a read: the device's own where it can be
// had and does not change between digest and sending, a buffer otherwise.
// Without a buffer c waits and room returns false.
func (c *cmd) room(h *bdev.Handle) bool {
	conn := c.conn
	if c.buf != nil {
		return true
	}
	if !conn.ddgst {
		if iov, ok := h.Map(c.pieces[:0], c.req.Offset, c.req.Blocks); ok {
			c.iov, c.mapped = iov, true
			return true
		}
	}
	if c.buf = conn.q.getBuf(int(c.n)); c.buf != nil {
		c.setData(c.buf)
		return true
	}
	c.park()
	return false
}

// park has c wait until there is a buffer for it, at the gate or before.
func (c *cmd) park() {
	conn, leave := c.conn, c.to(waiting)
	conn.q.await(c) // it may be elsewhere from here on
	if leave {
		conn.q.leaveInflight()
	}
}

// deviceInfo is the description of the namespace's device, or of the one it had.
func (n *namespace) deviceInfo() *bdev.Info {
	if h := n.handle.Load(); h != nil {
		return h.Info()
	}
	if i := n.last.Load(); i != nil {
		return i
	}
	return &bdev.Info{}
}
