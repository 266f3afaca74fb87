package host

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// Sizes in bytes of the reader.
const (
	readBuffer = 128 << 10
	directFrom = 4 << 10  // from here on the rest of a data PDU is received in place
	largeData  = 16 << 10 // data PDUs that make reading ahead a waste
	smallAhead = 512      // what is read ahead between large data PDUs
)

// reader is the receiving half of a queue, used by its goroutine, or while
// that sleeps by one that polls: by the one that has queue.in's turn.
type reader struct {
	buf   []byte // nil while the queue sleeps with nothing in it
	r, w  int    // unread bytes of buf
	ahead int    // bytes to read ahead at most
	batch bdev.Batch
	pace  pace
	err   error

	// The data PDU being received.
	slot    *slot // nil: none
	cid     uint16
	left    int // bytes of data still to come
	digest  uint32
	checked bool // a digest follows
	success bool // the command is done when the PDU is
}

// buffers are readers' buffers: a connection holds one only while it receives,
// so that thousands of idle ones cost little.
var buffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// rest gives the buffer back when nothing is in it.
func (rd *reader) rest() {
	if rd.buf != nil && rd.r == rd.w && rd.slot == nil {
		buffers.Put((*[readBuffer]byte)(rd.buf))
		rd.buf, rd.r, rd.w = nil, 0, 0
	}
}

// protocolError is a PDU that the controller must not send.
type protocolError struct {
	status nvme.FatalStatus
	info   uint32
	msg    string
}

func (e *protocolError) Error() string { return "protocol error: " + e.msg }

func violation(s nvme.FatalStatus, info uint32, format string, args ...any) error {
	return &protocolError{status: s, info: info, msg: fmt.Sprintf(format, args...)}
}

// read is the queue's goroutine.
func (q *queue) read() {
	err := q.in.Sleep()
	q.in.Cool()
	if q.rd.err != nil {
		err = q.rd.err
	}
	var p *protocolError
	if errors.As(err, &p) {
		q.terminate(p)
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	q.fail(err)
	q.rd.batch.Flush()
	q.teardown(&q.rd.batch)
}

// receive handles everything there is and polls for more where that pays. It
// reports whether the queue ends; the reader sleeps otherwise.
func (q *queue) receive() bool {
	for {
		if _, end := q.serve(); end {
			return true
		}
		spin := q.ses.ctl.cfg.Spin
		if spin <= 0 || q.id == 0 {
			return false
		}
		now := bdev.Clock()
		if !q.inFlight() {
			q.rd.pace.stop()
			q.in.Warm(now)
			return false
		}
		q.rd.pace.begin(now)
		if !q.in.Spin(q.rd.pace.limit(spin), q.try) {
			q.in.Warm(bdev.Clock())
			return false
		}
	}
}

// serve handles everything there is. end says that the queue ends, for rd.err.
func (q *queue) serve() (found, end bool) {
	rd := &q.rd
	for !q.down.Load() {
		n, e := q.recv()
		switch {
		case e == syscall.EAGAIN:
			return found, false
		case e != 0:
			rd.err = e
			return found, true
		case n == 0:
			rd.err = io.EOF
			return found, true
		}
		found = true
		if err := q.consume(n); err != nil {
			rd.err = err
			return true, true
		}
		if rd.pace.since != 0 {
			rd.pace.end(bdev.Clock())
		}
		rd.batch.Flush()
	}
	return found, true
}

// try is serve for Input.Spin.
func (q *queue) try() bool {
	found, end := q.serve()
	return found || end
}

// PollSource serves the queue while its reader sleeps (bdev.Source).
func (q *queue) PollSource() bool {
	// Nothing is due, which is cheaper to know than to ask the socket.
	return q.inFlight() && q.in.Poll(q.look)
}

func (q *queue) look() (bool, tcp.Next) {
	found, end := q.serve()
	if end {
		return found, tcp.Wake // the reader sees to it
	}
	q.rd.rest()
	return found, tcp.Done
}

func (q *queue) inFlight() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.free) < len(q.slots)
}

// recv receives once: the rest of a large data PDU in place, all else into
// the buffer.
func (q *queue) recv() (int, syscall.Errno) {
	rd := &q.rd
	if rd.buf == nil {
		rd.buf = buffers.Get().(*[readBuffer]byte)[:]
	}
	if rd.r == rd.w {
		rd.r, rd.w = 0, 0
	} else if rd.r > 0 { // part of a header
		rd.w = copy(rd.buf, rd.buf[rd.r:rd.w])
		rd.r = 0
	}
	end := min(rd.w+rd.ahead, len(rd.buf))
	if rd.left < directFrom {
		return q.conn.Recv(rd.buf[rd.w:max(end, rd.w+rd.left)])
	}
	s := rd.slot
	n, e := q.conn.RecvData(s.iov, s.off+int(s.moved), rd.left, rd.buf[:smallAhead])
	if e != 0 || n == 0 {
		return n, e
	}
	got := min(n, rd.left)
	if rd.checked {
		v := bdev.IovAt(s.iov, s.off+int(s.moved))
		rd.digest = v.Digest(rd.digest, got)
	}
	s.moved += uint32(got)
	rd.left -= got
	rd.w = n - got
	return -1, 0
}

// consume handles all complete PDUs; n more bytes are in the buffer, or -1
// when recv has counted them itself.
func (q *queue) consume(n int) error {
	rd := &q.rd
	if n > 0 {
		rd.w += n
	}
	for {
		if rd.slot != nil {
			if !q.takeData() {
				return nil
			}
			continue
		}
		used, err := q.takePDU(rd.buf[rd.r:rd.w])
		if err != nil {
			return err
		}
		if used == 0 {
			return nil
		}
		rd.r += used
	}
}

// takeData moves buffered data of the current data PDU and ends the PDU when
// all is here.
func (q *queue) takeData() bool {
	rd := &q.rd
	s := rd.slot
	if n := min(rd.left, rd.w-rd.r); n > 0 {
		p := rd.buf[rd.r : rd.r+n]
		v := bdev.IovAt(s.iov, s.off+int(s.moved))
		v.Scatter(p)
		if rd.checked {
			rd.digest = nvme.UpdateDigest(rd.digest, p)
		}
		s.moved += uint32(n)
		rd.left -= n
		rd.r += n
	}
	if rd.left > 0 {
		return false
	}
	if rd.checked {
		if rd.w-rd.r < nvme.DigestLen {
			return false
		}
		if nvme.Digest(rd.buf[rd.r:]) != rd.digest {
			s.bad = true
		}
		rd.r += nvme.DigestLen
	}
	rd.slot = nil
	if rd.success {
		q.mu.Lock()
		q.finish(rd.cid, nvme.Completion{CID: rd.cid}, &rd.batch)
	}
	return true
}

// takePDU handles the PDU at the start of p and returns the bytes used: 0
// when its header is not complete yet. Of a data PDU the header is used.
func (q *queue) takePDU(p []byte) (int, error) {
	if len(p) < nvme.HeaderLen {
		return 0, nil
	}
	h, err := nvme.DecodeHeader(p)
	if err != nil {
		return 0, violation(nvme.FatalInvalidHeader, 0, "%v (% x)", err, p[:nvme.HeaderLen])
	}
	if h.Type == nvme.PDUC2HTermReq {
		if len(p) < int(h.PLen) {
			return 0, nil
		}
		t, err := nvme.DecodeTermReq(p)
		if err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("the controller ended the connection: %v (0x%x)", t.Status, t.Info)
	}
	need := int(h.HLen)
	if (h.Flags&nvme.FlagHDGST != 0) != q.hdgst {
		return 0, violation(nvme.FatalInvalidHeader, 1, "%v header digest flag is not as agreed", h.Type)
	}
	if q.hdgst {
		need += nvme.DigestLen
	}
	if h.Type == nvme.PDUC2HData && h.DataLen() > 0 {
		need = int(h.PDO)
	}
	if len(p) < need {
		return 0, nil
	}
	if q.hdgst && nvme.Digest(p[h.HLen:]) != nvme.UpdateDigest(0, p[:h.HLen]) {
		return 0, violation(nvme.FatalHeaderDigest, nvme.Digest(p[h.HLen:]), "%v header digest is wrong", h.Type)
	}
	switch h.Type {
	case nvme.PDUCapsuleResp:
		cqe, err := nvme.DecodeCompletion(p[nvme.HeaderLen:])
		if err != nil {
			return 0, err
		}
		return need, q.answer(cqe)
	case nvme.PDUC2HData:
		return need, q.startData(h, p)
	case nvme.PDUR2T:
		r, err := nvme.DecodeR2T(p)
		if err != nil {
			return 0, err
		}
		return need, q.sendAsked(r)
	}
	return 0, violation(nvme.FatalInvalidHeader, 0, "%v is not for a host", h.Type)
}

// lookup returns the slot of a command in flight; q.mu is held.
func (q *queue) lookup(cid uint16, t nvme.PDUType) (*slot, error) {
	if int(cid) >= len(q.slots) || !q.slots[cid].busy || q.slots[cid].answered {
		return nil, violation(nvme.FatalInvalidHeader, 8, "%v for command %d, which is not in flight", t, cid)
	}
	return &q.slots[cid], nil
}

// answer takes a completion.
func (q *queue) answer(cqe nvme.Completion) error {
	q.mu.Lock()
	s, err := q.lookup(cqe.CID, nvme.PDUCapsuleResp)
	if err == nil && cqe.Status == nvme.Success && s.admin == nil && s.moved != s.size {
		err = violation(nvme.FatalSequence, 0, "command %d succeeded after %d of %d bytes", cqe.CID, s.moved, s.size)
	}
	if err != nil {
		q.mu.Unlock()
		return err
	}
	if s.unsent > 0 {
		s.answered, s.cqe = true, cqe
		q.mu.Unlock()
		return nil
	}
	q.finish(cqe.CID, cqe, &q.rd.batch)
	return nil
}

// startData takes the header of a data PDU.
func (q *queue) startData(h nvme.Header, p []byte) error {
	d, err := nvme.DecodeData(p)
	if err != nil {
		return err
	}
	rd := &q.rd
	q.mu.Lock()
	s, err := q.lookup(d.CID, h.Type)
	q.mu.Unlock()
	switch {
	case err != nil:
		return err
	case d.Length != h.DataLen() || d.Length == 0:
		return violation(nvme.FatalInvalidHeader, 16, "C2HData says %d bytes and carries %d", d.Length, h.DataLen())
	case (h.Flags&nvme.FlagDDGST != 0) != q.ddgst:
		return violation(nvme.FatalInvalidHeader, 1, "C2HData data digest flag is not as agreed")
	case s.write:
		return violation(nvme.FatalSequence, 0, "C2HData for command %d, which sends data", d.CID)
	case d.Offset != s.moved || uint64(d.Offset)+uint64(d.Length) > uint64(s.size):
		return violation(nvme.FatalDataRange, 12, "C2HData of %d bytes at %d, command %d has %d of %d",
			d.Length, d.Offset, d.CID, s.moved, s.size)
	}
	rd.slot, rd.cid, rd.left = s, d.CID, int(d.Length)
	rd.digest, rd.checked = 0, q.ddgst
	rd.success = h.Flags&nvme.FlagSuccess != 0
	if rd.success && (h.Flags&nvme.FlagLast == 0 || d.Offset+d.Length != s.size && s.admin == nil) {
		return violation(nvme.FatalSequence, 0, "C2HData ends command %d with success after %d of %d bytes", d.CID, d.Offset+d.Length, s.size)
	}
	rd.ahead = len(rd.buf)
	if d.Length >= largeData {
		rd.ahead = smallAhead
	}
	return nil
}

// sendAsked answers an R2T with data.
func (q *queue) sendAsked(r nvme.R2T) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, err := q.lookup(r.CID, nvme.PDUR2T)
	switch {
	case err != nil:
		return err
	case !s.write:
		return violation(nvme.FatalSequence, 0, "R2T for command %d, which sends no data", r.CID)
	case r.Length == 0 || r.Offset != s.moved || uint64(r.Offset)+uint64(r.Length) > uint64(s.size):
		return violation(nvme.FatalDataRange, 12, "R2T of %d bytes at %d, command %d has sent %d of %d",
			r.Length, r.Offset, r.CID, s.moved, s.size)
	}
	s.moved += r.Length
	for at, end := int(r.Offset), int(r.Offset+r.Length); at < end; {
		n := min(end-at, q.maxH2C)
		var flags uint8
		if at+n == end {
			flags = nvme.FlagLast
		}
		var body [nvme.DataLen]byte
		nvme.PutData(body[:], nvme.DataPDU{CID: r.CID, TTag: r.TTag, Offset: uint32(at), Length: uint32(n)})
		q.pdu(nvme.PDUH2CData, flags, nvme.DataLen, s, r.CID, at, n, body[nvme.HeaderLen:])
		at += n
	}
	q.mark(&q.rd.batch)
	return nil
}

// terminate tells the controller why the connection ends, if the socket takes
// it at once.
func (q *queue) terminate(p *protocolError) {
	var b [nvme.TermReqMax]byte
	rd := &q.rd
	n := nvme.PutTermReq(b[:], nvme.PDUH2CTermReq, nvme.TermReq{Status: p.status, Info: p.info, Header: rd.buf[rd.r:min(rd.w, rd.r+24)]})
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sending || q.dead || !q.out.Empty() || !q.onWire.Empty() {
		return
	}
	copy(q.out.Header(n), b[:n])
	q.out, q.onWire = q.onWire, q.out
	_ = q.send(false)
}
