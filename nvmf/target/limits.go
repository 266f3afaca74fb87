package target

import (
	"errors"
	"math/bits"
	"sync"
	"time"

	"vda/bdev"
)

// takeRecvBuffer gets a receive buffer of the size that the phase allows.
func (k *conn) takeRecvBuffer() {
	n := k.recvBufferSize()
	if n > helloBuffer {
		if k.rbuf = k.tgt.rbufs.Get(n); k.rbuf != nil {
			k.tgt.recvBuffers.Add(1)
			return
		}
	}
	k.rbuf = make([]byte, n)
	k.ownBuf = true
}

func (k *conn) recvBufferSize() int {
	switch {
	case k.phase != phaseReady:
		return helloBuffer
	case k.qid == 0 && k.opts.capsule <= 16<<10:
		return adminBuffer
	}
	return ioBuffer
}

// dropRecvBuffer returns the receive buffer; an idle connection has none.
func (k *conn) dropRecvBuffer() {
	if k.rbuf != nil && !k.ownBuf {
		k.tgt.rbufs.Put(k.rbuf)
		k.tgt.recvBuffers.Add(-1)
	}
	k.rbuf, k.ownBuf = nil, false
	k.r, k.w = 0, 0
}

// widen replaces the small buffer of the first phases and keeps its rest.
func (k *conn) widen() {
	rest := clip(k.rbuf[k.r:k.w])
	k.dropRecvBuffer()
	k.takeRecvBuffer()
	k.w = copy(k.rbuf, rest)
}

// getBuf returns a data buffer of n bytes, or nil when others wait for one or
// the connection or the process holds too much; force looks at the process
// alone.
func (k *conn) getBuf(n int, force bool) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !force && (len(k.waiting) > 0 || k.held > 0 && k.held+bufBytes(n) > k.tgt.cfg.MaxConnData) {
		return nil
	}
	buf := bdev.Buffers.Get(n)
	if buf != nil {
		k.held += cap(buf)
	}
	return buf
}

// putBuf returns a data buffer and goes on with commands that wait for one,
// unless b is nil.
func (k *conn) putBuf(buf []byte, b *bdev.Batch) {
	k.mu.Lock()
	k.putBufLocked(buf)
	waiting := len(k.waiting) > 0
	k.mu.Unlock()
	if waiting && b != nil {
		k.serveWaiting(b)
	}
}

// putBufLocked returns a data buffer; k.mu is held.
func (k *conn) putBufLocked(buf []byte) {
	k.held -= cap(buf)
	bdev.Buffers.Put(buf)
}

// bufBytes is what a buffer of n bytes counts.
func bufBytes(n int) int { return max(4<<10, 1<<bits.Len(uint(n-1))) }

// reserve counts the buffer that c will need when its data comes from the
// host, so that an R2T is a promise that can be kept, and reports whether
// there is room.
func (k *conn) reserve(c *cmd) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := bufBytes(int(c.n))
	if len(k.waiting) > 0 || k.held > 0 && k.held+n > k.tgt.cfg.MaxConnData {
		return false
	}
	k.held += n
	c.reserved = n
	return true
}

// unreserve gives back what reserve counted, when the data never came; k.mu
// is held.
func (k *conn) unreserve(c *cmd) {
	if c.reserved > 0 {
		k.held -= c.reserved
		c.reserved = 0
	}
}

// errClosing ends the pass of a connection that was given up meanwhile.
var errClosing = errors.New("the connection is closing")

// takeReserved gets the buffer that was reserved for c. A buffer is taken
// only now, when data is here: the last one that was given back is still in
// the cache, and a host that never answers an R2T holds nothing. With the
// process's pool exhausted the connection pauses, which only its reader may.
func (k *conn) takeReserved(c *cmd) error {
	for {
		if buf := bdev.Buffers.Get(int(c.n)); buf != nil {
			c.reserved, c.buf = 0, buf
			c.setData(buf)
			return nil
		}
		if k.polled {
			return errResume
		}
		k.batch.Flush() // replies may give buffers back, once they are sent
		if !k.unblock() {
			return errClosing
		}
		time.Sleep(time.Millisecond)
	}
}

// await parks c until a buffer is free. When this connection holds none that
// it could give back, the process's pool is exhausted: then it is tried again
// after a while.
func (k *conn) await(c *cmd) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = append(k.waiting, c)
	k.armRetry()
}

// armRetry has the waiting commands tried again soon; k.mu is held.
func (k *conn) armRetry() {
	if k.retrying {
		return
	}
	k.retrying = true
	time.AfterFunc(2*time.Millisecond, func() {
		var b bdev.Batch
		k.mu.Lock()
		k.retrying = false
		k.mu.Unlock()
		k.guarded(func() { k.serveWaiting(&b) })
		b.Flush()
	})
}

// serveWaiting starts waiting commands in order as long as there are buffers.
func (k *conn) serveWaiting(b *bdev.Batch) {
	for {
		k.mu.Lock()
		if len(k.waiting) == 0 || k.closing.Load() {
			k.mu.Unlock()
			return
		}
		c := k.waiting[0]
		n := bufBytes(int(c.n))
		if k.held > 0 && k.held+n > k.tgt.cfg.MaxConnData {
			k.armRetry()
			k.mu.Unlock()
			return
		}
		var buf []byte
		if c.fromHost() {
			k.held += n
			c.reserved = n
		} else if buf = bdev.Buffers.Get(n); buf == nil {
			k.armRetry()
			k.mu.Unlock()
			return
		} else {
			k.held += cap(buf)
		}
		copy(k.waiting, k.waiting[1:])
		k.waiting[len(k.waiting)-1] = nil
		k.waiting = k.waiting[:len(k.waiting)-1]
		k.inflight.Add(1) // keeps teardown away
		k.mu.Unlock()
		if buf != nil {
			c.buf = buf
			c.setData(buf[:c.n])
		}
		c.resume(b)
		k.leaveInflight()
	}
}

// chatter limits log lines that a peer can cause at will.
type chatter struct {
	mu      sync.Mutex
	second  int64
	lines   int
	dropped int
}

// chatterLines is how many such lines a second may bring.
const chatterLines = 10

// allow reports whether a line may be written, and how many were not since
// the last one.
func (c *chatter) allow() (ok bool, dropped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := nanotime() / int64(time.Second); now != c.second {
		c.second, c.lines = now, 0
	}
	if c.lines >= chatterLines {
		c.dropped++
		return false, 0
	}
	c.lines++
	dropped, c.dropped = c.dropped, 0
	return true, dropped
}

// complain logs a fault of a peer, unless there are too many.
func (t *Target) complain(msg string, attrs ...any) {
	if ok, dropped := t.chatter.allow(); ok {
		if dropped > 0 {
			attrs = append(attrs, "lines_dropped", dropped)
		}
		t.log.Info(msg, attrs...)
	}
}
