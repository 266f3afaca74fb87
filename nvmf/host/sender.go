package host

import (
	"github.com/virtual-disk-array/vda/bdev"
)

// FlushBatch sends what has gathered. When another goroutine is sending it
// takes that along.
func (q *queue) FlushBatch(b *bdev.Batch) {
	q.mu.Lock()
	if q.marker == b {
		q.marker = nil
	}
	if q.sending || q.dead || q.out.empty() {
		q.mu.Unlock()
		return
	}
	q.sending = true
	if q.id != 0 && q.ses.ctl.cfg.Spin > 0 && bdev.Alone() {
		q.hot.Warm(b.Now()) // answers will come
	}
	q.drain(b, false)
}

// drain sends until nothing is left; q.mu is held and released, q.sending is
// the caller's and given up. When the socket is full it waits with park set,
// else it leaves the rest to the writer.
func (q *queue) drain(b *bdev.Batch, park bool) {
	for !q.dead {
		if q.onWire.empty() {
			if q.out.empty() {
				break
			}
			q.out, q.onWire = q.onWire, q.out
		}
		q.mu.Unlock()
		q.sendPark = park
		err := q.raw.Write(q.sendFn)
		if err == nil {
			err = q.sendErr
		}
		if err != nil {
			q.fail(err)
			q.mu.Lock()
			break
		}
		if !q.onWire.empty() {
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

// send runs inside RawConn.Write, which keeps the descriptor open.
func (q *queue) send(fd uintptr) bool {
	var more bool
	more, q.sendErr = q.onWire.send(fd, &q.sendMsg)
	return !more || !q.sendPark
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
