package nvmftgt

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

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
func (k *conn) ahead() []byte {
	p := k.rbuf[k.w:]
	if k.asked.Load() > 0 {
		p = p[:min(len(p), aheadBytes)]
	}
	return p
}

// recv receives what is there: into the command's memory while the data of an
// H2CData PDU is due and nothing else is buffered, into the buffer otherwise.
func (k *conn) recv() (int, syscall.Errno) {
	if k.r == k.w {
		k.r, k.w = 0, 0
		if k.rbuf == nil {
			k.takeRecvBuffer()
		}
	}
	if k.data.left > 0 && k.w == 0 {
		c := k.data.c
		return k.nc.RecvData(c.iov, int(c.got), k.data.left, k.ahead())
	}
	if len(k.rbuf)-k.w < len(k.rbuf)/8 { // keep room for a whole PDU
		k.w = copy(k.rbuf, k.rbuf[k.r:k.w])
		k.r = 0
	}
	return k.nc.Recv(k.ahead())
}

// received handles n bytes that recv has just received.
func (k *conn) received(n int) error {
	if k.ctrl != nil {
		now := nanotime()
		if k.ctrl.lapsed(k, now) {
			return errClosing
		}
		k.seen.Store(now)
	}
	if k.data.left > 0 && k.w == 0 {
		n -= k.tookData(min(n, k.data.left))
	}
	k.w += n
	for {
		more, err := k.next()
		if err != nil || !more {
			return err
		}
	}
}

// tookData accounts n bytes that lie in the command's memory already.
func (k *conn) tookData(n int) int {
	d := &k.data
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
func (k *conn) next() (bool, error) {
	in := k.rbuf[k.r:k.w]
	if d := &k.data; d.c != nil {
		if d.left > 0 {
			if len(in) == 0 {
				return false, nil
			}
			v := bdev.IovAt(d.c.iov, int(d.c.got))
			n := v.Scatter(in[:min(len(in), d.left)])
			k.tookData(n)
			k.r += n
			return true, nil
		}
		if d.digest {
			if len(in) < nvme.DigestLen {
				return false, nil
			}
			if nvme.Digest(in) != d.sum {
				d.c.badData = true
			}
			k.r += nvme.DigestLen
		}
		c, last := d.c, d.last
		*d = dataPDU{}
		return true, k.dataEnd(c, last)
	}
	if len(in) < nvme.HeaderLen {
		return false, nil
	}
	h, err := nvme.DecodeHeader(in)
	if err != nil {
		return false, k.headerError(in, h, err)
	}
	need, err := k.admit(h, in)
	if err != nil || len(in) < need {
		return false, err
	}
	if k.hdgst && h.Flags&nvme.FlagHDGST != 0 {
		if d := nvme.Digest(in[h.HLen:]); d != nvme.UpdateDigest(0, in[:h.HLen]) {
			return false, &protocolError{status: nvme.FatalHeaderDigest, info: d, header: clip(in[:h.HLen]), what: fmt.Sprint("of a ", h.Type)}
		}
	}
	k.pduAt = k.r
	if h.Type == nvme.PDUCapsuleCmd && k.phase == phaseReady && k.lacksRoom(h, in) {
		if k.polled {
			return false, errResume
		}
		if err := k.awaitRoom(h, in); err != nil {
			return false, err
		}
	}
	k.r += need
	switch h.Type {
	case nvme.PDUICReq:
		return true, k.initialize(in[:need])
	case nvme.PDUCapsuleCmd:
		return true, k.capsule(h, in[:need])
	case nvme.PDUH2CData:
		return true, k.dataStart(h, in[:need])
	}
	t, _ := nvme.DecodeTermReq(in[:need])
	return false, fmt.Errorf("terminated by the host: %v", t.Status)
}

// admit checks a PDU against the state of the connection and what was
// negotiated, and returns how many bytes must be there to handle it: all of
// it, or, of H2CData, what comes before the data.
func (k *conn) admit(h nvme.Header, in []byte) (int, error) {
	bad := func(s nvme.FatalStatus, info uint32, what string) error {
		return &protocolError{status: s, info: info, header: clip(in[:min(len(in), int(h.HLen))]), what: fmt.Sprint(h.Type, ": ", what)}
	}
	var want uint8
	switch h.Type {
	case nvme.PDUICReq:
		if k.phase != phaseNew {
			return 0, bad(nvme.FatalSequence, 0, "the connection is initialized already")
		}
		return nvme.ICLen, nil
	case nvme.PDUH2CTermReq:
		return int(h.PLen), nil
	case nvme.PDUCapsuleCmd, nvme.PDUH2CData:
		if k.phase == phaseNew || h.Type == nvme.PDUH2CData && k.phase != phaseReady {
			return 0, bad(nvme.FatalSequence, 0, "too early")
		}
	default:
		return 0, bad(nvme.FatalInvalidHeader, 0, "only a controller sends it")
	}
	if k.hdgst {
		want |= nvme.FlagHDGST
	}
	data := h.DataLen()
	if k.ddgst && data > 0 {
		want |= nvme.FlagDDGST
	}
	if got := h.Flags & (nvme.FlagHDGST | nvme.FlagDDGST); got != want && !(data == 0 && k.ddgst && got == want|nvme.FlagDDGST) {
		return 0, bad(nvme.FatalInvalidHeader, 1, "digest flags differ from what was negotiated")
	}
	if h.Type == nvme.PDUCapsuleCmd {
		limit := k.opts.capsule
		if k.phase == phaseConnect || k.qid == 0 {
			limit = max(limit, 8192)
		}
		if data > limit {
			return 0, bad(nvme.FatalInvalidHeader, 4, "more data than a capsule may carry")
		}
		if k.phase == phaseConnect && int(h.PLen) > helloBuffer/2 {
			return 0, bad(nvme.FatalInvalidHeader, 4, "more data than a Connect has")
		}
		return int(h.PLen), nil
	}
	if data > k.opts.maxData {
		return 0, bad(nvme.FatalLimitExceeded, 0, "more data than MAXH2CDATA")
	}
	if data == 0 {
		return int(h.PLen), nil
	}
	return int(h.PDO), nil
}

func (k *conn) headerError(in []byte, h nvme.Header, err error) error {
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
