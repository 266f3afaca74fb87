package tcp

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// cut divides b into pieces of random lengths, some of them empty.
func cut(rnd *rand.Rand, b []byte, most int) (out [][]byte) {
	for len(b) > 0 {
		n := min(rnd.IntN(most+1), len(b))
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return append(out, nil)
}

func random(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// left is what q would send.
func (q *Queue) left() (b []byte) {
	for _, v := range q.vec[q.sent:] {
		b = append(b, unsafe.Slice(v.Base, v.Len)...)
	}
	return b
}

// TestQueue puts headers and data in, has a socket take some of it, and looks
// at what is left.
func TestQueue(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var q Queue
	for range 500 {
		var want []byte
		for range rnd.IntN(40) {
			if rnd.IntN(2) == 0 {
				h := q.Header(rnd.IntN(300) + 1)
				if !bytes.Equal(h, make([]byte, len(h))) {
					t.Fatal("a header is not zeroed")
				}
				copy(h, random(rnd, len(h)))
				want = append(want, h...)
				continue
			}
			whole := random(rnd, rnd.IntN(3000)+1)
			off := rnd.IntN(len(whole))
			n := rnd.IntN(len(whole) - off)
			q.Data(cut(rnd, whole, rnd.IntN(500)+1), off, n)
			want = append(want, whole[off:off+n]...)
		}
		if got := q.left(); !bytes.Equal(got, want) || q.Len() != len(want) || q.Empty() != (len(want) == 0) {
			t.Fatalf("%d bytes (Len %d, Empty %t) of %d", len(got), q.Len(), q.Empty(), len(want))
		}
		for len(want) > 0 && rnd.IntN(4) > 0 {
			n := rnd.IntN(len(want)) + 1
			q.took(n)
			want = want[n:]
			if !bytes.Equal(q.left(), want) || q.Empty() != (len(want) == 0) {
				t.Fatalf("after %d bytes were sent", n)
			}
		}
		q.Reset()
		if !q.Empty() || q.Len() != 0 {
			t.Fatal("Reset")
		}
	}
}

// TestHeadersAreOnePiece: headers that follow one another are one piece, and
// none behind data is joined to one before it.
func TestHeadersAreOnePiece(t *testing.T) {
	var q Queue
	for range 10 {
		q.Header(24)
	}
	if len(q.vec) != 1 {
		t.Errorf("10 headers are %d pieces", len(q.vec))
	}
	q.Data([][]byte{make([]byte, 5)}, 0, 5)
	q.Header(24)
	q.Header(24)
	if len(q.vec) != 3 {
		t.Errorf("headers, data and headers are %d pieces", len(q.vec))
	}
}
