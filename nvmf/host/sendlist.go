package host

import (
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// sendList is what waits to be sent on a queue, in order: PDU headers in an
// arena of its own and pieces of the requests' buffers.
type sendList struct {
	arena  []byte          // headers; a full one is left to its iovecs and replaced
	vec    []syscall.Iovec // all pieces; sent ones are cut off
	sent   int             // entries of vec that are sent whole
	owners []uint16        // commands whose buffers vec points at, once for each time
	inTail bool            // the last entry of vec ends at the arena's end
}

func (l *sendList) empty() bool { return l.sent == len(l.vec) }

func (l *sendList) reset() {
	clear(l.vec)
	l.arena, l.vec, l.sent, l.owners, l.inTail = l.arena[:0], l.vec[:0], 0, l.owners[:0], false
}

// header returns n zeroed bytes of the arena that are sent next.
func (l *sendList) header(n int) []byte {
	if len(l.arena)+n > cap(l.arena) {
		l.arena = make([]byte, 0, max(2*cap(l.arena), 8192))
		l.inTail = false
	}
	at := len(l.arena)
	l.arena = l.arena[:at+n]
	p := l.arena[at : at+n : at+n]
	clear(p)
	if l.inTail {
		l.vec[len(l.vec)-1].Len += uint64(n)
		return p
	}
	l.vec = append(l.vec, iovec(p))
	l.inTail = true
	return p
}

// data has n bytes of iov, from byte off on, sent next. It returns the
// running digest when digest is set.
func (l *sendList) data(iov [][]byte, off, n int, digest bool) (d uint32) {
	for v := bdev.IovAt(iov, off); n > 0; {
		p := v.Next(n)
		if p == nil {
			break
		}
		n -= len(p)
		if digest {
			d = nvme.UpdateDigest(d, p)
		}
		l.vec = append(l.vec, iovec(p))
		l.inTail = false
	}
	return d
}

// send sends without waiting. more is set when the socket is full.
func (l *sendList) send(fd uintptr, m *syscall.Msghdr) (more bool, err error) {
	for !l.empty() {
		v := l.vec[l.sent:]
		if len(v) > maxIovecs {
			v = v[:maxIovecs]
		}
		n, e := sendVec(fd, m, v)
		switch e {
		case 0:
			l.sent += len(v) - len(advance(v, n))
		case syscall.EAGAIN:
			return true, nil
		case syscall.EINTR:
		default:
			return false, e
		}
	}
	return false, nil
}

// window appends to v the pieces of iov from byte off on, n bytes in all, at
// most limit entries.
func window(v []syscall.Iovec, iov [][]byte, off, n, limit int) []syscall.Iovec {
	for w := bdev.IovAt(iov, off); n > 0 && len(v) < limit; {
		p := w.Next(n)
		if p == nil {
			break
		}
		n -= len(p)
		v = append(v, iovec(p))
	}
	return v
}
