package host

import (
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// Completer takes the end of a request instead of Request.Complete; a layer
// that may send the request elsewhere gives one to Submit.
type Completer interface {
	CompleteIO(r *bdev.Request, s nvme.Status, b *bdev.Batch)
}

// maxBlocks is what the block count of a command can say.
const maxBlocks = 1 << 16

// Submit starts r on the namespace; Offset and Blocks count its blocks. It is
// sent when b is flushed. The end goes to done, or to r.Complete when done is
// nil; without a session that is nvme.HostPathError, at once. Requests larger
// than the controller takes are split.
//
// Flush completes at once when the controller has no volatile write cache.
func (n *Namespace) Submit(r *bdev.Request, done Completer, b *bdev.Batch) {
	s := n.ctl.session.Load()
	if s == nil {
		complete(r, done, nvme.HostPathError, b)
		return
	}
	if len(s.io) == 0 {
		complete(r, done, nvme.InvalidQueueID|nvme.DNR, b)
		return
	}
	if n.gone.Load() {
		complete(r, done, nvme.InvalidNamespace|nvme.DNR, b)
		return
	}
	if !r.Retain() {
		complete(r, done, nvme.CommandInterrupted, b)
		return
	}
	bs := uint64(n.now.Load().BlockSize)
	limit := uint64(maxBlocks)
	switch r.Op {
	case bdev.OpRead, bdev.OpWrite, bdev.OpCompare:
		if uint64(r.Bytes()) != r.Blocks*bs {
			complete(r, done, nvme.DataSGLLengthInvalid|nvme.DNR, b)
			return
		}
		limit = min(limit, max(uint64(s.maxXfer)/bs, 1))
	case bdev.OpWriteZeroes:
		if s.limits.WZSL > 0 && s.limits.WZSL < 32 {
			limit = min(limit, max(1<<(12+s.limits.WZSL)/bs, 1))
		}
	case bdev.OpUnmap:
		limit = 1<<32 - 1
		if s.limits.DMRSL > 0 {
			limit = uint64(s.limits.DMRSL)
		}
		if s.limits.DMSL > 0 {
			limit = min(limit, s.limits.DMSL)
		}
	case bdev.OpFlush:
		if s.data.VWC&nvme.VWCPresent == 0 {
			complete(r, done, nvme.Success, b)
			return
		}
		var c command
		c.sqe.Init(nvme.IOFlush, n.id)
		c.sqe.SetHost(r.Host)
		c.r, c.done = r, done
		s.pick(b).submit(&c, b)
		return
	case bdev.OpCompareAndWrite:
		n.fused(s, r, done, b)
		return
	case bdev.OpNVMeIO:
		n.passOn(s, r, done, b)
		return
	default:
		complete(r, done, nvme.InvalidOpcode|nvme.DNR, b)
		return
	}
	switch {
	case r.Blocks == 0:
		complete(r, done, nvme.Success, b)
	case r.Blocks > limit:
		newSplit(n, s, r, done, limit).advance(b)
	default:
		var c command
		n.encode(&c, r, 0, r.Blocks, bs)
		c.r, c.done = r, done
		s.pick(b).submit(&c, b)
	}
}

func complete(r *bdev.Request, done Completer, s nvme.Status, b *bdev.Batch) {
	if done != nil {
		done.CompleteIO(r, s, b)
		return
	}
	r.Complete(s, b)
}

// encode makes the command for some of r's blocks, from block at of it on.
func (n *Namespace) encode(c *command, r *bdev.Request, at, blocks, blockSize uint64) {
	switch r.Op {
	case bdev.OpRead:
		c.sqe.Init(nvme.IORead, n.id)
	case bdev.OpWrite:
		c.sqe.Init(nvme.IOWrite, n.id)
	case bdev.OpCompare:
		c.sqe.Init(nvme.IOCompare, n.id)
	case bdev.OpWriteZeroes:
		c.sqe.Init(nvme.IOWriteZeroes, n.id)
		c.sqe.SetHost(r.Host)
		c.sqe.SetLBA(r.Offset+at, uint32(blocks))
		if r.FUA {
			c.sqe.SetCDW(12, c.sqe.CDW(12)|nvme.CDW12FUA)
		}
		return
	case bdev.OpUnmap:
		c.sqe.Init(nvme.IODatasetManagement, n.id)
		c.sqe.SetHost(r.Host)
		c.sqe.SetCDW(10, 0) // one range
		c.sqe.SetCDW(11, nvme.CDW11Deallocate)
		c.ranged, c.write, c.size = true, true, nvme.DSMRangeLen
		c.rng = nvme.DSMRange{Blocks: uint32(blocks), SLBA: r.Offset + at}
		return
	}
	c.sqe.SetHost(r.Host)
	c.sqe.SetLBA(r.Offset+at, uint32(blocks))
	if r.FUA {
		c.sqe.SetCDW(12, c.sqe.CDW(12)|nvme.CDW12FUA)
	}
	c.iov, c.off, c.size = r.Iov, int(at*blockSize), uint32(blocks*blockSize)
	c.write = r.Op != bdev.OpRead
}

// passOn sends a command as the submitter made it.
func (n *Namespace) passOn(s *session, r *bdev.Request, done Completer, b *bdev.Batch) {
	size := r.Bytes()
	if uint64(size) > uint64(s.maxXfer) {
		complete(r, done, nvme.InvalidField|nvme.DNR, b)
		return
	}
	op := r.NVMe.Opcode()
	c := command{iov: r.Iov, size: uint32(size), write: op.Transfer() == nvme.HostToController, r: r, done: done}
	c.sqe.Init(op, n.id)
	c.sqe.SetHost(r.Host)
	for i := 10; i <= 15; i++ {
		c.sqe.SetCDW(i, r.NVMe.CDW(i))
	}
	s.pick(b).submit(&c, b)
}

// fused sends Compare and Write as a pair.
func (n *Namespace) fused(s *session, r *bdev.Request, done Completer, b *bdev.Batch) {
	bs := uint64(n.now.Load().BlockSize)
	switch {
	case s.data.FUSES&nvme.FUSESCompareWrite == 0:
		complete(r, done, nvme.InvalidOpcode|nvme.DNR, b)
		return
	case r.Blocks == 0 || r.Blocks > uint64(s.data.ACWU)+1 || r.Blocks*bs > uint64(s.maxXfer):
		complete(r, done, nvme.InvalidField|nvme.DNR, b)
		return
	case uint64(r.Bytes()) != 2*r.Blocks*bs:
		complete(r, done, nvme.DataSGLLengthInvalid|nvme.DNR, b)
		return
	}
	q := s.pick(b)
	if len(q.slots) < 2 {
		complete(r, done, nvme.InvalidOpcode|nvme.DNR, b)
		return
	}
	p := newSplit(n, s, r, done, r.Blocks)
	p.next, p.out, p.fused = r.Blocks, 2, true
	size := uint32(r.Blocks * bs)
	write := command{iov: r.Iov, off: int(size), size: size, write: true, part: p}
	write.sqe.Init(nvme.IOWrite, n.id)
	write.sqe.SetHost(r.Host)
	write.sqe.SetLBA(r.Offset, uint32(r.Blocks))
	write.sqe.SetFused(nvme.SecondFused)
	if r.FUA {
		write.sqe.SetCDW(12, write.sqe.CDW(12)|nvme.CDW12FUA)
	}
	compare := command{iov: r.Iov, size: size, write: true, part: p, second: &write}
	compare.sqe.Init(nvme.IOCompare, n.id)
	compare.sqe.SetHost(r.Host)
	compare.sqe.SetLBA(r.Offset, uint32(r.Blocks))
	compare.sqe.SetFused(nvme.FirstFused)
	q.submit(&compare, b)
}
