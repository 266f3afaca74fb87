package bdevtest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// bench is one test of one device.
type bench struct {
	*testing.T
	s      Subject
	reg    *bdev.Registry
	name   string
	h      *bdev.Handle
	rnd    *rand.Rand
	events eventLog
}

type eventLog struct {
	mu   sync.Mutex
	list []bdev.EventKind
}

func (l *eventLog) add(k bdev.EventKind) {
	l.mu.Lock()
	l.list = append(l.list, k)
	l.mu.Unlock()
}

func (l *eventLog) count(k bdev.EventKind) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, x := range l.list {
		if x == k {
			n++
		}
	}
	return n
}

func (b *bench) bs() uint64 { return uint64(b.h.Info().BlockSize) }

// data returns random bytes for blocks.
func (b *bench) data(blocks uint64) []byte {
	return fill(b.rnd, make([]byte, blocks*b.bs()))
}

func fill(rnd *rand.Rand, p []byte) []byte {
	n := len(p) &^ 7
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], rnd.Uint64())
	}
	for i := n; i < len(p); i++ {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// cut divides p into pieces of random lengths, some of them empty.
func cut(rnd *rand.Rand, p []byte) [][]byte {
	var out [][]byte
	for len(p) > 0 {
		n := 0
		switch rnd.IntN(8) {
		case 0:
		case 1:
			n = 1 + rnd.IntN(7)
		default:
			n = 1 + rnd.IntN(8192)
		}
		n = min(n, len(p))
		out = append(out, p[:n:n])
		p = p[n:]
	}
	return out
}

func (b *bench) do(want nvme.Status, r *bdev.Request) {
	b.Helper()
	if s := Do(b.h, r); s != want {
		b.Fatalf("%v of %d blocks at %d: %v, want %v", r.Op, r.Blocks, r.Offset, s, want)
	}
}

// expect compares what the device holds with want, at offset.
func (b *bench) expect(offset uint64, want []byte) {
	b.Helper()
	got := Read(b, b.h, offset, uint64(len(want))/b.bs())
	if b.s.Discards {
		want = make([]byte, len(want))
	}
	if !bytes.Equal(got, want) {
		b.Fatalf("%d blocks read at %d: wrong from byte %d on", uint64(len(want))/b.bs(), offset, differs(got, want))
	}
}

func differs(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// some is every third of the spots, for what is slow.
func some(blocks uint64) [][2]uint64 {
	var out [][2]uint64
	for i, s := range spots(blocks) {
		if i%3 == 0 || s[0]+s[1] == blocks {
			out = append(out, s)
		}
	}
	return out
}

// spots are ranges worth testing on a device of that many blocks.
func spots(blocks uint64) [][2]uint64 {
	var out [][2]uint64
	for _, n := range []uint64{1, 2, 3, 7, 8, 9, 16, 31, 33, 64, 127, 128, 257} {
		for _, at := range []uint64{0, 1, 5, 15, 16, 17, 31, 64, 255, blocks/2 - 1, blocks / 2, blocks - n} {
			if at+n <= blocks {
				out = append(out, [2]uint64{at, n})
			}
		}
	}
	return out
}
