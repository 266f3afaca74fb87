package blobstore

import (
	"sync"
	"sync/atomic"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// transfer is a request of a blob under way: it counts the pieces that the
// base device still works on.
type transfer struct {
	b       *Blob
	r       *bdev.Request
	phase   uint32
	pending atomic.Int32
	status  atomic.Uint32
}

// piece is the part of a transfer that lies in one place of the base device.
type piece struct {
	req bdev.Request
	t   *transfer
	iov [][]byte // backing of req.Iov when it is a part of the transfer's
}

var (
	transfers = sync.Pool{New: func() any { return new(transfer) }}
	pieces    = sync.Pool{New: func() any { return new(piece) }}
)

// Ops are the operations a blob takes: reads, writes, flushes, unmaps where the
// base device has them, zeroing, resets (nothing to do).
func (s *Store) Ops() bdev.OpSet {
	const own = bdev.OpSet(1<<bdev.OpRead | 1<<bdev.OpWrite | 1<<bdev.OpFlush | 1<<bdev.OpUnmap | 1<<bdev.OpWriteZeroes)
	return s.dev.info().Ops&own | bdev.Ops(bdev.OpReset)
}

// Submit starts an I/O on the blob; Offset and Blocks count the store's
// blocks and lie in the blob. It never blocks: a write that needs a cluster,
// and an unmap that frees one, continue on the store's own goroutine.
func (b *Blob) Submit(r *bdev.Request, batch *bdev.Batch) {
	phase, ok := b.gate.enter()
	for !ok {
		if !r.Retain() {
			r.Complete(nvme.CommandInterrupted, batch)
			return
		}
		if b.gate.park(r) {
			return
		}
		phase, ok = b.gate.enter()
	}
	if s := b.admit(r); s != nvme.Success {
		b.gate.leave(phase)
		r.Complete(s, batch)
		return
	}
	if (r.Op != bdev.OpRead && r.Op != bdev.OpFlush && !b.store.owned.Load()) || b.deferable(r) {
		b.gate.leave(phase)
		if !r.Retain() {
			r.Complete(nvme.CommandInterrupted, batch)
		} else if !b.store.worker.add(deferred{b, r}) {
			r.Complete(nvme.InternalPathError, batch)
		}
		return
	}
	t := transfers.Get().(*transfer)
	t.b, t.r, t.phase = b, r, phase
	t.pending.Store(1)
	t.status.Store(uint32(nvme.Success))
	t.run(batch)
	t.done(nvme.Success, batch)
}

// admit refuses what the blob does not take.
func (b *Blob) admit(r *bdev.Request) nvme.Status {
	if b.store.failed.Load() != nil {
		return nvme.InternalPathError
	}
	switch r.Op {
	case bdev.OpWrite, bdev.OpUnmap, bdev.OpWriteZeroes:
		if b.readOnly.Load() {
			return nvme.WriteProtected | nvme.DNR
		}
	}
	if r.Op == bdev.OpRead && b.mapped.Load() && b.thin.Load() && b.stale(r) {
		return nvme.CommandInterrupted
	}
	if r.Offset+r.Blocks > b.Blocks() || r.Offset+r.Blocks < r.Offset {
		return nvme.LBAOutOfRange | nvme.DNR // the blob has shrunk
	}
	return nvme.Success
}

// deferable reports whether r needs metadata to change first.
func (b *Blob) deferable(r *bdev.Request) bool {
	if !b.thin.Load() {
		return false
	}
	m := b.clusters.Load()
	upc := b.store.unitsPerCluster
	switch r.Op {
	case bdev.OpWrite:
		for i := r.Offset / upc; i*upc < r.Offset+r.Blocks; i++ {
			if m.At(i) == 0 {
				return true
			}
		}
	case bdev.OpWriteZeroes:
		for i := r.Offset / upc; i*upc < r.Offset+r.Blocks; i++ {
			if m.At(i) == 0 && b.covered(i) {
				return true
			}
		}
	case bdev.OpUnmap:
		if !b.releases() {
			return false
		}
		first, last := b.wholeClusters(r)
		for i := first; i < last; i++ {
			if m.At(i) != 0 {
				return true
			}
		}
	}
	return false
}

// locate returns where block at of the blob is: the block of the base device,
// and how many blocks, at most max, follow it there in one stretch. hole: they
// are not on the base device, but outside the store if there is an origin.
func (b *Blob) locate(at, max uint64, inherit bool) (base, n uint64, hole bool, origin *Blob) {
	s := b.store
	upc := s.unitsPerCluster
	i := at / upc
	c, origin := b.cluster(i, inherit)
	n = upc - at%upc
	for k := uint32(1); n < max; k++ {
		next, from := b.cluster(i+uint64(k), inherit)
		if (c == 0) != (next == 0) || (c != 0 && next != c+k) || from != origin {
			break
		}
		n += upc
	}
	return (uint64(c)*upc + at%upc) * s.units, min(n, max), c == 0, origin
}

func (b *Blob) cluster(i uint64, inherit bool) (c uint32, origin *Blob) {
	c = b.clusters.Load().At(i)
	if c == 0 && inherit {
		return b.inherited(i)
	}
	return c, nil
}

// run submits the pieces.
func (t *transfer) run(batch *bdev.Batch) {
	r, b := t.r, t.b
	if r.Op == bdev.OpFlush {
		t.submit(0, 0, nil, batch)
		return
	}
	if r.Op == bdev.OpReset || r.Blocks == 0 {
		return
	}
	inherit := r.Op == bdev.OpRead && b.thin.Load()
	cut := bdev.IovAt(r.Iov, 0)
	for done := uint64(0); done < r.Blocks; {
		base, n, hole, origin := b.locate(r.Offset+done, r.Blocks-done, inherit)
		data := uint64(b.store.unit) * n
		whole := n == r.Blocks
		at := r.Offset + done
		done += n
		switch {
		case hole && origin != nil:
			t.readOutside(origin, at, n, &cut, batch)
		case hole && r.Op == bdev.OpRead:
			cut.Clear(int(data))
		case hole: // nothing to unmap or to zero
		case whole:
			t.submit(base, n, r.Iov, batch)
		default:
			t.submitPart(base, n, &cut, int(data), batch)
		}
	}
}

func (t *transfer) submit(base, n uint64, iov [][]byte, batch *bdev.Batch) {
	p := pieces.Get().(*piece)
	p.req.Iov = iov
	t.sendTo(t.b.store.dev.h, p, base, n*t.b.store.units, batch)
}

func (t *transfer) submitPart(base, n uint64, cut *bdev.Iov, bytes int, batch *bdev.Batch) {
	p := pieces.Get().(*piece)
	p.iov = p.iov[:0]
	if len(t.r.Iov) > 0 {
		p.iov = cut.Append(p.iov, bytes)
	}
	p.req.Iov = p.iov
	t.sendTo(t.b.store.dev.h, p, base, n*t.b.store.units, batch)
}

// sendTo submits a piece to the base device, or to a device outside; its
// blocks count.
func (t *transfer) sendTo(h *bdev.Handle, p *piece, base, n uint64, batch *bdev.Batch) {
	p.t = t
	p.req.Op, p.req.FUA, p.req.Transient = t.r.Op, t.r.FUA, t.r.Transient
	p.req.Offset, p.req.Blocks, p.req.Gone = base, n, t.r.Gone
	p.req.Done, p.req.Owner = pieceDone, p
	t.pending.Add(1)
	h.Submit(&p.req, batch)
}

func pieceDone(r *bdev.Request, batch *bdev.Batch) {
	p := r.Owner.(*piece)
	t, s := p.t, r.Status
	p.t, p.req.Iov, p.req.Dev = nil, nil, nil
	pieces.Put(p)
	t.done(s, batch)
}

// fail keeps the first failure.
func (t *transfer) fail(s nvme.Status) {
	t.status.CompareAndSwap(uint32(nvme.Success), uint32(s))
}

// done ends one piece, and the transfer with its last.
func (t *transfer) done(s nvme.Status, batch *bdev.Batch) {
	if s != nvme.Success {
		t.fail(s)
	}
	if t.pending.Add(-1) != 0 {
		return
	}
	r, status := t.r, nvme.Status(t.status.Load())
	t.b.gate.leave(t.phase)
	t.b, t.r = nil, nil
	transfers.Put(t)
	r.Complete(status, batch)
}

// Map returns the memory of a thick blob's blocks when the base device is
// memory; see bdev.Mapper. Its caller has told OnMoved how the memory is
// given up. A snapshot may move the blob away from that memory before the read
// is submitted; such a read fails with CommandInterrupted, which hosts retry,
// because it would write to the snapshot's memory.
func (b *Blob) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	if b.thin.Load() || b.readOnly.Load() || offset+blocks > b.Blocks() {
		return dst, false
	}
	if !b.mapped.Load() {
		b.mapped.Store(true)
	}
	n0 := len(dst)
	for done := uint64(0); done < blocks; {
		base, n, hole, _ := b.locate(offset+done, blocks-done, false)
		var ok bool
		if !hole {
			dst, ok = b.store.dev.h.Map(dst, base, n*b.store.units)
		}
		if !ok {
			return dst[:n0], false
		}
		done += n
	}
	return dst, true
}

// OnMoved names what is done when blocks have left the memory that Map gave for
// them: f returns when that memory is not used any more. It is set before the
// first Map and called without locks of the store.
func (b *Blob) OnMoved(f func()) { b.onMoved = f }

// moved waits until memory that Map gave is not used any more. The blob's
// clusters may then go to another: to a snapshot, which may free them one day,
// or back to the store. The caller does not hold md.
func (b *Blob) moved() {
	if b.mapped.Load() && b.onMoved != nil {
		b.onMoved()
	}
}

// stale reports whether r reads into memory of the base device that Map gave
// before b became a clone.
func (b *Blob) stale(r *bdev.Request) bool {
	if len(r.Iov) == 0 || len(r.Iov[0]) == 0 {
		return false
	}
	s := b.store
	at := r.Offset % s.unitsPerCluster
	for p := b.parent.Load(); p != nil; p = p.parent.Load() {
		c := p.clusters.Load().At(r.Offset / s.unitsPerCluster)
		if c == 0 {
			continue
		}
		mem, ok := s.dev.h.Map(nil, (uint64(c)*s.unitsPerCluster+at)*s.units, s.units)
		if ok && &mem[0][0] == &r.Iov[0][0] {
			return true
		}
	}
	return false
}
