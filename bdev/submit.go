package bdev

import (
	"sync/atomic"

	"github.com/virtual-disk-array/vda/nvme"
)

// Handle.state.
const (
	stateRemoved   = 1 << iota // the device is being unregistered
	stateClosed                // Close was called
	stateExclusive             // a compare-and-write has the device for itself
)

// Submit starts r on the device. An operation the device lacks, a range
// outside it, data of the wrong length or a removed device completes r at
// once with the status that the host should see.
func (h *Handle) Submit(r *Request, b *Batch) {
	i := h.info.Load()
	switch {
	case !i.Ops.Has(r.Op):
		r.Complete(i.lacks(r.Op), b)
		return
	case r.Offset+r.Blocks > i.Blocks || r.Offset+r.Blocks < r.Offset:
		r.Complete(nvme.LBAOutOfRange|nvme.DNR, b)
		return
	case !r.fits(i.BlockSize):
		r.Complete(nvme.InvalidField|nvme.DNR, b)
		return
	}
	// Counting before looking at the state, and Close the other way round,
	// makes sure that one of them sees the other.
	s := &h.shards[b.shard(shardMask)]
	s.inflight.Add(1)
	r.handle, r.shard, r.start, r.timed = h, s, b.Now(), 0
	if b.tick++; b.tick%timedEvery == 1 || h.ent.hist.Load() != nil {
		r.timed = now()
	}
	if state := h.state.Load(); state != 0 && h.halted(state, r, i, b) {
		return
	}
	if q := h.ent.qos.Load(); q != nil && (r.Op == OpRead || r.Op == OpWrite) && !q.admit(r, b) {
		return
	}
	h.issue(r, b)
}

// lacks is the status of an operation that the device has not: what takes no
// writes says so.
func (i *Info) lacks(op Op) nvme.Status {
	switch op {
	case OpWrite, OpWriteZeroes, OpUnmap, OpCompareAndWrite:
		if !i.Ops.Has(OpWrite) {
			return nvme.WriteProtected | nvme.DNR
		}
	}
	return nvme.InvalidOpcode | nvme.DNR
}

// halted keeps a request from a device that is going, or that a
// compare-and-write has for itself.
func (h *Handle) halted(state uint32, r *Request, i *Info, b *Batch) bool {
	if state != stateExclusive {
		r.Complete(nvme.InternalPathError, b)
		return true
	}
	if r.Op == OpCompareAndWrite && !i.native.Has(r.Op) {
		return false
	}
	return h.ent.excl.park(h, r, b)
}

// issue hands an admitted request to the device, in pieces or by other
// operations where the device cannot do it as it stands.
func (h *Handle) issue(r *Request, b *Batch) {
	i := h.info.Load()
	if !i.native.Has(r.Op) || (i.MaxIO != 0 && r.Blocks > uint64(i.MaxIO) && dataOps.Has(r.Op)) {
		h.emulate(r, i, b)
		return
	}
	h.dev.Submit(r, b)
}

// dataOps carry data in Iov.
var dataOps = Ops(OpRead, OpWrite, OpCompare, OpCompareAndWrite)

// fits reports whether Iov is as long as the operation says.
func (r *Request) fits(blockSize uint32) bool {
	if !dataOps.Has(r.Op) {
		return true
	}
	want := r.Blocks * uint64(blockSize)
	if r.Op == OpCompareAndWrite {
		want *= 2
	}
	return uint64(r.Bytes()) == want
}

// Map returns the device's own memory for the blocks, see Mapper.
func (h *Handle) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	i := h.info.Load()
	if h.mapper == nil || h.state.Load()&^stateExclusive != 0 || offset+blocks > i.Blocks || offset+blocks < offset {
		return dst, false
	}
	return h.mapper.Map(dst, offset, blocks)
}

// InFlight returns the number of requests submitted and not yet complete.
func (h *Handle) InFlight() int {
	n := int64(0)
	for i := range h.shards {
		n += h.shards[i].inflight.Load()
	}
	return int(n)
}

// timedEvery is the sampling interval, in requests, for latency when submission
// and completion share a pass, as on devices in memory, so that the clock of
// the pass does not tell. Those requests take less time than reading the clock
// twice. A prime, so that it is the turn of every layer when devices are stacked.
const timedEvery = 61

// finish accounts a completed request.
func (h *Handle) finish(r *Request, b *Batch) {
	s := r.shard
	far, latency := r.start != b.now, int64(0)
	switch {
	case far:
		latency = max(b.Now()-r.start, 0) // the completing goroutine's pass may have begun before the submission
	case r.timed != 0:
		latency = max(now()-r.timed, 1)
	}
	s.stats.add(r, far, uint64(latency), uint64(h.info.Load().BlockSize))
	if t := h.ent.hist.Load(); t != nil && (far || r.timed != 0) {
		t.tally(r.Op, uint64(latency))
	}
	s.inflight.Add(-1)
	state := h.state.Load()
	if state == 0 {
		return
	}
	if state&stateExclusive != 0 {
		h.ent.excl.kick(h.ent, b)
	}
	if state&stateClosed != 0 && h.InFlight() == 0 {
		// Not here: releasing may close the device, which may wait for the
		// very goroutine that completes.
		go h.release()
	}
}

// shard is a part of a handle's counters that one core mostly has to itself.
type shard struct {
	inflight atomic.Int64
	stats    counters
	_        [64]byte
}
