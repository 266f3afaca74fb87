package host

import (
	"sync"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// splitDepth is how many pieces of a request are in flight at once: enough to
// keep the controller busy, few enough to leave the queue to others.
const splitDepth = 8

// split is a request that is carried out by several commands.
type split struct {
	n     *Namespace
	ses   *session
	r     *bdev.Request
	done  Completer
	chunk uint64 // blocks of a piece
	fused bool   // the pieces are Compare and Write

	mu      sync.Mutex
	next    uint64 // blocks issued
	out     int    // pieces in flight
	issuing bool   // someone is in advance
	status  nvme.Status
}

var splits = sync.Pool{New: func() any { return new(split) }}

func newSplit(n *Namespace, s *session, r *bdev.Request, done Completer, chunk uint64) *split {
	p := splits.Get().(*split)
	p.n, p.ses, p.r, p.done, p.chunk = n, s, r, done, chunk
	return p
}

// advance issues pieces until enough are in flight, and ends the request when
// none is left.
func (p *split) advance(b *bdev.Batch) {
	bs := uint64(p.n.now.Load().BlockSize)
	p.mu.Lock()
	if p.issuing {
		p.mu.Unlock()
		return
	}
	p.issuing = true
	for p.status == nvme.Success && p.next < p.r.Blocks && p.out < splitDepth {
		at := p.next
		n := min(p.chunk, p.r.Blocks-at)
		p.next += n
		p.out++
		p.mu.Unlock()
		var c command
		p.n.encode(&c, p.r, at, n, bs)
		c.part = p
		p.ses.pick(b).submit(&c, b)
		p.mu.Lock()
	}
	p.issuing = false
	if p.out > 0 {
		p.mu.Unlock()
		return
	}
	r, done, status := p.r, p.done, p.status
	p.n, p.ses, p.r, p.done, p.fused = nil, nil, nil, nil, false
	p.next, p.status = 0, nvme.Success
	p.mu.Unlock()
	splits.Put(p)
	complete(r, done, status, b)
}

// childDone takes the end of a piece.
func (p *split) childDone(s nvme.Status, b *bdev.Batch) {
	p.mu.Lock()
	p.out--
	// Of a fused pair the half that was dropped because of the other says
	// nothing.
	if s != nvme.Success && (p.status == nvme.Success || p.fused && p.status&^nvme.DNR == nvme.AbortFailedFused) {
		p.status = s
	}
	p.mu.Unlock()
	p.advance(b)
}
