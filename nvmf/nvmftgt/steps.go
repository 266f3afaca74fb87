package nvmftgt

import (
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// Kinds of commands that take several requests at the device, one after
// another.
const (
	stepNone   uint8 = iota
	stepVerify       // read and forget
	stepDSM          // ranges to unmap
	stepPair         // compare and write; no further request
	stepFlush        // one namespace after another
	stepReport       // a Reservation Report that another target answers; no further request
)

// stepper is the progress of such a command.
type stepper struct {
	kind   uint8
	ready  bool // fused: the data is here; the reader's own, which looks at the other of a pair wherever that waits
	handle *bdev.Handle
	at     uint64 // next block, or next range
	end    uint64
	most   uint64 // blocks of a request
	done   uint32 // blocks of the range at hand
	part   [4][]byte
}

// verifyBytes is how much Verify reads at a time.
const verifyBytes = 128 << 10

// advance is called when a request of c is done.
func (c *cmd) advance(s nvme.Status, b *bdev.Batch) {
	st := &c.step
	switch {
	case st.kind == stepNone, st.kind == stepPair:
		c.finish(s, b)
	case st.kind == stepReport:
		if s == nvme.Success {
			c.nameControllers()
		}
		c.finish(s, b)
	case s != nvme.Success, st.kind != stepFlush && st.at >= st.end:
		c.finish(s, b)
	case c.conn.closing.Load():
		c.drop() // nobody waits for the rest, but many may wait for its end
	case c.aborted.Load():
		c.finish(nvme.AbortRequested, b)
	case st.kind == stepFlush:
		c.nextFlush(b)
	case c.ns.gate.shut() || c.access() != nvme.Success || c.conflict(c.sqe.Opcode()) != nvme.Success:
		c.submit(b) // the device is about to change, or the host may not reach it any more
	case st.kind == stepDSM:
		c.nextRange(b)
	default:
		c.next(b)
	}
}

// handOver says that the device gets a request of c, the first or another.
func (c *cmd) handOver() {
	if c.state != away {
		c.to(away)
	}
}

// next submits the next read of a Verify.
func (c *cmd) next(b *bdev.Batch) {
	st, r := &c.step, &c.req
	size := uint64(st.handle.Info().BlockSize)
	r.Offset, r.Blocks = st.at, min(st.most, st.end-st.at)
	st.at += r.Blocks
	st.part[0] = c.buf[:r.Blocks*size]
	r.Iov = st.part[:1]
	c.handOver()
	st.handle.Submit(r, b)
}

// startWriteZeroes zeroes blocks, by deallocating them where the host allows
// it and that reads as zeros.
func (c *cmd) startWriteZeroes(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	r := &c.req
	r.Op, r.Iov = bdev.OpWriteZeroes, nil // of the command before
	if c.sqe.CDW(12)&nvme.CDW12Deallocate != 0 && i.UnmapZeroes && i.Ops.Has(bdev.OpUnmap) {
		r.Op = bdev.OpUnmap
	}
	r.FUA = c.sqe.CDW(12)&nvme.CDW12FUA != 0 || c.conn.ctrl.writeThrough.Load()
	c.to(away)
	h.Submit(r, b)
}

// nextFlush flushes the next namespace of a Flush of all. One that cannot be
// flushed now fails the command: nothing was promised then.
func (c *cmd) nextFlush(b *bdev.Batch) {
	if c.state != entering {
		c.to(entering) // leaves the one before
	}
	nss := *c.conn.sub.nss.Load()
	st := &c.step
	for st.at < uint64(len(nss)) && nss[st.at] == nil {
		st.at++
	}
	if st.at == uint64(len(nss)) {
		c.finish(nvme.Success, b)
		return
	}
	c.ns = nss[st.at]
	st.at++
	c.enter(b)
}

// gone ends a command whose namespace was removed; Flush of all goes on with
// the others.
func (c *cmd) gone(b *bdev.Batch) {
	if c.step.kind == stepFlush {
		c.nextFlush(b)
		return
	}
	c.finish(nvme.InvalidNamespace, b) // another may be there
}

// startVerify reads the blocks and forgets them.
func (c *cmd) startVerify(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	if c.step.kind == stepVerify {
		c.step.handle, c.step.most = h, uint64(len(c.buf))/uint64(i.BlockSize)
		if i.MaxIO > 0 {
			c.step.most = min(c.step.most, uint64(i.MaxIO))
		}
		c.next(b)
		return
	}
	size := min(c.req.Blocks*uint64(i.BlockSize), verifyBytes)
	c.n = uint32(size)
	if c.buf == nil {
		if c.buf = c.conn.q.getBuf(int(size)); c.buf == nil {
			c.park()
			return
		}
	}
	most := size / uint64(i.BlockSize)
	if i.MaxIO > 0 {
		most = min(most, uint64(i.MaxIO))
	}
	c.step = stepper{kind: stepVerify, handle: h, at: c.req.Offset, end: c.req.Offset + c.req.Blocks, most: most}
	c.req.Op = bdev.OpRead
	c.next(b)
}

// startDSM unmaps the ranges of Dataset Management. Other attributes are
// hints that we do not use.
func (c *cmd) startDSM(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	if c.sqe.CDW(11)&nvme.CDW11Deallocate != 0 && !i.Ops.Has(bdev.OpWrite) {
		c.finish(nvme.WriteProtected|nvme.DNR, b)
		return
	}
	if c.sqe.CDW(11)&nvme.CDW11Deallocate == 0 || !i.Ops.Has(bdev.OpUnmap) {
		c.finish(nvme.Success, b)
		return
	}
	if c.step.kind == stepDSM {
		c.step.handle = h
		c.nextRange(b)
		return
	}
	ranges := uint64(c.n / nvme.DSMRangeLen)
	for at := range ranges {
		d := c.dsmRange(at)
		if end := d.SLBA + uint64(d.Blocks); end > i.Blocks || end < d.SLBA {
			c.finish(nvme.LBAOutOfRange|nvme.DNR, b)
			return
		}
	}
	if c.req.Transient {
		c.keep()
		if c.badData {
			c.finish(nvme.CommandInterrupted, b)
			return
		}
	}
	c.step = stepper{kind: stepDSM, handle: h, end: ranges}
	c.req.Op = bdev.OpUnmap
	c.nextRange(b)
}

// dsmRange returns a range of the command's data.
func (c *cmd) dsmRange(at uint64) nvme.DSMRange {
	d, err := nvme.DecodeDSMRange(c.iov[0][at*nvme.DSMRangeLen:])
	if err != nil {
		panic(err) // plan has asked for as many bytes
	}
	return d
}

// nextRange unmaps the next range, in pieces that the device takes.
func (c *cmd) nextRange(b *bdev.Batch) {
	st, r := &c.step, &c.req
	for st.at < st.end {
		d := c.dsmRange(st.at)
		if st.done >= d.Blocks {
			st.at++
			st.done = 0
			continue
		}
		n := d.Blocks - st.done
		if most := st.handle.Info().MaxIO; most > 0 {
			n = min(n, most)
		}
		r.Offset, r.Blocks, r.Iov = d.SLBA+uint64(st.done), uint64(n), nil
		st.done += n
		c.handOver()
		st.handle.Submit(r, b)
		return
	}
	c.finish(nvme.Success, b)
}
