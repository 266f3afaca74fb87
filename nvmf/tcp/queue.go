package tcp

import (
	"syscall"
	"unsafe"

	"github.com/virtual-disk-array/vda/bdev"
)

// Queue is what waits to be sent, in order: headers in an arena of its own, and
// pieces of its user's buffers. Headers that follow one another are one piece,
// so that a run of completions is a single iovec. It is not safe for concurrent
// use: while one is sent another is filled.
type Queue struct {
	arena []byte          // headers; a full one is left to its pieces and replaced
	vec   []syscall.Iovec // all pieces
	sent  int             // pieces of vec that are sent whole
	tail  bool            // the last piece of vec ends at the arena's end
}

// Empty reports whether nothing is left to send.
func (q *Queue) Empty() bool { return q.sent == len(q.vec) }

// Len is the bytes that are left to send.
func (q *Queue) Len() (n int) {
	for _, v := range q.vec[q.sent:] {
		n += int(v.Len)
	}
	return n
}

// Reset makes the queue empty; nothing that was in it is referred to any more.
func (q *Queue) Reset() {
	clear(q.vec)
	q.arena, q.vec, q.sent, q.tail = q.arena[:0], q.vec[:0], 0, false
}

// Header returns n zeroed bytes that are sent next. The caller fills them in
// before it sends or lets anybody else at the queue.
func (q *Queue) Header(n int) []byte {
	at := len(q.arena)
	if at+n > cap(q.arena) {
		q.arena = make([]byte, 0, max(2*cap(q.arena), 4096))
		at, q.tail = 0, false
	}
	q.arena = q.arena[:at+n]
	p := q.arena[at : at+n : at+n]
	clear(p)
	if q.tail {
		q.vec[len(q.vec)-1].Len += uint64(n)
		return p
	}
	q.vec = append(q.vec, iovec(p))
	q.tail = true
	return p
}

// Data has n bytes of iov, from byte off on, sent next, out of where they are:
// they stay in use until the queue is sent.
func (q *Queue) Data(iov [][]byte, off, n int) {
	for v := bdev.IovAt(iov, off); n > 0; {
		p := v.Next(n)
		if p == nil {
			break
		}
		q.vec = append(q.vec, iovec(p))
		n -= len(p)
	}
	q.tail = false
}

// took drops the first n bytes of what is left.
func (q *Queue) took(n int) {
	for n > 0 {
		v := &q.vec[q.sent]
		if n < int(v.Len) {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.SetLen(int(v.Len) - n)
			return
		}
		n -= int(v.Len)
		q.sent++
	}
}

func iovec(p []byte) (v syscall.Iovec) {
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
	return v
}
