package nvmftgt

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// sender is what goes to the host. conn.mu guards it, but for snd, which belongs
// to the one that has set sending, and align, which ICReq sets.
type sender struct {
	conn     *conn
	align    int        // of data in C2HData PDUs, bytes
	cond     *sync.Cond // on conn.mu: sending, blocked
	out, snd outQueue   // what gathers, and what is being sent
	dirty    bool       // a batch has this sender
	sending  bool       // somebody sends snd
	blocked  bool       // the socket is full
	draining bool       // somebody waits for the socket
}

// outQueue gathers PDUs to send.
type outQueue struct {
	tcp.Queue
	done []*cmd // slots that are free once everything is sent
}

func (q *outQueue) clear() {
	q.Queue.Reset()
	clear(q.done)
	q.done = q.done[:0]
}

// openPDU queues a PDU with a header of fixed bytes, and data bytes of data
// that the caller appends. The caller fills in the rest of the header and
// seals it. conn.mu is held.
func (tx *sender) openPDU(t nvme.PDUType, flags uint8, fixed, data int) []byte {
	h := nvme.Header{Type: t, Flags: flags, HLen: uint8(fixed), PLen: uint32(fixed)}
	room := fixed
	if tx.conn.hdgst {
		h.Flags |= nvme.FlagHDGST
		room += nvme.DigestLen
	}
	if data > 0 {
		room = (room + tx.align - 1) / tx.align * tx.align
		h.PDO = uint8(room)
		if tx.conn.ddgst {
			h.Flags |= nvme.FlagDDGST
			h.PLen += nvme.DigestLen
		}
	}
	h.PLen += uint32(room - fixed + data)
	p := tx.out.Header(room)
	nvme.PutHeader(p, h)
	return p
}

// seal adds the header digest to a header of fixed bytes.
func (tx *sender) seal(p []byte, fixed int) {
	if tx.conn.hdgst {
		nvme.PutDigest(p[fixed:], nvme.UpdateDigest(0, p[:fixed]))
	}
}

// reply queues the answer of c: its data, if it has some for the host, and a
// response capsule unless the data says it all.
func (conn *conn) reply(c *cmd, s nvme.Status, b *bdev.Batch) {
	conn.mu.Lock()
	if conn.closing.Load() {
		conn.mu.Unlock()
		c.drop()
		return
	}
	if c.kept.Load() {
		c.kept.Store(false)
	}
	capsule := true
	if c.toHost && c.n > 0 {
		flags := nvme.FlagLast
		if conn.opts.success && c.dw0 == 0 && c.dw1 == 0 && conn.q.untold+1 < conn.q.tellHead {
			flags |= nvme.FlagSuccess
			capsule = false
		}
		p := conn.tx.openPDU(nvme.PDUC2HData, flags, nvme.DataLen, int(c.n))
		nvme.PutData(p, nvme.DataPDU{CID: c.sqe.CID(), Length: c.n})
		conn.tx.seal(p, nvme.DataLen)
		conn.tx.out.Data(c.iov, 0, int(c.n))
		if conn.ddgst {
			v := bdev.IovAt(c.iov, 0)
			nvme.PutDigest(conn.tx.out.Header(nvme.DigestLen), v.Digest(0, int(c.n)))
		}
	}
	conn.q.advanceHead()
	if capsule {
		p := conn.tx.openPDU(nvme.PDUCapsuleResp, 0, nvme.CapsuleRespLen, 0)
		nvme.PutCompletion(p[nvme.HeaderLen:], nvme.Completion{DW0: c.dw0, DW1: c.dw1, SQHead: conn.q.sqHead(c), CID: c.sqe.CID(), Status: s})
		conn.tx.seal(p, nvme.CapsuleRespLen)
	}
	conn.tx.out.done = append(conn.tx.out.done, c)
	conn.q.completed++
	conn.q.carriedOut += uint64(c.carried)
	conn.tx.mark(b)
	conn.mu.Unlock()
}

// sendR2T asks for all data of c at once.
func (conn *conn) sendR2T(c *cmd, b *bdev.Batch) {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.closing.Load() {
		return // teardown releases what is receiving
	}
	conn.q.asked.Add(1)
	p := conn.tx.openPDU(nvme.PDUR2T, 0, nvme.R2TLen, 0)
	nvme.PutR2T(p, nvme.R2T{CID: c.sqe.CID(), TTag: c.tag, Length: c.n})
	conn.tx.seal(p, nvme.R2TLen)
	conn.tx.mark(b)
}

// mark has tx flushed with b; conn.mu is held.
func (tx *sender) mark(b *bdev.Batch) {
	if !tx.dirty {
		tx.dirty = true
		b.Add(tx)
	}
}

// FlushBatch sends what is queued, as far as the socket takes it. The one
// that sends goes on until nothing is left, so that others need not wait.
func (tx *sender) FlushBatch(b *bdev.Batch) {
	conn := tx.conn
	conn.mu.Lock()
	tx.dirty = false
	if tx.sending || conn.closing.Load() || tx.out.Empty() {
		conn.mu.Unlock()
		return
	}
	tx.sending = true
	tx.takeOut()
	conn.mu.Unlock()
	if b == &conn.batch {
		tx.sendAll(b)
		return
	}
	conn.guarded(func() { tx.sendAll(b) })
}

// takeOut moves the queue to the sender; conn.mu is held.
func (tx *sender) takeOut() {
	tx.out, tx.snd = tx.snd, tx.out
}

// sendAll sends snd and what is queued behind it. On a full socket it
// leaves the rest to the reader or to a goroutine that may wait.
func (tx *sender) sendAll(b *bdev.Batch) {
	conn := tx.conn
	for {
		switch e := conn.nc.Send(&tx.snd.Queue); e {
		case 0:
		case syscall.EAGAIN:
			conn.mu.Lock()
			tx.blocked = true
			if b != &conn.batch {
				tx.draining = true
				go tx.drain()
			}
			conn.mu.Unlock()
			return
		default:
			conn.kill("send: " + e.Error())
			conn.mu.Lock()
			tx.sending = false
			tx.cond.Broadcast()
			conn.mu.Unlock()
			return
		}
		if !tx.sent(b) {
			return
		}
	}
}

// sent frees what was sent and reports whether there is more.
func (tx *sender) sent(b *bdev.Batch) bool {
	conn := tx.conn
	conn.mu.Lock()
	for _, c := range tx.snd.done {
		conn.q.freeSlot(c)
	}
	tx.snd.clear()
	more := !tx.out.Empty()
	if more {
		tx.takeOut()
	} else {
		tx.sending = false
		tx.cond.Broadcast()
	}
	waiting := len(conn.q.waiting) > 0
	conn.mu.Unlock()
	if waiting {
		conn.q.serveWaiting(b, false)
	}
	return more
}

// batches of goroutines that have none of their own.
var batches = sync.Pool{New: func() any { return new(bdev.Batch) }}

// drain waits for the socket and sends until nothing is left. It runs on the
// reader, which then receives nothing meanwhile, or on a goroutine of its own.
func (tx *sender) drain() {
	conn := tx.conn
	b := batches.Get().(*bdev.Batch)
	defer func() {
		b.Flush() // after the state is free: it may find the socket full again
		batches.Put(b)
	}()
	for more := true; more; {
		if err := conn.nc.SendWait(&tx.snd.Queue, conn.tgt.cfg.SendTime); err != nil {
			why := "send: " + err.Error()
			if errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, os.ErrDeadlineExceeded) {
				why = "the peer does not read"
			}
			conn.kill(why)
			conn.mu.Lock()
			tx.sending, tx.blocked, tx.draining = false, false, false
			tx.cond.Broadcast()
			conn.mu.Unlock()
			return
		}
		more = tx.sent(b)
	}
	conn.mu.Lock()
	tx.blocked, tx.draining = false, false
	tx.cond.Broadcast()
	conn.mu.Unlock()
}

// unblock returns when the socket takes data again, false when the connection
// is closing. Only the reader calls it.
func (tx *sender) unblock() bool {
	conn := tx.conn
	conn.mu.Lock()
	for tx.blocked && !conn.closing.Load() {
		if !tx.draining {
			tx.draining = true
			conn.mu.Unlock()
			tx.drain()
			conn.mu.Lock()
			continue
		}
		tx.cond.Wait()
	}
	conn.mu.Unlock()
	return !conn.closing.Load()
}
