package nvmftgt

import (
	"errors"
	"math"
	"os"
	"sync"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

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
// seals it. k.mu is held.
func (k *conn) openPDU(t nvme.PDUType, flags uint8, fixed, data int) []byte {
	h := nvme.Header{Type: t, Flags: flags, HLen: uint8(fixed), PLen: uint32(fixed)}
	room := fixed
	if k.hdgst {
		h.Flags |= nvme.FlagHDGST
		room += nvme.DigestLen
	}
	if data > 0 {
		room = (room + k.align - 1) / k.align * k.align
		h.PDO = uint8(room)
		if k.ddgst {
			h.Flags |= nvme.FlagDDGST
			h.PLen += nvme.DigestLen
		}
	}
	h.PLen += uint32(room - fixed + data)
	p := k.out.Header(room)
	nvme.PutHeader(p, h)
	return p
}

// seal adds the header digest to a header of fixed bytes.
func (k *conn) seal(p []byte, fixed int) {
	if k.hdgst {
		nvme.PutDigest(p[fixed:], nvme.UpdateDigest(0, p[:fixed]))
	}
}

// reply queues the answer of c: its data, if it has some for the host, and a
// response capsule unless the data says it all.
func (k *conn) reply(c *cmd, s nvme.Status, b *bdev.Batch) {
	k.mu.Lock()
	if k.closing.Load() {
		k.mu.Unlock()
		c.drop()
		return
	}
	if c.kept.Load() {
		c.kept.Store(false)
	}
	capsule := true
	if c.toHost && c.n > 0 {
		flags := nvme.FlagLast
		if k.opts.success && c.dw0 == 0 && c.dw1 == 0 && k.untold+1 < k.tellHead {
			flags |= nvme.FlagSuccess
			capsule = false
		}
		p := k.openPDU(nvme.PDUC2HData, flags, nvme.DataLen, int(c.n))
		nvme.PutData(p, nvme.DataPDU{CID: c.sqe.CID(), Length: c.n})
		k.seal(p, nvme.DataLen)
		k.out.Data(c.iov, 0, int(c.n))
		if k.ddgst {
			v := bdev.IovAt(c.iov, 0)
			nvme.PutDigest(k.out.Header(nvme.DigestLen), v.Digest(0, int(c.n)))
		}
	}
	k.advanceHead()
	if capsule {
		p := k.openPDU(nvme.PDUCapsuleResp, 0, nvme.CapsuleRespLen, 0)
		nvme.PutCompletion(p[nvme.HeaderLen:], nvme.Completion{DW0: c.dw0, DW1: c.dw1, SQHead: k.sqHead(c), CID: c.sqe.CID(), Status: s})
		k.seal(p, nvme.CapsuleRespLen)
	}
	k.out.done = append(k.out.done, c)
	k.completed++
	k.carriedOut += uint64(c.carried)
	k.mark(b)
	k.mu.Unlock()
}

// setFlow sets up the flow control of the submission queue (base 2.0, section
// 3.3.1.1 and 6.3). With it a host knows from the completions how far the queue
// has been worked off, so that one is sent in time even where the SUCCESS flag
// would do; off, the flag always does.
func (k *conn) setFlow(off bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noFlow, k.tellHead = off, math.MaxUint32
	if !off {
		k.tellHead = k.qsize / 2
	}
}

// advanceHead counts a command that has ended, also one that the SUCCESS flag
// ends; k.mu is held.
func (k *conn) advanceHead() {
	if k.head++; k.head >= k.qsize {
		k.head = 0
	}
	k.untold++
}

// sqHead is the submission queue head of a completion, with which the host
// has been told; k.mu is held. Without flow control Connect is answered by
// FFFFh, and the field is reserved afterwards.
func (k *conn) sqHead(c *cmd) uint16 {
	k.untold = 0
	switch {
	case !k.noFlow:
		return uint16(k.head)
	case c.sqe.Opcode() == nvme.OpFabrics && c.sqe.FabricsType() == nvme.FabricsConnect:
		return 0xffff
	}
	return 0
}

// sendR2T asks for all data of c at once.
func (k *conn) sendR2T(c *cmd, b *bdev.Batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing.Load() {
		return // teardown releases what is receiving
	}
	k.asked.Add(1)
	p := k.openPDU(nvme.PDUR2T, 0, nvme.R2TLen, 0)
	nvme.PutR2T(p, nvme.R2T{CID: c.sqe.CID(), TTag: c.tag, Length: c.n})
	k.seal(p, nvme.R2TLen)
	k.mark(b)
}

// mark has k flushed with b; k.mu is held.
func (k *conn) mark(b *bdev.Batch) {
	if !k.dirty {
		k.dirty = true
		b.Add(k)
	}
}

// FlushBatch sends what is queued, as far as the socket takes it. Whoever
// sends goes on until nothing is left, so that others need not wait.
func (k *conn) FlushBatch(b *bdev.Batch) {
	k.mu.Lock()
	k.dirty = false
	if k.sending || k.closing.Load() || k.out.Empty() {
		k.mu.Unlock()
		return
	}
	k.sending = true
	k.takeOut()
	k.mu.Unlock()
	if b == &k.batch {
		k.sendAll(b)
		return
	}
	k.guarded(func() { k.sendAll(b) })
}

// takeOut moves the queue to the sender; k.mu is held.
func (k *conn) takeOut() {
	k.out, k.snd = k.snd, k.out
}

// sendAll sends k.snd and what is queued behind it. On a full socket it
// leaves the rest to the reader or to a goroutine that may wait.
func (k *conn) sendAll(b *bdev.Batch) {
	for {
		switch e := k.nc.Send(&k.snd.Queue); e {
		case 0:
		case syscall.EAGAIN:
			k.mu.Lock()
			k.blocked = true
			if b != &k.batch {
				k.draining = true
				go k.drain()
			}
			k.mu.Unlock()
			return
		default:
			k.kill("send: " + e.Error())
			k.mu.Lock()
			k.sending = false
			k.cond.Broadcast()
			k.mu.Unlock()
			return
		}
		if !k.sent(b) {
			return
		}
	}
}

// sent frees what was sent and reports whether there is more.
func (k *conn) sent(b *bdev.Batch) bool {
	k.mu.Lock()
	for _, c := range k.snd.done {
		c.to(free)
		c.releaseLocked()
		c.reset()
		k.free = append(k.free, c)
	}
	k.snd.clear()
	more := !k.out.Empty()
	if more {
		k.takeOut()
	} else {
		k.sending = false
		k.cond.Broadcast()
	}
	waiting := len(k.waiting) > 0
	k.mu.Unlock()
	if waiting {
		k.serveWaiting(b, false)
	}
	return more
}

// batches of goroutines that have none of their own.
var batches = sync.Pool{New: func() any { return new(bdev.Batch) }}

// drain waits for the socket and sends until nothing is left. It runs on the
// reader, which then receives nothing meanwhile, or on a goroutine of its own.
func (k *conn) drain() {
	b := batches.Get().(*bdev.Batch)
	defer func() {
		b.Flush() // after the state is free: it may find the socket full again
		batches.Put(b)
	}()
	for more := true; more; {
		if err := k.nc.SendWait(&k.snd.Queue, k.tgt.cfg.SendTime); err != nil {
			why := "send: " + err.Error()
			if errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, os.ErrDeadlineExceeded) {
				why = "the peer does not read"
			}
			k.kill(why)
			k.mu.Lock()
			k.sending, k.blocked, k.draining = false, false, false
			k.cond.Broadcast()
			k.mu.Unlock()
			return
		}
		more = k.sent(b)
	}
	k.mu.Lock()
	k.blocked, k.draining = false, false
	k.cond.Broadcast()
	k.mu.Unlock()
}

// unblock returns when the socket takes data again, false when the connection
// is closing. Only the reader calls it.
func (k *conn) unblock() bool {
	k.mu.Lock()
	for k.blocked && !k.closing.Load() {
		if !k.draining {
			k.draining = true
			k.mu.Unlock()
			k.drain()
			k.mu.Lock()
			continue
		}
		k.cond.Wait()
	}
	k.mu.Unlock()
	return !k.closing.Load()
}
