package bdev

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// fill takes buffers of n bytes until there are none.
func fill(p *Pool, n int) (all [][]byte) {
	for buf := p.Get(n); buf != nil; buf = p.Get(n) {
		buf[0], buf[n-1] = 1, 1 // it is there
		all = append(all, buf)
	}
	return all
}

// TestAnySizeAfterAnyOther: memory that one size has had serves each other,
// all of it.
func TestAnySizeAfterAnyOther(t *testing.T) {
	const limit = 2 * MaxBuffer
	for first := 4 << 10; first <= MaxBuffer; first *= 2 {
		for then := 4 << 10; then <= MaxBuffer; then *= 2 {
			p := NewPool(limit)
			held := fill(p, first)
			if len(held) != limit/first {
				t.Fatalf("%d buffers of %d bytes", len(held), first)
			}
			if p.Get(then) != nil {
				t.Fatalf("a buffer of %d bytes above the limit", then)
			}
			for _, buf := range held {
				p.Put(buf)
			}
			if got := fill(p, then); len(got) != limit/then {
				t.Errorf("%d of %d buffers of %d bytes after %d", len(got), limit/then, then, first)
			}
			if h := p.held.Load(); h != limit {
				t.Errorf("%d bytes held after %d and %d", h, first, then)
			}
		}
	}
}

// TestPoolWhileScattered: buffers that stay out here and there keep no other
// size from what is free.
func TestPoolWhileScattered(t *testing.T) {
	const limit = 16 << 20
	p := NewPool(limit)
	for i, buf := range fill(p, 4<<10) {
		if i%64 != 0 {
			p.Put(buf)
		}
	}
	want := p.Free() / MaxBuffer
	if got := fill(p, MaxBuffer); want != 3 || len(got) != want {
		t.Errorf("%d buffers of 4 MiB, want %d", len(got), want)
	}
}

// TestPoolReservations: what is reserved is had, whatever others take, and
// nothing beyond the limit is.
func TestPoolReservations(t *testing.T) {
	p := NewPool(4 << 20)
	if !p.Reserve(100 << 10) {
		t.Fatal("nothing to reserve")
	}
	rest := fill(p, 4<<10)
	if len(rest) != (4<<20-128<<10)/4096 {
		t.Errorf("%d buffers beside the reservation", len(rest))
	}
	if p.Reserve(1) {
		t.Error("more than the limit is reserved")
	}
	buf := p.Take(100 << 10)
	if len(buf) != 100<<10 {
		t.Fatal("what was reserved is not there")
	}
	p.Put(buf)
	if !p.Reserve(128 << 10) {
		t.Error("what was put back cannot be reserved")
	}
	p.Unreserve(128 << 10)
	if p.Free() != 128<<10 {
		t.Errorf("%d bytes free", p.Free())
	}
}

// TestPoolLowered: memory above a lowered limit goes back to the system as it
// is put back.
func TestPoolLowered(t *testing.T) {
	p := NewPool(4 << 20)
	all := fill(p, 64<<10)
	p.SetLimit(1 << 20)
	for _, buf := range all {
		p.Put(buf)
	}
	if h := p.held.Load(); h > 1<<20 {
		t.Errorf("%d bytes are held", h)
	}
	if n := len(fill(p, 256<<10)); n != 4 {
		t.Errorf("%d buffers of 256 KiB", n)
	}
}

// TestPoolRace has many take and give back all sizes near the limit: nobody
// shares a buffer, the limit holds, and in the end all is free.
func TestPoolRace(t *testing.T) {
	const limit = 8 << 20
	p := NewPool(limit)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(g)))
			var mine [][]byte
			for i := range 4000 {
				if len(mine) > 0 && (rng.IntN(2) == 0 || len(mine) > 20) {
					buf := mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					if want := fmt.Sprint("of ", g); string(buf[:len(want)]) != want {
						t.Errorf("%q in a buffer %s", buf[:8], want)
					}
					p.Put(buf)
					continue
				}
				n := 4 << 10 << rng.IntN(8)
				if i%97 == 0 {
					n = MaxBuffer
				}
				if buf := p.Get(n); buf != nil {
					copy(buf, fmt.Sprint("of ", g))
					mine = append(mine, buf)
				}
				if u := p.used.Load(); u > limit {
					t.Errorf("%d bytes of %d are used", u, limit)
				}
			}
			for _, buf := range mine {
				p.Put(buf)
			}
		})
	}
	wg.Wait()
	if p.Free() != limit || p.InUse() != 0 {
		t.Errorf("%d bytes free, %d buffers out", p.Free(), p.InUse())
	}
}
