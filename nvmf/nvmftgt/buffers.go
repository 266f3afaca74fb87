package nvmftgt

import (
	"errors"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// What a command holds of the pool of data buffers is reserved before anything
// is asked for that needs it: before a read is submitted, before an R2T is
// sent. A command that gets none waits in its connection's queue, while the
// connection's reader goes on; data that was asked for always has its place.
// How much a connection gets is up to memory. Data that comes with a command
// has to be taken at once, so that its reader waits before it does, see crowded.

// getBuf returns a data buffer of n bytes, or nil when others wait for one or
// the connection or the process holds too much.
func (q *queue) getBuf(n int) []byte {
	if !q.reserve(n) {
		return nil
	}
	return q.takeBuf(n)
}

// reserve makes sure of a buffer of n bytes and reports whether there is one.
func (q *queue) reserve(n int) bool {
	q.conn.mu.Lock()
	defer q.conn.mu.Unlock()
	return len(q.waiting) == 0 && q.reserveLocked(n, false)
}

// reserveLocked is reserve for a command whose turn it is in the connection,
// and, as turn says, among all connections that wait; conn.mu is held.
func (q *queue) reserveLocked(n int, turn bool) bool {
	size := bdev.BufferBytes(n)
	if !q.conn.tgt.memory.grants(q.held, size, turn) || !q.conn.tgt.buffers.Reserve(n) {
		return false
	}
	q.held += size
	return true
}

// takeBuf returns the buffer of n bytes that was reserved; nil, and the
// reservation given up, when the system has no memory.
func (q *queue) takeBuf(n int) []byte {
	buf := q.conn.tgt.buffers.Take(n)
	if buf == nil {
		q.conn.mu.Lock()
		q.held -= bdev.BufferBytes(n)
		q.conn.mu.Unlock()
	}
	return buf
}

// keepBuf returns a buffer of n bytes for what has come already, also when the
// connection holds too much; nil when the process does.
func (q *queue) keepBuf(n int) []byte {
	buf := q.conn.tgt.buffers.Get(n)
	if buf != nil {
		q.conn.mu.Lock()
		q.held += cap(buf)
		q.conn.mu.Unlock()
	}
	return buf
}

// putBuf returns a data buffer; conn.mu is held.
func (q *queue) putBuf(buf []byte) {
	q.held -= cap(buf)
	q.conn.tgt.buffers.Put(buf)
	q.conn.tgt.memory.freed()
}

// unreserve gives back what was reserved for c, when the data never came; conn.mu
// is held.
func (q *queue) unreserve(c *cmd) {
	if c.reserved > 0 {
		q.held -= c.reserved
		q.conn.tgt.buffers.Unreserve(c.reserved)
		c.reserved = 0
		q.conn.tgt.memory.freed()
	}
}

// errClosing ends the pass of a connection that was given up meanwhile.
var errClosing = errors.New("the connection is closing")

// takeReserved gets the buffer that was reserved for c when its data is here:
// the last one that was given back is still in the cache, and a host that
// never answers an R2T holds no memory.
func (q *queue) takeReserved(c *cmd) error {
	c.reserved = 0
	if c.buf = q.takeBuf(int(c.n)); c.buf == nil {
		q.conn.kill("the system has no memory")
		return errClosing
	}
	c.setData(c.buf)
	return nil
}

// crowded reports whether a command with n bytes of data has to be left where
// it is, because the process is short of memory: what the device needs for it
// might not be there, and an error would reach the host. Nothing that the
// reader does is needed for the wait to end. Reads, and data that was asked
// for, leave a part of the memory to what comes with commands (memory.grants);
// that is at the devices, of one connection no more than it leaves free. Only
// the reader calls it.
func (q *queue) crowded(n int) bool {
	conn := q.conn
	limit, free := conn.tgt.buffers.Limit(), conn.tgt.buffers.Free()
	if free >= limit/2 || q.fusedOne != nil { // the first of a pair waits for the second
		return false
	}
	conn.mu.Lock()
	carried := int(q.carriedIn - q.carriedOut)
	conn.mu.Unlock()
	size := bdev.BufferBytes(n)
	if free-size < limit/16 || carried > 0 && carried+size > free-size {
		return true
	}
	if !conn.tgt.memory.strict.Load() {
		return false
	}
	if q.spared > 0 {
		q.spared--
		return false
	}
	return true
}

// What comes back is kept for those that are hungry only that long from data
// that comes with commands, and then so many commands go on: there may always
// be somebody hungry.
const (
	sparedAfter = 15 * time.Millisecond
	spared      = 32
)

// adminReplies bounds the bytes of replies that an admin queue's host has not
// taken; further commands that ask for data are left where they are.
const adminReplies = 256 << 10

// owesMuch reports whether a command of the admin queue has to be left where it
// is, because the host does not take the replies to those before, or the
// process is short of memory. Replies lie in buffers of the pool, see cmd.send.
func (q *queue) owesMuch(sqe nvme.Command) bool {
	conn := q.conn
	switch sqe.Opcode() {
	case nvme.AdminIdentify, nvme.AdminGetLogPage, nvme.AdminGetFeatures:
	default:
		return false
	}
	size := bdev.BufferBytes(int(min(sqe.SGL().Length, conn.maxLogPage())))
	conn.mu.Lock()
	held := q.held
	conn.mu.Unlock()
	switch {
	case held > 0 && held+size > adminReplies:
		return true
	case conn.sub.discovery:
		return !conn.tgt.memory.grants(held, size, true)
	}
	// A Keep Alive may come behind it.
	return conn.tgt.buffers.Free()-size < conn.tgt.buffers.Limit()/32
}

// maxLogPage is the largest reply to an admin command, bytes.
func (conn *conn) maxLogPage() uint32 { return max(conn.opts.maxIO, 1<<16) }

// lacksRoom reports whether the command in the capsule in has to be left where
// it is for now. Only the reader calls it.
func (q *queue) lacksRoom(h nvme.Header, in []byte) bool {
	if q.id != 0 {
		return h.DataLen() > 0 && q.crowded(int(h.DataLen()))
	}
	return q.owesMuch(nvme.Command(in[nvme.HeaderLen : nvme.HeaderLen+nvme.CommandLen]))
}

// awaitRoom returns when lacksRoom no longer says so. Only the reader calls it.
func (q *queue) awaitRoom(h nvme.Header, in []byte) error {
	conn := q.conn
	var waited time.Duration
	for pause := time.Millisecond; q.lacksRoom(h, in); pause = min(2*pause, 8*time.Millisecond) {
		conn.batch.Flush() // replies give buffers back, once they are sent
		if !conn.tx.unblock() {
			return errClosing
		}
		if !q.lacksRoom(h, in) {
			return nil
		}
		time.Sleep(pause)
		if waited += pause; waited >= sparedAfter {
			q.spared, waited = spared, 0
		}
		conn.seen.Store(nanotime()) // it is not the host that is silent
	}
	return nil
}

// await parks c until a buffer is free.
func (q *queue) await(c *cmd) {
	q.conn.mu.Lock()
	defer q.conn.mu.Unlock()
	q.waiting = append(q.waiting, c)
	q.queueUp()
}

// queueUp has conn served in its turn when its first waiting command does not
// wait for the connection's own buffers to come back; conn.mu is held.
func (q *queue) queueUp() {
	conn := q.conn
	if q.queued || q.held > 0 && q.held+bdev.BufferBytes(int(q.waiting[0].n)) > conn.tgt.cfg.MaxConnData {
		return
	}
	q.queued = true
	conn.tgt.memory.join(conn)
}

// serveWaiting starts waiting commands in order as long as there are buffers,
// and returns how many.
func (q *queue) serveWaiting(b *bdev.Batch, turn bool) (served int) {
	conn := q.conn
	for {
		conn.mu.Lock()
		if len(q.waiting) == 0 || conn.closing.Load() {
			conn.mu.Unlock()
			return served
		}
		c := q.waiting[0]
		if !q.reserveLocked(int(c.n), turn) {
			q.queueUp()
			conn.mu.Unlock()
			return served
		}
		c.reserved = bdev.BufferBytes(int(c.n))
		copy(q.waiting, q.waiting[1:])
		q.waiting[len(q.waiting)-1] = nil
		q.waiting = q.waiting[:len(q.waiting)-1]
		q.inflight.Add(1) // keeps teardown away
		conn.mu.Unlock()
		c.resume(b)
		q.leaveInflight()
		served++
	}
}

// resume goes on with a command that has waited for its buffer, which is
// reserved for it now.
func (c *cmd) resume(b *bdev.Batch) {
	if c.fromHost() {
		c.to(receiving)
		c.conn.sendR2T(c, b)
		return
	}
	c.reserved = 0
	if c.buf = c.conn.q.takeBuf(int(c.n)); c.buf == nil {
		c.finish(nvme.CommandInterrupted, b)
		return
	}
	c.setData(c.buf)
	c.submit(b)
}
