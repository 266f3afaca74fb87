package host

import (
	"bytes"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// offline makes a queue without a connection: what it sends stays in its
// send list.
func offline(depth int, digests bool) *queue {
	q := &queue{id: 1, ses: &session{ctl: &Controller{}}, inline: 512, maxH2C: 4096, align: 4, hdgst: digests, ddgst: digests,
		slots: make([]slot, depth), out: &sendList{}, onWire: &sendList{}, sending: true}
	for i := range depth {
		q.free = append(q.free, uint16(depth-1-i))
	}
	q.idle.L = &q.mu
	q.rd.buf, q.rd.ahead = make([]byte, readBuffer), readBuffer
	return q
}

// feed has the queue receive b in pieces of at most n bytes, as recv would.
func (q *queue) feed(b []byte, n int) error {
	rd := &q.rd
	for len(b) > 0 {
		if rd.r == rd.w {
			rd.r, rd.w = 0, 0
		} else if rd.r > 0 {
			rd.w = copy(rd.buf, rd.buf[rd.r:rd.w])
			rd.r = 0
		}
		got := copy(rd.buf[rd.w:], b[:min(n, len(b))])
		b = b[got:]
		if err := q.consume(got); err != nil {
			return err
		}
		rd.batch.Flush()
	}
	return nil
}

const guard = 64

// FuzzConnection has a controller send any bytes on a connection with four
// commands in flight. Whatever it is, each request completes at most once,
// nothing outside its buffer is written, and what is sent in return is
// bounded by the data of the writes.
func FuzzConnection(f *testing.F) {
	pdu := func(t nvme.PDUType, flags uint8, body [16]byte, data []byte) []byte {
		h := nvme.Header{Type: t, Flags: flags, HLen: 24, PLen: uint32(24 + len(data))}
		if len(data) > 0 {
			h.PDO = 24
		}
		b := make([]byte, 8)
		nvme.PutHeader(b, h)
		return append(append(b, body[:]...), data...)
	}
	data := func(cid uint16, off, n uint32) (b [16]byte) {
		var h [24]byte
		nvme.PutData(h[:], nvme.DataPDU{CID: cid, Offset: off, Length: n})
		return [16]byte(h[8:])
	}
	cqe := func(cid uint16) (b [16]byte) {
		nvme.PutCompletion(b[:], nvme.Completion{CID: cid})
		return b
	}
	f.Add(pdu(nvme.PDUC2HData, 12, data(0, 0, 1024), make([]byte, 1024)), uint16(7), false)
	half := pdu(nvme.PDUC2HData, 0, data(2, 0, 512), make([]byte, 512))
	f.Add(append(half, pdu(nvme.PDUC2HData, 12, data(2, 512, 512), make([]byte, 512))...), uint16(100), false)
	f.Add(append(pdu(nvme.PDUR2T, 0, data(1, 0, 1024), nil), pdu(nvme.PDUCapsuleResp, 0, cqe(1), nil)...), uint16(1), false)
	f.Add(pdu(nvme.PDUCapsuleResp, 0, cqe(3), nil), uint16(24), true)
	f.Fuzz(func(t *testing.T, in []byte, n uint16, digests bool) {
		q := offline(4, digests)
		var b bdev.Batch
		var ended [4]int
		bufs := make([][]byte, 4)
		for i, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite, bdev.OpRead, bdev.OpFlush} {
			bufs[i] = bytes.Repeat([]byte{0xa5}, 1024+2*guard)
			own := bufs[i][guard : guard+1024]
			r := &bdev.Request{Op: op, Iov: [][]byte{own[:100:100], own[100:101:101], own[101:]}}
			r.Done = func(*bdev.Request, *bdev.Batch) { ended[i]++ }
			c := command{iov: r.Iov, size: 1024, write: op == bdev.OpWrite, r: r}
			if op == bdev.OpFlush {
				c.iov, c.size = nil, 0
			}
			q.submit(&c, &b)
		}
		before := q.out.Len()
		_ = q.feed(in, int(n)%2000+1)
		for i := range bufs {
			if ended[i] > 1 {
				t.Fatalf("request %d ended %d times", i, ended[i])
			}
			edge := bytes.Repeat([]byte{0xa5}, guard)
			if !bytes.Equal(bufs[i][:guard], edge) || !bytes.Equal(bufs[i][guard+1024:], edge) {
				t.Fatalf("request %d: bytes outside its buffer were written", i)
			}
		}
		if !bytes.Equal(bufs[1], bytes.Repeat([]byte{0xa5}, 1024+2*guard)) {
			t.Fatal("the data of a write was changed")
		}
		if sent := q.out.Len() - before; sent > 1024*(1+36) {
			t.Fatalf("%d bytes are sent for 1024 bytes of data", sent)
		}
	})
}

// TestAnswerBeforeSent: a command that is answered while the send list still
// points at its buffer completes only when that is sent.
func TestAnswerBeforeSent(t *testing.T) {
	q := offline(2, false)
	var b bdev.Batch
	ended := 0
	r := &bdev.Request{Op: bdev.OpWrite, Iov: [][]byte{make([]byte, 512)}, Done: func(*bdev.Request, *bdev.Batch) { ended++ }}
	q.submit(&command{iov: r.Iov, size: 512, write: true, r: r}, &b)
	if err := q.answer(nvme.Completion{CID: 0}); err != nil || ended != 0 {
		t.Fatalf("%v, ended %d times before it was sent", err, ended)
	}
	if err := q.answer(nvme.Completion{CID: 0}); err == nil {
		t.Fatal("a second answer was accepted")
	}
	q.out, q.onWire = q.onWire, q.out
	q.mu.Lock()
	q.sentAll(&b)
	q.mu.Unlock()
	if ended != 1 || len(q.free) != 2 {
		t.Fatalf("ended %d times, %d slots free", ended, len(q.free))
	}
}

// TestSteadyStateDoesNotAllocate submits and answers reads and writes, split
// and whole, as the data path does.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	q := offline(8, false)
	s := q.ses
	s.io, s.maxXfer = []*queue{q}, 4096
	s.ctl.session.Store(s)
	ns := &Namespace{ctl: s.ctl, id: 1}
	ns.now.Store(&Identity{Blocks: 100, BlockSize: 512})
	var b bdev.Batch
	resp := make([]byte, 24)
	nvme.PutHeader(resp, nvme.Header{Type: nvme.PDUCapsuleResp, HLen: 24, PLen: 24})
	var r bdev.Request
	r.Iov = [][]byte{make([]byte, 16384)}
	r.Done = func(*bdev.Request, *bdev.Batch) {}
	round := func() {
		for _, op := range []bdev.Op{bdev.OpFlush, bdev.OpWriteZeroes, bdev.OpUnmap} {
			r.Op, r.Blocks = op, 8
			s.data.VWC = 1
			ns.Submit(&r, nil, &b)
			b.Flush()
			for cid := range q.slots {
				if sl := &q.slots[cid]; sl.busy {
					nvme.PutCompletion(resp[8:], nvme.Completion{CID: uint16(cid)})
					sl.unsent = 0
					if err := q.feed(resp, 24); err != nil {
						t.Fatal(err)
					}
				}
			}
			q.out.reset()
		}
		r.Op, r.Blocks = bdev.OpRead, 32 // in four pieces
		ns.Submit(&r, nil, &b)
		b.Flush()
		for cid := range q.slots {
			if sl := &q.slots[cid]; sl.busy {
				sl.moved = sl.size
				nvme.PutCompletion(resp[8:], nvme.Completion{CID: uint16(cid)})
				if err := q.feed(resp, 24); err != nil {
					t.Fatal(err)
				}
			}
		}
		q.out.reset()
	}
	round()
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Fatalf("%v allocations for four requests", n)
	}
}
