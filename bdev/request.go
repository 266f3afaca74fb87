package bdev

import (
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// Op is what a Request asks for.
type Op uint8

// The operations. Unmap's blocks read as zeros or as before afterwards, as
// the device says in Info.UnmapZeroes; WriteZeroes always reads as zeros.
// CompareAndWrite compares Iov's first half with the medium and, when equal,
// writes the second half, atomically. NVMeIO is a command that a namespace of
// another target executes, such as those about reservations: Request.NVMe.
const (
	OpRead Op = iota + 1
	OpWrite
	OpFlush
	OpUnmap
	OpWriteZeroes
	OpCompare
	OpCompareAndWrite
	OpReset
	OpNVMeIO
	opEnd
)

var opNames = [opEnd]string{"none", "read", "write", "flush", "unmap", "write_zeroes", "compare", "compare_and_write", "reset",
	"nvme_io"}

func (o Op) String() string {
	if o < opEnd {
		return opNames[o]
	}
	return "unknown"
}

// OpSet is a set of operations.
type OpSet uint16

// Ops makes a set.
func Ops(ops ...Op) OpSet {
	var s OpSet
	for _, o := range ops {
		s |= 1 << o
	}
	return s
}

// Has reports membership.
func (s OpSet) Has(o Op) bool { return s&(1<<o) != 0 }

// Request is one I/O. The zero value of every field not named by an
// operation is right for it. Offset and Blocks count the device's blocks.
type Request struct {
	Op     Op
	FUA    bool // a write completes only when it is on the medium
	Offset uint64
	Blocks uint64

	// Iov is the data: Blocks × block size bytes in all (twice that for
	// CompareAndWrite), in pieces of any length.
	Iov [][]byte

	// Transient: Iov is valid only until Submit returns. For operations that
	// send data only; what a read returns must have somewhere to stay.
	Transient bool

	// Status is set by Complete.
	Status nvme.Status

	// Done is called exactly once, on any goroutine, perhaps inside Submit.
	Done func(r *Request, b *Batch)

	// Host is the id of the host that the submitter serves, where that is for the target
	// to know that a device leads to; zero: nobody's. Requests that a device or a handle
	// makes of this one have it as well.
	Host uuid.UUID

	// NVMe is the command of NVMeIO, of a namespace's own: the device gives it the
	// namespace's id, and describes Iov, which is its data. Offset and Blocks are 0.
	NVMe *nvme.Command

	// Owner is the submitter's own.
	Owner any

	// Gone, when not nil, turns true when the submitter has lost whom it
	// submitted for. A device that would send the request once more then fails
	// it instead: it may have been sent by another way meanwhile, and the
	// blocks written since. One that serves a request by several of its own
	// hands Gone on to them and does no further ones.
	Gone *atomic.Bool

	// Dev is free for the device's use between Submit and Complete.
	Dev any

	handle   *Handle
	shard    *shard // of handle, where this request is counted
	start    int64  // Batch.Now at Submit, ns
	timed    int64  // the clock at Submit, ns; 0: not read for this one
	buffers  *Pool  // of retained; without a handle also that of Buffers
	retained []byte
	lent     [][]byte // the submitter's Iov while retained takes its place
	iovOne   [1][]byte
}

// Abandoned reports that the request must not be sent again.
func (r *Request) Abandoned() bool { return r.Gone != nil && r.Gone.Load() }

// Complete ends the request. The device must not touch r afterwards.
func (r *Request) Complete(s nvme.Status, b *Batch) {
	r.Status = s
	if r.retained != nil {
		r.buffers.Put(r.retained)
		r.Iov = r.lent
		r.retained, r.lent, r.iovOne[0] = nil, nil, nil
	}
	if h := r.handle; h != nil {
		r.handle = nil
		h.finish(r, b)
	}
	r.Done(r, b)
}

// Bytes returns the length of Iov.
func (r *Request) Bytes() int {
	n := 0
	for _, p := range r.Iov {
		n += len(p)
	}
	return n
}

// Buffers returns the pool of the registry in which r was submitted, for memory
// that a device needs to serve r: before Complete only. Nil for a request that
// came to the device without a Handle.
func (r *Request) Buffers() *Pool {
	if r.handle != nil {
		return r.handle.reg.Buffers
	}
	return r.buffers
}

// Retain makes the buffers outlive Submit: it copies Iov into a pool buffer
// (one contiguous, page-aligned piece) when the request is Transient. It
// returns false when the pool is exhausted, the data is above 4 MiB, or there is
// no pool (Buffers); complete with nvme.CommandInterrupted then, which hosts
// retry. Afterwards the request is no longer marked Transient, also when it is
// reused.
func (r *Request) Retain() bool {
	if !r.Transient {
		return true
	}
	r.Transient = false
	n := r.Bytes()
	if n == 0 {
		return true
	}
	pool, buf := r.Buffers(), []byte(nil)
	if pool != nil {
		buf = pool.Get(n)
	}
	if buf == nil {
		r.Transient = true
		return false
	}
	v := IovAt(r.Iov, 0)
	v.Gather(buf)
	r.buffers, r.retained, r.lent = pool, buf, r.Iov
	r.iovOne[0] = buf
	r.Iov = r.iovOne[:]
	return true
}
