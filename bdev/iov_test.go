package bdev

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda/nvme"
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

// TestIov compares each walk over pieces with the same on one piece, also where
// it is asked for more than there is, and looks where the next one starts.
func TestIov(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for range 3000 {
		whole := random(rnd.IntN(3000) + 1)
		off := rnd.IntN(len(whole) + 1)
		n := rnd.IntN(len(whole) - off + 20)
		pieces := cut(rnd, whole, rnd.IntN(500)+1)
		have := min(n, len(whole)-off)
		want := slices.Clone(whole[off : off+have])
		rest := slices.Clone(whole[off+have:])
		// ends fails unless v stands behind the n bytes.
		ends := func(what string, v Iov) {
			t.Helper()
			got := make([]byte, len(rest)+1)
			if m := v.Gather(got); !bytes.Equal(got[:m], rest) {
				t.Fatalf("%s of %d bytes at %d of %d does not end where it should", what, n, off, len(whole))
			}
		}

		v := IovAt(pieces, off)
		var got []byte
		for left := n; left > 0; {
			p := v.Next(left)
			if p == nil {
				break
			}
			if len(p) == 0 {
				t.Fatal("Next returns an empty piece")
			}
			got, left = append(got, p...), left-len(p)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("Next: %d bytes of %d at %d of %d", len(got), n, off, len(whole))
		}
		ends("Next", v)

		v = IovAt(pieces, off)
		if got := bytes.Join(v.Append(nil, n), nil); !bytes.Equal(got, want) {
			t.Fatal("Append")
		}
		ends("Append", v)

		v = IovAt(pieces, off)
		v.Skip(n)
		ends("Skip", v)

		v = IovAt(pieces, off)
		if d := v.Digest(7, n); d != nvme.UpdateDigest(7, want) {
			t.Fatal("Digest")
		}
		ends("Digest", v)

		v = IovAt(pieces, off)
		if !v.Equal(want) {
			t.Fatal("Equal says no")
		}
		ends("Equal", v)
		v = IovAt(pieces, off)
		if v.Equal(append(slices.Clone(whole[off:]), 0)) {
			t.Fatal("Equal of more than there is")
		}
		if have > 0 {
			other := slices.Clone(want)
			other[rnd.IntN(have)]++
			if v = IovAt(pieces, off); v.Equal(other) {
				t.Fatal("Equal of other bytes")
			}
		}

		before := slices.Clone(whole[:off])
		fresh := random(n)
		v = IovAt(pieces, off)
		if m := v.Scatter(fresh); m != have {
			t.Fatalf("Scatter: %d of %d bytes", m, have)
		}
		ends("Scatter", v)
		if !bytes.Equal(whole, slices.Concat(before, fresh[:have], rest)) {
			t.Fatal("Scatter wrote something else")
		}
		v = IovAt(pieces, off)
		v.Clear(n)
		ends("Clear", v)
		if !bytes.Equal(whole, slices.Concat(before, make([]byte, have), rest)) {
			t.Fatal("Clear wrote something else")
		}
	}
}

// TestIovAllocates: a walk allocates nothing.
func TestIovAllocates(t *testing.T) {
	pieces := [][]byte{make([]byte, 100), nil, make([]byte, 4096)}
	buf := make([]byte, 4000)
	vec := make([][]byte, 0, 4)
	if n := testing.AllocsPerRun(100, func() {
		v := IovAt(pieces, 50)
		v.Scatter(buf)
		v = IovAt(pieces, 50)
		v.Gather(buf)
		v = IovAt(pieces, 50)
		vec = v.Append(vec[:0], 4000)
		v = IovAt(pieces, 50)
		v.Digest(0, 4000)
		v.Clear(20)
		if v.Next(1) == nil {
			t.Error("too short")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
