package host

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// cut divides b into pieces of random lengths, some of them empty.
func cut(rnd *rand.Rand, b []byte, most int) (out [][]byte) {
	for len(b) > 0 {
		n := min(rnd.IntN(most+1), len(b))
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return out
}

// TestPieces compares everything that walks over pieces with the same on one
// piece.
func TestPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		whole := pattern(rnd.Uint64(), rnd.IntN(3000)+1)
		iov := cut(rnd, whole, rnd.IntN(500)+1)
		off := rnd.IntN(len(whole))
		n := rnd.IntN(len(whole)-off) + 1
		want := whole[off : off+n]

		var l sendList
		d := l.data(iov, off, n, true)
		var sent []byte
		for _, v := range l.vec {
			sent = append(sent, unsafe.Slice(v.Base, v.Len)...)
		}
		if !bytes.Equal(sent, want) || d != nvme.UpdateDigest(0, want) {
			t.Fatalf("data: %d of %d bytes from %d", len(sent), n, off)
		}
		var got []byte
		v := window(nil, iov, off, n, 1+rnd.IntN(40))
		for _, p := range v {
			got = append(got, unsafe.Slice(p.Base, p.Len)...)
		}
		if !bytes.HasPrefix(want, got) || len(got) == 0 {
			t.Fatal("window is not a start of the data")
		}
		k := rnd.IntN(len(got) + 1)
		var rest []byte
		for _, p := range advance(v, k) {
			rest = append(rest, unsafe.Slice(p.Base, p.Len)...)
		}
		if !bytes.Equal(rest, got[k:]) {
			t.Fatal("advance")
		}
	}
}

// TestManyPieces has more pieces in a request than one system call takes.
func TestManyPieces(t *testing.T) {
	p := newPeer(t, func(p *peer) { p.ddgst = true })
	for _, digest := range []bool{false, true} {
		c := dialPeer(t, p, func(c *Config) { c.DataDigest = digest })
		rnd := rand.New(rand.NewPCG(5, 6))
		data := pattern(9, 128<<10)
		if s := ask(t, c.Namespace(1), &bdev.Request{Op: bdev.OpWrite, Offset: 3, Blocks: 32, Iov: cut(rnd, bytes.Clone(data), 60)}); s != nvme.Success {
			t.Fatal(s)
		}
		got := make([]byte, len(data))
		iov := cut(rnd, got, 60)
		if len(iov) < 2*maxIovecs {
			t.Fatalf("%d pieces are too few", len(iov))
		}
		if s := ask(t, c.Namespace(1), &bdev.Request{Op: bdev.OpRead, Offset: 3, Blocks: 32, Iov: iov}); s != nvme.Success {
			t.Fatal(s)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("digest %t: data came back different", digest)
		}
	}
}
