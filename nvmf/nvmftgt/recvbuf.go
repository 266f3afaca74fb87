package nvmftgt

// Sizes in bytes of receive buffers. Until Connect succeeds a connection may
// only make us hold the small one.
const (
	helloBuffer = 4 << 10
	adminBuffer = 32 << 10
	ioBuffer    = 256 << 10
)

// takeBuffer gets a receive buffer of the size that the phase allows.
func (rx *receiver) takeBuffer() {
	n := rx.bufferSize()
	if n > helloBuffer {
		if rx.buf = rx.conn.tgt.rbufs.Get(n); rx.buf != nil {
			rx.conn.tgt.recvBuffers.Add(1)
			return
		}
	}
	rx.buf = make([]byte, n)
	rx.own = true
}

// bufferSize is the size of the receive buffer in bytes.
func (rx *receiver) bufferSize() int {
	conn := rx.conn
	switch {
	case conn.phase != phaseReady:
		return helloBuffer
	case conn.q.id == 0 && conn.opts.capsule <= 16<<10:
		return adminBuffer
	}
	return ioBuffer
}

// dropBuffer returns the receive buffer; an idle connection has none.
func (rx *receiver) dropBuffer() {
	if rx.buf != nil && !rx.own {
		rx.conn.tgt.rbufs.Put(rx.buf)
		rx.conn.tgt.recvBuffers.Add(-1)
	}
	rx.buf, rx.own = nil, false
	rx.r, rx.w = 0, 0
}

// widen replaces the small buffer of the first phases and keeps its rest.
func (rx *receiver) widen() {
	rest := clip(rx.buf[rx.r:rx.w])
	rx.dropBuffer()
	rx.takeBuffer()
	rx.w = copy(rx.buf, rest)
}
