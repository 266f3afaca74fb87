package bdev

import (
	"sync/atomic"

	"vda/nvme"
)

// Submit starts r on the device. An operation the device lacks, a range
// outside it or a removed device completes r at once with the status that the
// host should see.
func (h *Handle) Submit(r *Request, b *Batch) {
	i := h.info.Load()
	switch {
	case h.removed.Load():
		r.Complete(nvme.InternalPathError, b)
		return
	case !i.Ops.Has(r.Op):
		r.Complete(nvme.InvalidOpcode|nvme.DNR, b)
		return
	case r.Offset+r.Blocks > i.Blocks || r.Offset+r.Blocks < r.Offset:
		r.Complete(nvme.LBAOutOfRange|nvme.DNR, b)
		return
	}
	r.handle = h
	r.start = b.Now()
	h.dev.Submit(r, b)
}

// Map returns the device's own memory for the blocks, see Mapper.
func (h *Handle) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	m, ok := h.dev.(Mapper)
	i := h.info.Load()
	if !ok || h.removed.Load() || offset+blocks > i.Blocks || offset+blocks < offset {
		return dst, false
	}
	return m.Map(dst, offset, blocks)
}

// finish accounts a completed request.
func (h *Handle) finish(r *Request, b *Batch) {
	h.ent.stats.add(r, b.Now()-r.start, uint64(h.info.Load().BlockSize))
}

// Stats counts what a device did since it was registered; bdev_get_iostat.
type Stats struct {
	Ops   [opEnd]atomic.Uint64
	Bytes [opEnd]atomic.Uint64
	Nanos [opEnd]atomic.Uint64 // sum of latencies
	Fails atomic.Uint64
}

func (s *Stats) add(r *Request, nanos int64, blockSize uint64) {
	s.Ops[r.Op].Add(1)
	s.Bytes[r.Op].Add(r.Blocks * blockSize)
	s.Nanos[r.Op].Add(uint64(nanos))
	if r.Status != nvme.Success {
		s.Fails.Add(1)
	}
}
