package mirror

import (
	"bytes"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

// op is one I/O of the core: a request of the mirror's user, or the core's own.
// Ops are reused with their kids.
type op struct {
	io     core.IO
	req    *bdev.Request           // of the user; nil for the core's own
	buf    [][]byte                // memory of the core's own
	apart  [label.MaxLegs][][]byte // of a scrub: what was read from each leg
	zeroes bdev.Op                 // what Zero is on the legs
	status nvme.Status             // of the leg that failed last
	kids   [label.MaxLegs]kid
}

// kid is what an op has under way on one leg.
type kid struct {
	req   bdev.Request
	op    *op
	order order
}

var ops sync.Pool

func newOp() *op {
	if p, ok := ops.Get().(*op); ok {
		return p
	}
	p := &op{}
	for i := range p.kids {
		k := &p.kids[i]
		k.op = p
		k.req.Owner = k
		k.req.Done = kidDone
	}
	return p
}

// Submit starts an I/O of the mirror's user.
func (m *Mirror) Submit(r *bdev.Request, b *bdev.Batch) {
	if d := m.direct.Load(); d != nil && m.pass(d, r, b) {
		return
	}
	p := newOp()
	info := m.info.Load()
	p.req, p.status = r, nvme.Success
	p.io = core.IO{Off: r.Offset * uint64(info.BlockSize), Len: r.Blocks * uint64(info.BlockSize), Pass: b.Now(), Data: p}
	switch r.Op {
	case bdev.OpRead:
		p.io.Op = core.Read
	case bdev.OpWrite:
		p.io.Op = core.Write
	case bdev.OpWriteZeroes, bdev.OpUnmap:
		p.io.Op, p.zeroes = core.Zero, r.Op
		if !m.unmaps.Load() {
			p.zeroes = bdev.OpWriteZeroes
		}
	case bdev.OpFlush:
		p.io.Op, p.io.Off, p.io.Len = core.Flush, 0, 0
	default: // a reset: what is under way on legs ends by itself
		ops.Put(p)
		r.Complete(nvme.Success, b)
		return
	}
	if !r.Retain() { // it may wait, and goes to several legs
		ops.Put(p)
		r.Complete(nvme.CommandInterrupted, b)
		return
	}
	m.mu.Lock()
	m.core.Clock(m.now())
	m.core.Submit(&p.io)
	m.carryLocked(b)
}

// opOf returns the op of an I/O, and makes one for the core's own at its first
// action.
func opOf(io *core.IO) *op {
	if p, ok := io.Data.(*op); ok {
		return p
	}
	p := newOp()
	p.req, p.status = nil, nvme.Success
	if io.Len > 0 && !io.Scrubs() {
		p.buf = [][]byte{make([]byte, io.Len)}
	}
	io.Data = p
	return p
}

// carryOut does what the core wants. No lock is held.
func (o *order) carryOut(b *bdev.Batch) {
	switch o.Kind {
	case core.Complete:
		o.complete(b)
		return
	case core.Compare:
		most := opOf(o.IO).most(o.Legs)
		o.m.enter(b, func(*core.Core) { o.of.Compared(o.IO, most) })
		return
	}
	if o.h == nil {
		o.done(nvme.InternalPathError, b)
		return
	}
	var k *kid
	if o.IO != nil {
		k = &opOf(o.IO).kids[o.Leg]
	} else {
		k = &kid{}
		k.req.Owner, k.req.Done = k, kidDone
	}
	k.order = *o
	r, p := &k.req, k.op
	r.FUA, r.Iov, r.Transient, r.Gone = false, nil, false, nil
	if o.IO != nil {
		r.Offset, r.Blocks = o.IO.Off>>o.leg.shift, o.IO.Len>>o.leg.shift
		switch r.Iov = p.buf; {
		case p.req != nil:
			r.Iov, r.FUA, r.Gone = p.req.Iov, p.req.FUA, p.req.Gone
		case o.IO.Scrubs() && o.Kind == core.ReadLeg:
			if p.apart[o.Leg] == nil {
				p.apart[o.Leg] = [][]byte{make([]byte, o.IO.Len)}
			}
			r.Iov = p.apart[o.Leg]
		case o.IO.Scrubs():
			r.Iov = p.apart[o.IO.From()]
		}
	}
	switch o.Kind {
	case core.ReadLeg:
		r.Op, r.FUA = bdev.OpRead, false
	case core.WriteLeg:
		if r.Op = bdev.OpWrite; o.IO.Op == core.Zero {
			r.Op, r.Iov = p.zeroes, nil
		}
	case core.FlushLeg:
		r.Op, r.Offset, r.Blocks, r.Iov, r.FUA = bdev.OpFlush, 0, 0, nil, false
		if !o.h.Info().Ops.Has(bdev.OpFlush) {
			o.done(nvme.Success, b)
			return
		}
	case core.WriteMap:
		o.writeTail(r, label.PageOffset(o.Page), o.Bytes)
	case core.WriteLabel:
		slot, err := o.Label.Encode()
		if err != nil { // the core's mistake
			o.m.mod.log.Error("a label is not written", "mirror", o.m.conf.Name, "err", err)
			o.done(nvme.InternalError, b)
			return
		}
		o.writeTail(r, label.Slot(o.Label.Seq), slot)
	}
	o.h.Submit(r, b)
}

// most is which legs hold what more than half of them do, of those that were read
// for a scrub; none if no more than half do.
func (p *op) most(legs core.LegSet) core.LegSet {
	all := 0
	for i := range p.apart {
		if legs.Has(core.Leg(i)) {
			all++
		}
	}
	for i := range p.apart {
		same, n := core.LegSet(0), 0
		for j := range p.apart {
			if legs.Has(core.Leg(i)) && legs.Has(core.Leg(j)) && bytes.Equal(p.apart[i][0], p.apart[j][0]) {
				same |= 1 << j
				n++
			}
		}
		if 2*n > all {
			return same
		}
	}
	return 0
}

// writeTail fills in a durable write to the tail of a leg.
func (o *order) writeTail(r *bdev.Request, off int64, data []byte) {
	r.Op, r.FUA = bdev.OpWrite, true
	r.Offset, r.Blocks = (o.m.conf.DataSize+uint64(off))>>o.leg.shift, uint64(len(data))>>o.leg.shift
	r.Iov = [][]byte{data}
}

// again is how soon a request that a leg was too busy for is sent once more.
const again = 5 * time.Millisecond

// kidDone ends what an op had under way on a leg.
func kidDone(r *bdev.Request, b *bdev.Batch) {
	k := r.Owner.(*kid)
	if r.Status == nvme.CommandInterrupted { // no memory at the moment
		time.AfterFunc(again, func() {
			b := bdev.Batch{}
			k.order.h.Submit(r, &b)
			b.Flush()
		})
		return
	}
	k.order.done(r.Status, b)
}

// op is what the order's I/O is here; nil for the core's own that came to nothing,
// and for maps and labels.
func (o *order) op() *op {
	if o.IO == nil {
		return nil
	}
	p, _ := o.IO.Data.(*op)
	return p
}

// complete ends an I/O.
func (o *order) complete(b *bdev.Batch) {
	p := o.op()
	if p == nil {
		return
	}
	r, status := p.req, p.status
	p.req, p.buf, p.io = nil, nil, core.IO{}
	clear(p.apart[:])
	for i := range p.kids {
		p.kids[i].order, p.kids[i].req.Iov, p.kids[i].req.Gone = order{}, nil, nil
	}
	result := o.Result
	ops.Put(p)
	if r == nil {
		return
	}
	switch {
	case result == core.OK:
		status = nvme.Success
	case result == core.Path || status == nvme.Success || status.IsPath():
		status = nvme.InternalPathError
	}
	r.Complete(status, b)
}
