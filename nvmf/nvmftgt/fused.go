package nvmftgt

import (
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// A fused pair is a Compare and the Write behind it on the same queue (base
// 2.0, section 3.4.2): both or none. The two travel as one request of
// CompareAndWrite once the data of both has arrived.

// fuse looks at the fuse bits of a new command and reports whether it may go
// on. A first command without its second is aborted.
func (q *queue) fuse(c *cmd, f uint8) bool {
	b := &q.conn.batch
	first := q.fusedOne
	if f == nvme.SecondFused && first != nil {
		q.fusedOne = nil
		if first == &failedFirst {
			c.finish(nvme.AbortFailedFused, b)
			return false
		}
		if c.sqe.Opcode() != nvme.IOWrite || c.sqe.NSID() != first.sqe.NSID() ||
			c.sqe.SLBA() != first.sqe.SLBA() || c.sqe.Blocks() != first.sqe.Blocks() {
			q.lose(first, nvme.AbortFailedFused)
			c.finish(nvme.InvalidField|nvme.DNR, b)
			return false
		}
		first.pair, c.pair = c, first
		return true
	}
	if first != nil {
		q.fusedOne = nil
		q.lose(first, nvme.AbortMissingFused)
	}
	switch f {
	case 0:
		return true
	case nvme.FirstFused:
		if c.sqe.Opcode() != nvme.IOCompare {
			c.finish(nvme.InvalidField|nvme.DNR, b)
			return false
		}
		q.fusedOne = c
		return true
	}
	c.finish(nvme.AbortMissingFused|nvme.DNR, b)
	return false
}

// failedFirst stands for a first command that has failed already: its second
// is answered accordingly.
var failedFirst cmd

// lose ends the first command of a pair that does not come about.
func (q *queue) lose(first *cmd, s nvme.Status) {
	switch {
	case first == &failedFirst:
	case first.step.ready:
		first.finish(s, &q.conn.batch)
	default: // its data is still on the way, and is answered then
		first.aborted.Store(true)
	}
}

// unfuse is called when one command of a pair fails: the other fails too.
func (q *queue) unfuse(c *cmd) {
	if q.fusedOne == c {
		q.fusedOne = &failedFirst
		return
	}
	other := c.pair
	if other == nil {
		return
	}
	c.pair, other.pair = nil, nil
	q.lose(other, nvme.AbortFailedFused)
}

// fusedReady is called when the data of one command of a pair is there.
func (q *queue) fusedReady(c *cmd, b *bdev.Batch) {
	c.to(pairing)
	c.step.ready = true
	if c.pair == nil || !c.pair.step.ready {
		c.keep()
		if c.badData {
			q.conn.fail(c, nvme.CommandInterrupted)
		}
		return
	}
	first, second := c, c.pair
	if first.sqe.Fused() == nvme.SecondFused {
		first, second = second, first
	}
	first.req.FUA = second.sqe.CDW(12)&nvme.CDW12FUA != 0 || q.conn.ctrl.writeThrough.Load()
	first.step.kind = stepPair
	first.submit(b)
}

// startPair submits both commands as one request.
func (c *cmd) startPair(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	second := c.pair
	if s := c.conflict(nvme.IOWrite); s != nvme.Success {
		c.finish(s, b)
		return
	}
	if (c.req.Transient || second.req.Transient) && i.Align > 1 { // keep looks at both
		c.keep()
		if c.badData {
			c.finish(nvme.CommandInterrupted, b)
			return
		}
	}
	c.req.Transient = c.req.Transient || second.req.Transient
	iov := append(append(c.step.part[:0], c.iov...), second.iov...)
	c.req.Op, c.req.Iov = bdev.OpCompareAndWrite, iov
	c.to(away)
	h.Submit(&c.req, b)
}

// finishSecond ends the second command of a pair after the first.
func finishSecond(second *cmd, s nvme.Status, b *bdev.Batch) {
	second.pair = nil
	if s != nvme.Success {
		s = nvme.AbortFailedFused
	}
	second.finish(s, b)
}
