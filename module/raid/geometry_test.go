package raid

import (
	"math/rand/v2"
	"testing"
)

// Every block of a range lies in exactly one extent, where run says it is, and
// no base has two extents.
func TestExtents(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		level := []Level{Raid0, Concat}[rnd.IntN(2)]
		shift := uint(rnd.IntN(5))
		var sizes []uint64
		for range 1 + rnd.IntN(5) {
			sizes = append(sizes, 16+rnd.Uint64N(100))
		}
		g := newGeometry(level, shift, sizes)
		for i, n := range g.sizes {
			if n > sizes[i] {
				t.Fatalf("%d blocks of a base of %d", n, sizes[i])
			}
		}
		offset := rnd.Uint64N(g.total)
		blocks := 1 + rnd.Uint64N(g.total-offset)
		exts := g.extents(nil, offset, blocks)
		type place struct {
			base int
			at   uint64
		}
		held := map[place]bool{}
		seen := map[int]bool{}
		sum := uint64(0)
		for _, e := range exts {
			if seen[e.base] {
				t.Fatalf("%s: two extents on base %d", level, e.base)
			}
			seen[e.base] = true
			if e.offset+e.blocks > g.sizes[e.base] {
				t.Fatalf("%s: extent %+v beyond the base's %d", level, e, g.sizes[e.base])
			}
			for b := e.offset; b < e.offset+e.blocks; b++ {
				held[place{e.base, b}] = true
			}
			sum += e.blocks
		}
		if sum != blocks {
			t.Fatalf("%s shift %d bases %v: %d blocks at %d became %d in %+v", level, shift, g.sizes, blocks, offset, sum, exts)
		}
		for b := offset; b < offset+blocks; {
			base, at, run := g.run(b)
			if run == 0 {
				t.Fatalf("%s: no run at %d", level, b)
			}
			for ; run > 0 && b < offset+blocks; b, at, run = b+1, at+1, run-1 {
				if !held[place{base, at}] {
					t.Fatalf("%s: block %d, which is %d of base %d, is in no extent", level, b, at, base)
				}
			}
		}
	}
}

// Where the blocks of an array lie on its bases is an on-disk format.
func TestRaid0Layout(t *testing.T) {
	g := newGeometry(Raid0, 2, []uint64{18, 21, 40}) // strips of 4; 4 strips each
	if g.total != 48 {
		t.Fatalf("%d blocks, want 48", g.total)
	}
	for _, c := range []struct {
		block uint64
		base  int
		at    uint64
	}{{0, 0, 0}, {3, 0, 3}, {4, 1, 0}, {11, 2, 3}, {12, 0, 4}, {30, 1, 10}, {47, 2, 15}} {
		if base, at, _ := g.run(c.block); base != c.base || at != c.at {
			t.Errorf("block %d is block %d of base %d, want %d of %d", c.block, at, base, c.at, c.base)
		}
	}
}
