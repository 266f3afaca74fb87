package nvmftgt

import (
	"sync"
	"time"
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
