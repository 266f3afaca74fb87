package raid

import (
	"sync"
	"sync/atomic"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// split is one request of the array on its way through the bases. Splits and
// what they hold are reused, so that a request allocates nothing.
type split struct {
	parent *bdev.Request
	left   atomic.Int32  // children not yet complete
	status atomic.Uint32 // the worst so far
	exts   []extent
	kids   []*child // as many as were ever needed; kids[i] serves exts[i]
}

type child struct {
	req bdev.Request
	iov [][]byte // own storage for gathered pieces
	up  *split
}

var splits = sync.Pool{New: func() any { return &split{} }}

func newSplit(parent *bdev.Request) *split {
	s := splits.Get().(*split)
	s.parent = parent
	s.exts = s.exts[:0]
	s.status.Store(0)
	return s
}

// grow makes sure of n children.
func (s *split) grow(n int) {
	for len(s.kids) < n {
		c := &child{up: s}
		c.req.Owner = c
		c.req.Done = childDone
		s.kids = append(s.kids, c)
	}
}

func (s *split) free() {
	for i := range s.exts {
		c := s.kids[i]
		c.req.Iov = nil
		clear(c.iov)
		c.iov = c.iov[:0]
	}
	s.parent = nil
	splits.Put(s)
}

// childDone ends one child, and the parent after the last. It runs on any
// goroutine.
func childDone(r *bdev.Request, b *bdev.Batch) {
	s := r.Owner.(*child).up
	if r.Status != nvme.Success {
		s.fail(r.Status)
	}
	if s.left.Add(-1) > 0 {
		return
	}
	parent, status := s.parent, nvme.Status(s.status.Load())
	s.free()
	parent.Complete(status, b)
}

// fail keeps the first failure; a path status displaces others, because the
// host may retry a path and then sees what is wrong with the medium, too.
func (s *split) fail(status nvme.Status) {
	for {
		old := s.status.Load()
		if old != 0 && (nvme.Status(old).IsPath() || !status.IsPath()) {
			return
		}
		if s.status.CompareAndSwap(old, uint32(status)) {
			return
		}
	}
}

// Submit splits r into at most one request for each base.
func (a *Array) Submit(r *bdev.Request, b *bdev.Batch) {
	l := a.live.Load()
	if l == nil || a.failed.Load() {
		r.Complete(nvme.InternalPathError, b)
		return
	}
	s := newSplit(r)
	switch r.Op {
	case bdev.OpFlush, bdev.OpReset:
		for i, h := range l.handles {
			if h.Info().Ops.Has(r.Op) {
				s.exts = append(s.exts, extent{base: i})
			}
		}
	default:
		s.exts = l.geo.extents(s.exts, r.Offset, r.Blocks)
	}
	n := len(s.exts)
	if n == 0 {
		s.free()
		r.Complete(nvme.Success, b)
		return
	}
	s.grow(n)
	for i, e := range s.exts {
		q := &s.kids[i].req
		q.Op, q.FUA, q.Transient = r.Op, r.FUA, r.Transient
		q.Offset, q.Blocks, q.Gone = e.offset, e.blocks, r.Gone
	}
	switch {
	case len(r.Iov) == 0:
	case n == 1:
		s.kids[0].req.Iov = r.Iov
	default:
		s.scatter(l, r)
	}
	// A split may be complete, and reused, once its last child is submitted.
	s.left.Store(int32(n))
	for i := 0; i < n; i++ {
		l.handles[s.exts[i].base].Submit(&s.kids[i].req, b)
	}
}

// scatter gives every child the pieces of the parent's data that its base
// holds.
func (s *split) scatter(l *live, r *bdev.Request) {
	var byBase [16]int
	at := byBase[:]
	if len(l.handles) > len(byBase) {
		at = make([]int, len(l.handles))
	}
	for i, e := range s.exts {
		at[e.base] = i
	}
	data := bdev.IovAt(r.Iov, 0)
	for off, left := r.Offset, r.Blocks; left > 0; {
		base, _, run := l.geo.run(off)
		run = min(run, left)
		c := s.kids[at[base]]
		c.iov = data.Append(c.iov, int(run)<<l.blockShift)
		off, left = off+run, left-run
	}
	for i := range s.exts {
		s.kids[i].req.Iov = s.kids[i].iov
	}
}

// Map returns the bases' own memory, a piece for each strip.
func (a *Array) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	l := a.live.Load()
	if l == nil || a.failed.Load() {
		return dst, false
	}
	start := len(dst)
	for blocks > 0 {
		base, at, run := l.geo.run(offset)
		run = min(run, blocks)
		var ok bool
		if dst, ok = l.handles[base].Map(dst, at, run); !ok {
			return dst[:start], false
		}
		offset, blocks = offset+run, blocks-run
	}
	return dst, true
}
