package host

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// queue is one NVMe queue pair: a TCP connection, the commands in flight on
// it, and the goroutine that reads it. Submitters share it under mu.
type queue struct {
	id     uint16
	ses    *session
	conn   *tcp.Conn
	inline int  // bytes of data a capsule may carry
	maxH2C int  // bytes of data in one H2CData PDU
	align  int  // bytes; data in PDUs we send starts at multiples of it
	hdgst  bool // header digests in both directions
	ddgst  bool // data digests in both directions

	down atomic.Bool // dead; for loops that hold no lock

	mu      sync.Mutex
	slots   []slot   // by command id
	free    []uint16 // command ids not in use
	waiting fifo     // commands without a slot
	out     *sendList
	dead    bool
	marker  *bdev.Batch // the batch this queue is on, as far as known
	sending bool        // someone owns onWire
	idle    sync.Cond   // sending became false

	// Owned by the one that set sending.
	onWire *sendList
	writes chan struct{} // has the writer take over a full socket

	in   tcp.Input // its turn is the right to use rd
	rd   reader
	gone chan struct{} // closed when all commands are completed and the connection is closed
}

// slot is a command in flight. Its data fields are written by the submitter
// before the command is sent and by the reader afterwards, the others under
// queue.mu.
type slot struct {
	busy     bool
	aborted  bool // an Abort was sent for it
	answered bool // cqe is here, but the send list still points at the buffers
	bad      bool // a data digest was wrong
	write    bool // data goes to the controller
	unsent   int32
	start    int64 // Batch.Now when it was issued, ns
	cqe      nvme.Completion

	iov   [][]byte
	off   int    // bytes into iov where the command's data starts
	size  uint32 // bytes of the command's data
	moved uint32 // bytes received, or in capsule or asked for by R2T

	r     *bdev.Request
	done  Completer
	part  *split
	admin *adminOp

	rng    [nvme.DSMRangeLen]byte
	rngIov [1][]byte
}

// command is what a slot is filled from.
type command struct {
	sqe    nvme.Command
	iov    [][]byte
	off    int
	size   uint32
	write  bool
	ranged bool // the data is rng, not iov
	rng    nvme.DSMRange

	r     *bdev.Request
	done  Completer
	part  *split
	admin *adminOp

	second *command // the other half of a fused pair
}

func (c *command) slots() int {
	if c.second != nil {
		return 2
	}
	return 1
}

// finished is a command that has left its slot.
type finished struct {
	r     *bdev.Request
	done  Completer
	part  *split
	admin *adminOp
	moved uint32
	cqe   nvme.Completion
}

// deliver tells the submitter. No lock is held.
func (f *finished) deliver(b *bdev.Batch) {
	switch {
	case f.admin != nil:
		f.admin.finish(f.cqe, f.moved)
	case f.part != nil:
		f.part.childDone(f.cqe.Status, b)
	case f.done != nil:
		f.done.CompleteIO(f.r, f.cqe.Status, b)
	default:
		f.r.Complete(f.cqe.Status, b)
	}
}

func (c *command) fail(s nvme.Status, b *bdev.Batch) {
	if c.second != nil {
		second := c.second
		c.second = nil
		second.fail(s, b)
	}
	f := finished{r: c.r, done: c.done, part: c.part, admin: c.admin, cqe: nvme.Completion{Status: s}}
	f.deliver(b)
}

// submit starts a command or has it wait for a slot.
func (q *queue) submit(c *command, b *bdev.Batch) {
	q.mu.Lock()
	if q.dead {
		q.mu.Unlock()
		c.fail(nvme.HostPathError, b)
		return
	}
	if len(q.free) < c.slots() || q.waiting.n > 0 {
		q.waiting.push(c)
		q.mu.Unlock()
		return
	}
	q.issue(c, b)
	q.mark(b)
	q.mu.Unlock()
}

// mark has b flush the queue; q.mu is held. Another batch may hold the queue
// too, but must not be waited for.
func (q *queue) mark(b *bdev.Batch) {
	if q.marker != b {
		q.marker = b
		b.Add(q)
	}
}

// issue gives c a slot and puts its capsule on the send list; q.mu is held.
func (q *queue) issue(c *command, b *bdev.Batch) {
	cid := q.free[len(q.free)-1]
	q.free = q.free[:len(q.free)-1]
	s := &q.slots[cid]
	s.busy, s.write, s.start = true, c.write, b.Now()
	s.iov, s.off, s.size, s.moved = c.iov, c.off, c.size, 0
	s.r, s.done, s.part, s.admin = c.r, c.done, c.part, c.admin
	if c.ranged {
		nvme.PutDSMRange(s.rng[:], c.rng)
		s.rngIov[0] = s.rng[:]
		s.iov = s.rngIov[:]
	}
	c.sqe.SetCID(cid)
	if c.write && (int(c.size) <= q.inline || c.size <= adminInline && c.sqe.Opcode() == nvme.OpFabrics) {
		c.sqe.SetSGL(nvme.SGL{Length: c.size, ID: nvme.SGLInCapsule})
		s.moved = c.size
		q.pdu(nvme.PDUCapsuleCmd, 0, nvme.CapsuleCmdLen, s, cid, 0, int(c.size), c.sqe[:])
	} else {
		if c.size > 0 {
			c.sqe.SetSGL(nvme.SGL{Length: c.size, ID: nvme.SGLTransport})
		}
		q.pdu(nvme.PDUCapsuleCmd, 0, nvme.CapsuleCmdLen, s, cid, 0, 0, c.sqe[:])
	}
	if c.second != nil {
		q.issue(c.second, b)
	}
}

// pdu puts a PDU on the send list: a header whose part behind the common
// header is body, and n bytes of the slot's data from byte at of it on. q.mu
// is held.
func (q *queue) pdu(t nvme.PDUType, flags uint8, hlen int, s *slot, cid uint16, at, n int, body []byte) {
	total, pdo := hlen, 0
	if q.hdgst {
		flags |= nvme.FlagHDGST
		total += nvme.DigestLen
	}
	if n > 0 {
		if rest := total % q.align; rest != 0 {
			total += q.align - rest
		}
		pdo = total
	}
	plen := total + n
	if n > 0 && q.ddgst {
		flags |= nvme.FlagDDGST
		plen += nvme.DigestLen
	}
	p := q.out.Header(total)
	nvme.PutHeader(p, nvme.Header{Type: t, Flags: flags, HLen: uint8(hlen), PDO: uint8(pdo), PLen: uint32(plen)})
	copy(p[nvme.HeaderLen:], body)
	if q.hdgst {
		nvme.PutDigest(p[hlen:], nvme.UpdateDigest(0, p[:hlen]))
	}
	if n > 0 {
		q.out.Data(s.iov, s.off+at, n)
		if q.ddgst {
			v := bdev.IovAt(s.iov, s.off+at)
			nvme.PutDigest(q.out.Header(nvme.DigestLen), v.Digest(0, n))
		}
		s.unsent++
		q.out.owners = append(q.out.owners, cid)
	}
}

// finish frees the slot, starts what waited for one and delivers. q.mu is
// held and released.
func (q *queue) finish(cid uint16, cqe nvme.Completion, b *bdev.Batch) {
	s := &q.slots[cid]
	f := finished{r: s.r, done: s.done, part: s.part, admin: s.admin, moved: s.moved, cqe: cqe}
	if s.bad && cqe.Status == nvme.Success {
		f.cqe.Status = nvme.TransientTransport
	}
	s.busy, s.aborted, s.answered, s.bad = false, false, false, false
	s.iov, s.r, s.done, s.part, s.admin = nil, nil, nil, nil, nil
	q.free = append(q.free, cid)
	if q.waiting.n > 0 && !q.dead {
		for q.waiting.n > 0 && len(q.free) >= q.waiting.head().slots() {
			c := q.waiting.pop()
			q.issue(&c, b)
		}
		q.mark(b)
	}
	q.mu.Unlock()
	f.deliver(b)
}

// fail ends the queue; its reader completes everything. The first call counts.
func (q *queue) fail(err error) {
	q.mu.Lock()
	if q.dead {
		q.mu.Unlock()
		return
	}
	q.dead = true
	q.down.Store(true)
	q.mu.Unlock()
	// What the kernel has not sent yet must not reach the controller later,
	// when the command may have been retried: reset rather than close.
	q.conn.Abort()
	q.ses.fail(err)
}

// teardown runs on the reader's goroutine after its last PDU.
func (q *queue) teardown(b *bdev.Batch) {
	q.mu.Lock()
	for q.sending {
		q.idle.Wait()
	}
	var fs []finished
	for i := range q.slots {
		if s := &q.slots[i]; s.busy {
			fs = append(fs, finished{r: s.r, done: s.done, part: s.part, admin: s.admin, cqe: nvme.Completion{Status: nvme.HostPathError}})
			*s = slot{}
		}
	}
	var waiting []command
	for q.waiting.n > 0 {
		waiting = append(waiting, q.waiting.pop())
	}
	q.mu.Unlock()
	close(q.writes)
	_ = q.conn.Close()
	for i := range fs {
		fs[i].deliver(b)
	}
	for i := range waiting {
		waiting[i].fail(nvme.HostPathError, b)
	}
	b.Flush()
	close(q.gone)
}

// expired calls f with the id of each I/O older than age that was not aborted
// yet, and reports whether an aborted one has grown as old again.
func (q *queue) expired(age time.Duration, f func(cid uint16)) (again bool) {
	var cids []uint16
	var b bdev.Batch
	now := b.Now()
	q.mu.Lock()
	for i := range q.slots {
		s := &q.slots[i]
		if !s.busy || s.admin != nil || now-s.start < int64(age) {
			continue
		}
		again = again || s.aborted
		s.aborted, s.start = true, now
		cids = append(cids, uint16(i))
	}
	q.mu.Unlock()
	for _, cid := range cids {
		f(cid)
	}
	return again
}

// fifo is a ring of commands that grows to the most ever waiting.
type fifo struct {
	ring []command
	at   int
	n    int
}

func (f *fifo) push(c *command) {
	if f.n == len(f.ring) {
		ring := make([]command, max(16, 2*len(f.ring)))
		for i := range f.n {
			ring[i] = f.ring[(f.at+i)%len(f.ring)]
		}
		f.ring, f.at = ring, 0
	}
	f.ring[(f.at+f.n)%len(f.ring)] = *c
	f.n++
}

func (f *fifo) head() *command { return &f.ring[f.at] }

func (f *fifo) pop() command {
	c := f.ring[f.at]
	f.ring[f.at] = command{}
	f.at = (f.at + 1) % len(f.ring)
	f.n--
	return c
}
