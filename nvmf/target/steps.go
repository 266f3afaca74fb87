package target

import (
	"bytes"

	"vda/bdev"
	"vda/nvme"
)

// Kinds of commands that take several requests at the device, one after
// another.
const (
	stepNone    uint8 = iota
	stepSplit         // a transfer larger than the device takes
	stepCompare       // read, then compare here
	stepZeroes        // Write Zeroes, also by writing zeros
	stepVerify        // read and forget
	stepDSM           // ranges to unmap
	stepPair          // compare and write; no further request
)

// stepper is the progress of such a command.
type stepper struct {
	kind   uint8
	ready  bool // fused: the data is there
	handle *bdev.Handle
	at     uint64 // next block, or next range
	end    uint64
	most   uint64 // blocks of a request
	byteAt int    // of the data
	all    [][]byte
	part   [4][]byte
}

// zeros is what Write Zeroes writes to devices that have no operation for it.
var zeros = make([]byte, 128<<10)

// advance is called when a request of c is done.
func (c *cmd) advance(s nvme.Status, b *bdev.Batch) {
	st := &c.step
	switch {
	case st.kind == stepNone, st.kind == stepPair:
		c.finish(s, b)
	case s != nvme.Success:
		if st.kind == stepCompare {
			c.k.putBuf(st.part[0], b)
		}
		c.finish(s, b)
	case st.kind == stepCompare:
		c.compared(b)
	case st.at < st.end:
		c.next(b)
	default:
		c.finish(nvme.Success, b)
	}
}

// next submits the next request.
func (c *cmd) next(b *bdev.Batch) {
	st, r := &c.step, &c.req
	size := uint64(st.handle.Info().BlockSize)
	if st.kind == stepDSM {
		c.nextRange(b)
		return
	}
	r.Offset, r.Blocks = st.at, min(st.most, st.end-st.at)
	st.at += r.Blocks
	n := int(r.Blocks * size)
	switch st.kind {
	case stepSplit:
		r.Iov = window(st.part[:0], st.all, st.byteAt, n)
		st.byteAt += n
	case stepZeroes:
		if r.Op == bdev.OpWrite {
			st.part[0] = zeros[:n]
			r.Iov = st.part[:1]
		}
	case stepVerify:
		st.part[0] = c.buf[:n]
		r.Iov = st.part[:1]
	}
	st.handle.Submit(r, b)
}

// window appends to dst the n bytes of iov from at on.
func window(dst, iov [][]byte, at, n int) [][]byte {
	for _, p := range iov {
		if at >= len(p) {
			at -= len(p)
			continue
		}
		p = p[at:min(len(p), at+n)]
		at = 0
		dst = append(dst, p)
		if n -= len(p); n == 0 {
			break
		}
	}
	return dst
}

// split submits a read or write in pieces of at most i.MaxIO blocks. The
// in-capsule data of a write is kept, because later pieces outlive the pass.
func (c *cmd) split(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	if c.req.Transient {
		c.keep()
		c.state.Store(cmdActive)
		if c.badData {
			c.finish(nvme.CommandInterrupted, b)
			return
		}
	}
	c.step = stepper{kind: stepSplit, handle: h, at: c.req.Offset, end: c.req.Offset + c.req.Blocks, most: uint64(i.MaxIO), all: c.iov}
	c.next(b)
}

// startCompare compares at the device, or reads and compares here.
func (c *cmd) startCompare(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	r := &c.req
	if i.Ops.Has(bdev.OpCompare) && (i.MaxIO == 0 || r.Blocks <= uint64(i.MaxIO)) && !(r.Transient && i.Align > 1) {
		r.Op, r.Iov = bdev.OpCompare, c.iov
		h.Submit(r, b)
		return
	}
	if r.Transient {
		c.keep()
		c.state.Store(cmdActive)
	}
	buf := c.k.getBuf(int(c.n), true)
	if c.badData || buf == nil || i.MaxIO > 0 && r.Blocks > uint64(i.MaxIO) {
		if buf != nil {
			c.k.putBuf(buf, nil)
		}
		c.finish(nvme.CommandInterrupted, b)
		return
	}
	c.step = stepper{kind: stepCompare, handle: h}
	c.step.part[0] = buf
	r.Op, r.Iov = bdev.OpRead, c.step.part[:1]
	h.Submit(r, b)
}

func (c *cmd) compared(b *bdev.Batch) {
	medium := c.step.part[0]
	s := nvme.Success
	rest := medium
	for _, p := range c.iov {
		if !bytes.Equal(p, rest[:len(p)]) {
			s = nvme.CompareFailure | nvme.DNR
			break
		}
		rest = rest[len(p):]
	}
	c.k.putBuf(medium, b)
	c.finish(s, b)
}

// startWriteZeroes zeroes blocks by what the device offers.
func (c *cmd) startWriteZeroes(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	r := &c.req
	st := &c.step
	*st = stepper{kind: stepZeroes, handle: h, at: r.Offset, end: r.Offset + r.Blocks, most: r.Blocks}
	if i.MaxIO > 0 {
		st.most = uint64(i.MaxIO)
	}
	r.FUA = c.sqe.CDW(12)&nvme.CDW12FUA != 0 || c.k.ctrl.writeThrough.Load()
	switch {
	case c.sqe.CDW(12)&nvme.CDW12Deallocate != 0 && i.UnmapZeroes && i.Ops.Has(bdev.OpUnmap):
		r.Op = bdev.OpUnmap
	case i.Ops.Has(bdev.OpWriteZeroes):
		r.Op = bdev.OpWriteZeroes
	default:
		r.Op = bdev.OpWrite
		st.most = min(st.most, uint64(len(zeros))/uint64(i.BlockSize))
	}
	c.next(b)
}

// startVerify reads the blocks and forgets them.
func (c *cmd) startVerify(h *bdev.Handle, i *bdev.Info, b *bdev.Batch) {
	size := min(c.req.Blocks*uint64(i.BlockSize), uint64(len(zeros)))
	if c.buf = c.k.getBuf(int(size), true); c.buf == nil {
		c.finish(nvme.CommandInterrupted, b)
		return
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
	if c.sqe.CDW(11)&nvme.CDW11Deallocate == 0 || !i.Ops.Has(bdev.OpUnmap) {
		c.finish(nvme.Success, b)
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
		c.state.Store(cmdActive)
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

// nextRange unmaps the next range, in pieces that the device takes. byteAt is
// how many blocks of it are done.
func (c *cmd) nextRange(b *bdev.Batch) {
	st, r := &c.step, &c.req
	for st.at < st.end {
		d := c.dsmRange(st.at)
		done := uint32(st.byteAt)
		if done >= d.Blocks {
			st.at++
			st.byteAt = 0
			continue
		}
		n := d.Blocks - done
		if most := st.handle.Info().MaxIO; most > 0 {
			n = min(n, most)
		}
		r.Offset, r.Blocks, r.Iov = d.SLBA+uint64(done), uint64(n), nil
		if done+n == d.Blocks {
			st.at++
			st.byteAt = 0
		} else {
			st.byteAt = int(done + n)
		}
		st.handle.Submit(r, b)
		return
	}
	c.finish(nvme.Success, b)
}
