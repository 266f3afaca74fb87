package nvmftgt

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// receiver takes the bytes that come apart into PDUs. It belongs to the reader,
// and while that sleeps to the goroutine that polls in its place: to the one
// that has input's turn. It needs no lock.
type receiver struct {
	conn   *conn
	input  tcp.Input
	polled bool  // another than the reader has the turn
	left   error // why the input was left to the reader

	buf   []byte // received bytes, buf[r:w] not handled yet; nil while the connection is idle
	own   bool   // buf is from the heap
	r, w  int
	pduAt int // start of the PDU that is being handled
	data  dataPDU

	n      int           // what try has received
	err    syscall.Errno // or why not
	parked atomic.Uint32 // times that the reader went to sleep
}

// dataPDU is the H2CData PDU that is being received.
type dataPDU struct {
	c      *cmd
	left   int  // bytes of data still to come
	digest bool // 4 bytes of digest come behind them
	sum    uint32
	last   bool
}

// aheadBytes is how much is received ahead, into the buffer, while data that
// was asked for is under way: enough for the headers and commands in between.
// The data itself then arrives where it belongs, without a copy.
const aheadBytes = 4 << 10

// ahead is the part of the buffer to receive into.
func (rx *receiver) ahead() []byte {
	p := rx.buf[rx.w:]
	if rx.conn.q.asked.Load() > 0 {
		p = p[:min(len(p), aheadBytes)]
	}
	return p
}

// recv receives what is there: into the command's memory while the data of an
// H2CData PDU is due and nothing else is buffered, into the buffer otherwise.
func (rx *receiver) recv() (int, syscall.Errno) {
	if rx.r == rx.w {
		rx.r, rx.w = 0, 0
		if rx.buf == nil {
			rx.takeBuffer()
		}
	}
	if rx.data.left > 0 && rx.w == 0 {
		c := rx.data.c
		return rx.conn.nc.RecvData(c.iov, int(c.got), rx.data.left, rx.ahead())
	}
	if len(rx.buf)-rx.w < len(rx.buf)/8 { // keep room for a whole PDU
		rx.w = copy(rx.buf, rx.buf[rx.r:rx.w])
		rx.r = 0
	}
	return rx.conn.nc.Recv(rx.ahead())
}

// hushed is how long nothing was received when what comes then may have lain in the
// socket for a while, as this process was stopped. A host that has closed the
// connection behind it has sent it elsewhere since, like one that has lapsed.
const hushed = 100 * time.Millisecond

// received handles n bytes that recv has just received.
func (rx *receiver) received(n int) error {
	conn := rx.conn
	if conn.ctrl != nil {
		now := nanotime()
		if conn.ctrl.lapsed(conn, now) || now-conn.seen.Load() > int64(hushed) && conn.nc.Ended() {
			return errClosing
		}
		conn.seen.Store(now)
	}
	if rx.data.left > 0 && rx.w == 0 {
		n -= rx.tookData(min(n, rx.data.left))
	}
	rx.w += n
	for {
		more, err := rx.next()
		if err != nil || !more {
			return err
		}
	}
}

// tookData accounts n bytes that lie in the command's memory already.
func (rx *receiver) tookData(n int) int {
	d := &rx.data
	if d.digest {
		v := bdev.IovAt(d.c.iov, int(d.c.got))
		d.sum = v.Digest(d.sum, n)
	}
	d.c.got += uint32(n)
	d.left -= n
	return n
}

// next handles one PDU, or a part of an H2CData PDU's data. It reports
// whether it got on.
func (rx *receiver) next() (bool, error) {
	conn := rx.conn
	in := rx.buf[rx.r:rx.w]
	if d := &rx.data; d.c != nil {
		if d.left > 0 {
			if len(in) == 0 {
				return false, nil
			}
			v := bdev.IovAt(d.c.iov, int(d.c.got))
			n := v.Scatter(in[:min(len(in), d.left)])
			rx.tookData(n)
			rx.r += n
			return true, nil
		}
		if d.digest {
			if len(in) < nvme.DigestLen {
				return false, nil
			}
			if nvme.Digest(in) != d.sum {
				d.c.badData = true
			}
			rx.r += nvme.DigestLen
		}
		c, last := d.c, d.last
		*d = dataPDU{}
		return true, rx.dataEnd(c, last)
	}
	if len(in) < nvme.HeaderLen {
		return false, nil
	}
	h, err := nvme.DecodeHeader(in)
	if err != nil {
		return false, headerError(in, h, err)
	}
	need, err := rx.admit(h, in)
	if err != nil || len(in) < need {
		return false, err
	}
	if conn.hdgst && h.Flags&nvme.FlagHDGST != 0 {
		if d := nvme.Digest(in[h.HLen:]); d != nvme.UpdateDigest(0, in[:h.HLen]) {
			return false, &protocolError{status: nvme.FatalHeaderDigest, info: d, header: clip(in[:h.HLen]), what: fmt.Sprint("of a ", h.Type)}
		}
	}
	rx.pduAt = rx.r
	if rx.polled && h.Type == nvme.PDUCapsuleCmd && in[nvme.HeaderLen] == byte(nvme.OpFabrics) {
		return false, errResume // authenticating computes for milliseconds
	}
	if h.Type == nvme.PDUCapsuleCmd && conn.phase == phaseReady && conn.q.lacksRoom(h, in) {
		if rx.polled {
			return false, errResume
		}
		if err := conn.q.awaitRoom(h, in); err != nil {
			return false, err
		}
	}
	rx.r += need
	switch h.Type {
	case nvme.PDUICReq:
		return true, conn.initialize(in[:need])
	case nvme.PDUCapsuleCmd:
		return true, conn.capsule(h, in[:need])
	case nvme.PDUH2CData:
		return true, rx.dataStart(h, in[:need])
	}
	t, _ := nvme.DecodeTermReq(in[:need])
	return false, fmt.Errorf("terminated by the host: %v", t.Status)
}

// fabricsCapsule is how much data a Fabrics command may carry at least
// (transport 1.0, section 3.3.2.1), bytes.
const fabricsCapsule = 8192

// admit checks a PDU against the state of the connection and what was
// negotiated, and returns how many bytes must be there to handle it: all of
// it, or, of H2CData, what comes before the data.
func (rx *receiver) admit(h nvme.Header, in []byte) (int, error) {
	conn := rx.conn
	bad := func(s nvme.FatalStatus, info uint32, what string) error {
		return &protocolError{status: s, info: info, header: clip(in[:min(len(in), int(h.HLen))]), what: fmt.Sprint(h.Type, ": ", what)}
	}
	var want uint8
	switch h.Type {
	case nvme.PDUICReq:
		if conn.phase != phaseNew {
			return 0, bad(nvme.FatalSequence, 0, "the connection is initialized already")
		}
		return nvme.ICLen, nil
	case nvme.PDUH2CTermReq:
		return int(h.PLen), nil
	case nvme.PDUCapsuleCmd, nvme.PDUH2CData:
		if conn.phase == phaseNew || h.Type == nvme.PDUH2CData && conn.phase < phaseAuth {
			return 0, bad(nvme.FatalSequence, 0, "too early")
		}
	default:
		return 0, bad(nvme.FatalInvalidHeader, 0, "only a controller sends it")
	}
	if conn.hdgst {
		want |= nvme.FlagHDGST
	}
	data := h.DataLen()
	if conn.ddgst && data > 0 {
		want |= nvme.FlagDDGST
	}
	if got := h.Flags & (nvme.FlagHDGST | nvme.FlagDDGST); got != want && !(data == 0 && conn.ddgst && got == want|nvme.FlagDDGST) {
		return 0, bad(nvme.FatalInvalidHeader, 1, "digest flags differ from what was negotiated")
	}
	if h.Type == nvme.PDUCapsuleCmd {
		limit := conn.opts.capsule
		if conn.phase != phaseReady || conn.q.id == 0 {
			limit = max(limit, fabricsCapsule)
		} else if data > limit && data <= fabricsCapsule { // Fabrics commands may carry as much on every queue
			if len(in) <= nvme.HeaderLen {
				return nvme.HeaderLen + 1, nil
			}
			if in[nvme.HeaderLen] == byte(nvme.OpFabrics) {
				limit = fabricsCapsule
			}
		}
		if data > limit {
			return 0, bad(nvme.FatalInvalidHeader, 4, "more data than a capsule may carry")
		}
		if conn.phase != phaseReady && int(h.PLen) > helloBuffer/2 {
			return 0, bad(nvme.FatalInvalidHeader, 4, "more data than a Connect or an authentication has")
		}
		return int(h.PLen), nil
	}
	if data > conn.opts.maxData {
		return 0, bad(nvme.FatalLimitExceeded, 0, "more data than MAXH2CDATA")
	}
	if data == 0 {
		return int(h.PLen), nil
	}
	return int(h.PDO), nil
}

func headerError(in []byte, h nvme.Header, err error) error {
	at := uint32(0)
	switch err {
	case nvme.ErrPDUHeaderLen:
		at = 2
	case nvme.ErrPDUOffset:
		at = 3
	case nvme.ErrPDULen:
		at = 4
	case nvme.ErrPDUFlags:
		at = 1
	}
	n := max(nvme.HeaderLen, h.Type.HeaderLen())
	return &protocolError{status: nvme.FatalInvalidHeader, info: at, header: clip(in[:min(len(in), n)]), what: err.Error()}
}

// clip copies what goes into an error: the buffer is reused.
func clip(b []byte) []byte { return append([]byte(nil), b...) }
