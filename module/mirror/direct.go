package mirror

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// direct is the way of I/O past the core, while a mirror has one leg alone: no
// map, no label, no order. Anyone who wants to do more to the mirror ends it first.
type direct struct {
	h      *bdev.Handle
	under  atomic.Int64 // requests that it has
	mapped atomic.Bool  // memory of the leg was lent
	zeroes bool         // the leg does not read zeros where it was unmapped
	flush  bool         // the leg can flush
}

// call is one request handed down. Calls are reused.
type call struct {
	req    bdev.Request
	parent *bdev.Request
	d      *direct
}

var calls sync.Pool

// pass hands a request to the leg; false when that way has just been closed.
func (m *Mirror) pass(d *direct, r *bdev.Request, b *bdev.Batch) bool {
	d.under.Add(1)
	if m.direct.Load() != d { // after the count: the one that closes sees one or the other
		d.under.Add(-1)
		return false
	}
	c, ok := calls.Get().(*call)
	if !ok {
		c = &call{}
		c.req.Owner, c.req.Done = c, callDone
	}
	c.parent, c.d = r, d
	q := &c.req
	q.Op, q.FUA, q.Offset, q.Blocks, q.Iov, q.Transient, q.Gone = r.Op, r.FUA, r.Offset, r.Blocks, r.Iov, r.Transient, r.Gone
	switch {
	case r.Op == bdev.OpUnmap && d.zeroes:
		q.Op = bdev.OpWriteZeroes
	case r.Op == bdev.OpFlush && !d.flush, r.Op == bdev.OpReset:
		q.Complete(nvme.Success, b)
		return true
	}
	d.h.Submit(q, b)
	return true
}

func callDone(q *bdev.Request, b *bdev.Batch) {
	c := q.Owner.(*call)
	parent, d, s := c.parent, c.d, q.Status
	c.parent, c.d, q.Iov, q.Gone = nil, nil, nil, nil
	calls.Put(c)
	parent.Complete(s, b)
	d.under.Add(-1)
}

// Map lends the memory of the one leg that the mirror has, see bdev.Mapper.
func (m *Mirror) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	d := m.direct.Load()
	if d == nil {
		return dst, false
	}
	d.mapped.Store(true)
	if m.direct.Load() != d { // the one that closed it may not have seen that
		return dst, false
	}
	return d.h.Map(dst, offset, blocks)
}

// openDirect lets I/O go past the core if it may. m.mu is held.
func (m *Mirror) openDirect() {
	if m.direct.Load() != nil || m.indirect > 0 || m.retired {
		return
	}
	l, solo := m.core.Solo()
	if !solo || m.legs[l].h == nil {
		return
	}
	h := m.legs[l].h
	i := h.Info()
	m.direct.Store(&direct{h: h, zeroes: !i.UnmapZeroes || !i.Ops.Has(bdev.OpUnmap), flush: i.Ops.Has(bdev.OpFlush)})
}

// closeDirect has I/O that comes from now on go through the core, and returns what
// went past it. m.mu is held.
func (m *Mirror) closeDirect() *direct { return m.direct.Swap(nil) }

// settle returns when nobody uses memory that was lent, and all requests are done
// that went past the core: ETIMEDOUT when that takes too long. No lock is held.
func (m *Mirror) settle(ctx context.Context, d *direct) error {
	if d == nil {
		return nil
	}
	if d.mapped.Load() {
		m.mod.reg.Settle(m.conf.Name)
	}
	for end := time.Now().Add(settleLimit); d.under.Load() > 0; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("mirror %q: %d requests are still under way on its one leg, bdev %q: %w", m.conf.Name, d.under.Load(),
				d.h.Info().Name, syscall.ETIMEDOUT)
		}
	}
	return nil
}

// settleLimit bounds how long requests that went past the core are waited for.
const settleLimit = 5 * time.Second
