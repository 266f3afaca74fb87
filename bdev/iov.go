package bdev

import (
	"bytes"

	"github.com/virtual-disk-array/vda/nvme"
)

// Iov walks along the pieces of a request's data, forwards only. It is a
// value that lives on its user's stack; the pieces are the request's own and
// are not copied. Every method goes on where the last one ended, passes over
// empty pieces, and ends early where there are fewer bytes than it is asked
// for.
type Iov struct {
	pieces [][]byte
	off    int // bytes of pieces[0] that are passed
}

// IovAt starts at byte off of the pieces.
func IovAt(pieces [][]byte, off int) Iov {
	v := Iov{pieces: pieces}
	v.Skip(off)
	return v
}

// Next returns the next bytes that lie together, at most n of them; nil at the
// end.
func (v *Iov) Next(n int) []byte {
	for len(v.pieces) > 0 {
		p := v.pieces[0][v.off:]
		if len(p) > n {
			v.off += n
			return p[:n]
		}
		v.pieces, v.off = v.pieces[1:], 0
		if len(p) > 0 {
			return p
		}
	}
	return nil
}

// Skip passes n bytes.
func (v *Iov) Skip(n int) {
	for n > 0 && len(v.pieces) > 0 {
		left := len(v.pieces[0]) - v.off
		if n < left {
			v.off += n
			return
		}
		n -= left
		v.pieces, v.off = v.pieces[1:], 0
	}
}

// Append adds the memory of the next n bytes to dst, piece by piece.
func (v *Iov) Append(dst [][]byte, n int) [][]byte {
	for n > 0 {
		p := v.Next(n)
		if p == nil {
			break
		}
		dst = append(dst, p)
		n -= len(p)
	}
	return dst
}

// Scatter copies src to the next bytes and returns how many found room.
func (v *Iov) Scatter(src []byte) int {
	done := 0
	for done < len(src) {
		p := v.Next(len(src) - done)
		if p == nil {
			break
		}
		done += copy(p, src[done:])
	}
	return done
}

// Gather copies the next bytes to dst and returns how many there were.
func (v *Iov) Gather(dst []byte) int {
	done := 0
	for done < len(dst) {
		p := v.Next(len(dst) - done)
		if p == nil {
			break
		}
		done += copy(dst[done:], p)
	}
	return done
}

// Digest adds the next n bytes to the running digest d (nvme.UpdateDigest).
func (v *Iov) Digest(d uint32, n int) uint32 {
	for n > 0 {
		p := v.Next(n)
		if p == nil {
			break
		}
		d = nvme.UpdateDigest(d, p)
		n -= len(p)
	}
	return d
}

// Clear zeroes the next n bytes.
func (v *Iov) Clear(n int) {
	for n > 0 {
		p := v.Next(n)
		if p == nil {
			break
		}
		clear(p)
		n -= len(p)
	}
}

// Equal compares the next bytes with want and reports whether all of it is
// there.
func (v *Iov) Equal(want []byte) bool {
	for len(want) > 0 {
		p := v.Next(len(want))
		if p == nil || !bytes.Equal(p, want[:len(p)]) {
			return false
		}
		want = want[len(p):]
	}
	return true
}
