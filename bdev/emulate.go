package bdev

import (
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/virtual-disk-array/vda/nvme"
)

// Statuses that handles give by themselves; a host retries both.
const (
	statusGone     = nvme.InternalPathError
	statusNoBuffer = nvme.CommandInterrupted
)

// offer adds to the device's own operations those that a handle can put
// together from them: every user of a handle may rely on the result.
func (i *Info) offer() {
	i.native = i.Ops
	if i.Ops.Has(OpRead) {
		i.Ops |= Ops(OpCompare)
	}
	if i.Ops.Has(OpWrite) {
		i.Ops |= Ops(OpWriteZeroes)
	}
	if i.Ops.Has(OpRead) && i.Ops.Has(OpWrite) {
		i.Ops |= Ops(OpCompareAndWrite)
	}
}

const (
	// laneCount is how many pieces of a request are under way at once.
	laneCount = 8
	// pieceBytes is the size of a piece where the device sets none.
	pieceBytes = 256 << 10
)

// zeros is what WriteZeroes writes to devices that cannot do it themselves.
var zeros = sync.OnceValue(func() []byte {
	mem, err := syscall.Mmap(-1, 0, pieceBytes, syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return make([]byte, pieceBytes)
	}
	return mem
})

// compound is a request that a device serves by several of its own. It is cut
// into pieces; lanes take one piece after the other. Compounds are reused.
type compound struct {
	h      *Handle
	info   *Info
	parent *Request
	op     Op     // of the pieces
	piece  uint64 // blocks
	next   atomic.Uint64
	left   atomic.Int32 // lanes still running
	status atomic.Uint32
	write  bool // the second phase of a compare-and-write
	lanes  [laneCount]lane
}

var compounds sync.Pool

func newCompound() *compound {
	if c, ok := compounds.Get().(*compound); ok {
		return c
	}
	c := &compound{}
	for i := range c.lanes {
		l := &c.lanes[i]
		l.c = c
		l.req.Done, l.req.Owner = laneDone, l
	}
	return c
}

func (c *compound) free() {
	for i := range c.lanes {
		l := &c.lanes[i]
		l.req.Iov = nil
		clear(l.iov)
		l.iov = l.iov[:0]
	}
	c.h, c.info, c.parent = nil, nil, nil
	compounds.Put(c)
}

// lane does pieces of a compound, one at a time.
type lane struct {
	c   *compound
	req Request
	iov [][]byte
	buf []byte // of the registry, for comparing
	at  uint64 // first block of the current piece, from the parent's Offset

	// turn is idle, then submitting while the piece is handed to the device;
	// the device may complete it meanwhile (done) or later (away).
	turn atomic.Uint32
}

const (
	turnSubmitting = iota + 1
	turnDone
	turnAway
)

// emulate serves r by pieces, or by other operations.
func (h *Handle) emulate(r *Request, i *Info, b *Batch) {
	if !r.Retain() {
		r.Complete(statusNoBuffer, b)
		return
	}
	c := newCompound()
	c.h, c.info, c.parent, c.op, c.write = h, i, r, r.Op, false
	c.status.Store(0)
	c.piece = max(pieceBytes/uint64(i.BlockSize), 1)
	if i.MaxIO != 0 {
		c.piece = min(c.piece, uint64(i.MaxIO))
	}
	switch {
	case r.Op == OpCompareAndWrite:
		c.op = OpRead
		h.ent.excl.enter(h.ent, c, b)
		return
	case r.Op == OpCompare && !i.native.Has(OpCompare):
		c.op = OpRead
	case r.Op == OpWriteZeroes:
		c.op = OpWrite
	case i.MaxIO != 0:
		c.piece = uint64(i.MaxIO)
	}
	c.start(b)
}

// start sets the lanes going.
func (c *compound) start(b *Batch) {
	pieces := (c.parent.Blocks + c.piece - 1) / c.piece
	lanes := int(min(pieces, laneCount))
	if lanes == 0 {
		c.end(b)
		return
	}
	c.next.Store(0)
	c.left.Store(int32(lanes))
	// c may be over, and reused, once its last lane is running.
	for i := 0; i < lanes; i++ {
		c.lanes[i].run(b)
	}
}

// run does pieces until one is away or none is left.
func (l *lane) run(b *Batch) {
	c := l.c
	for {
		l.at = c.next.Add(c.piece) - c.piece
		if l.at >= c.parent.Blocks || c.status.Load() != 0 || !l.prepare() {
			if l.buf != nil {
				l.req.buffers.Put(l.buf)
				l.buf = nil
			}
			if c.left.Add(-1) == 0 {
				c.end(b)
			}
			return
		}
		l.turn.Store(turnSubmitting)
		c.h.dev.Submit(&l.req, b)
		if l.turn.CompareAndSwap(turnSubmitting, turnAway) {
			return
		}
		l.check()
	}
}

// laneDone goes on with the next piece, here or, when Submit has not yet
// returned, in run.
func laneDone(r *Request, b *Batch) {
	l := r.Owner.(*lane)
	if l.turn.CompareAndSwap(turnSubmitting, turnDone) {
		return
	}
	l.check()
	l.run(b)
}

// prepare sets up the request for the piece at l.at.
func (l *lane) prepare() bool {
	c, r := l.c, &l.req
	n := min(c.piece, c.parent.Blocks-l.at)
	r.buffers = c.h.reg.Buffers
	r.Op, r.FUA, r.Offset, r.Blocks, r.Gone = c.op, c.parent.FUA, c.parent.Offset+l.at, n, c.parent.Gone
	r.Host = c.parent.Host
	if r.Abandoned() && !c.write { // what is written atomically is written to its end
		c.fail(statusGone)
		return false
	}
	size := int(n) * int(c.info.BlockSize)
	switch {
	case c.comparing():
		if l.buf == nil {
			if l.buf = r.buffers.Get(size); l.buf == nil {
				c.fail(statusNoBuffer)
				return false
			}
		}
		l.iov = append(l.iov[:0], l.buf[:size])
	case c.parent.Op == OpWriteZeroes:
		l.iov = append(l.iov[:0], zeros()[:size])
	default:
		v := l.data()
		l.iov = v.Append(l.iov[:0], size)
	}
	r.Iov = l.iov
	return true
}

// comparing says that what is read is to be compared with the parent's data.
func (c *compound) comparing() bool { return c.op == OpRead && c.parent.Op != OpRead }

// data starts at the parent's data of the current piece.
func (l *lane) data() Iov {
	skip := int(l.at) * int(l.c.info.BlockSize)
	if l.c.write {
		skip += int(l.c.parent.Blocks) * int(l.c.info.BlockSize)
	}
	return IovAt(l.c.parent.Iov, skip)
}

// check looks at a completed piece.
func (l *lane) check() {
	c := l.c
	if l.req.Status != nvme.Success {
		c.fail(l.req.Status)
		return
	}
	if !c.comparing() {
		return
	}
	if v := l.data(); !v.Equal(l.req.Iov[0]) {
		c.fail(nvme.CompareFailure | nvme.DNR)
	}
}

func (c *compound) fail(s nvme.Status) { c.status.CompareAndSwap(0, uint32(s)) }

// end completes the parent, or goes over from comparing to writing.
func (c *compound) end(b *Batch) {
	s := nvme.Status(c.status.Load())
	if c.parent.Op == OpCompareAndWrite {
		if s == nvme.Success && !c.write {
			c.write, c.op = true, OpWrite
			c.start(b)
			return
		}
		after := c.h.ent.excl.leave(c.h.ent)
		defer after(b)
	}
	parent := c.parent
	c.free()
	parent.Complete(s, b)
}
