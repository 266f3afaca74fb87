package host

import (
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
)

// FlushBatch sends what has gathered. When another goroutine is sending it
// takes that along.
func (q *queue) FlushBatch(b *bdev.Batch) {
	q.mu.Lock()
	if q.marker == b {
		q.marker = nil
	}
	if q.sending || q.dead || q.out.Empty() {
		q.mu.Unlock()
		return
	}
	q.sending = true
	if q.id != 0 && q.ses.ctl.cfg.Spin > 0 {
		q.in.Warm(b.Now()) // answers will come
	}
	q.drain(b, false)
}

// drain sends until nothing is left; q.mu is held and released, q.sending is
// the caller's and given up. When the socket is full it waits with park set,
// else it leaves the rest to the writer.
func (q *queue) drain(b *bdev.Batch, park bool) {
	for !q.dead {
		if q.onWire.Empty() {
			if q.out.Empty() {
				break
			}
			q.out, q.onWire = q.onWire, q.out
		}
		q.mu.Unlock()
		if err := q.send(park); err != nil {
			q.fail(err)
			q.mu.Lock()
			break
		}
		if !q.onWire.Empty() {
			q.writes <- struct{}{} // room for one, and only sending's owner sends
			return
		}
		q.mu.Lock()
		q.sentAll(b)
	}
	q.sending = false
	q.idle.Broadcast()
	q.mu.Unlock()
}

// sentAll lets go of the buffers that onWire pointed at, and completes
// commands that were answered meanwhile. q.mu is held, though not throughout.
func (q *queue) sentAll(b *bdev.Batch) {
	for _, cid := range q.onWire.owners {
		s := &q.slots[cid]
		s.unsent--
		if s.unsent == 0 && s.answered {
			q.finish(cid, s.cqe, b)
			q.mu.Lock()
		}
	}
	q.onWire.reset()
}

// send sends onWire: all of it with park set, else as far as the socket takes
// it.
func (q *queue) send(park bool) error {
	if park {
		return q.conn.SendWait(&q.onWire.Queue, 0)
	}
	if e := q.conn.Send(&q.onWire.Queue); e != 0 && e != syscall.EAGAIN {
		return e
	}
	return nil
}

// writer sends when the socket was full.
func (q *queue) writer() {
	var b bdev.Batch
	for range q.writes {
		q.mu.Lock()
		q.drain(&b, true)
		b.Flush()
	}
}
