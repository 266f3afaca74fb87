package host

import (
	"bytes"
	"math/rand/v2"
	"testing"

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

// TestManyPieces has more pieces in a request than one system call takes.
func TestManyPieces(t *testing.T) {
	p := newPeer(t, func(p *peer) { p.ddgst = true })
	for _, digest := range []bool{false, true} {
		c := dialPeer(t, p, func(c *Config) { c.DataDigest = digest })
		rnd := rand.New(rand.NewPCG(5, 6))
		data := pattern(9, 128<<10)
		write := &bdev.Request{Op: bdev.OpWrite, Offset: 3, Blocks: 32, Iov: cut(rnd, bytes.Clone(data), 60)}
		if s := ask(t, c.Namespace(1), write); s != nvme.Success {
			t.Fatal(s)
		}
		got := make([]byte, len(data))
		iov := cut(rnd, got, 60)
		if len(iov) < 2*1024 { // UIO_MAXIOV
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
