package bdevtest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// concurrent has several goroutines work on ranges of their own.
func (b *bench) concurrent() {
	const workers = 8
	span := b.h.Info().Blocks / workers
	var wg sync.WaitGroup
	for w := uint64(0); w < workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b.churn(rand.New(rand.NewPCG(w, 9)), w*span, span)
		}()
	}
	wg.Wait()
}

// churn writes, zeroes and reads at random in a range and knows what is there.
func (b *bench) churn(rnd *rand.Rand, base, span uint64) {
	bs := b.bs()
	model := make([]byte, span*bs)
	if s := Do(b.h, &bdev.Request{Op: bdev.OpWriteZeroes, Offset: base, Blocks: span}); s != nvme.Success {
		b.Errorf("write zeroes: %v", s)
		return
	}
	for range 150 {
		n := 1 + rnd.Uint64N(min(64, span))
		at := rnd.Uint64N(span - n + 1)
		part := model[at*bs : (at+n)*bs]
		r := &bdev.Request{Op: bdev.OpRead, Offset: base + at, Blocks: n}
		var got []byte
		switch rnd.IntN(5) {
		case 0, 1:
			fill(rnd, part[:bs])
			binary.LittleEndian.PutUint64(part[len(part)-8:], rnd.Uint64())
			r.Op, r.Iov = bdev.OpWrite, cut(rnd, bytes.Clone(part))
		case 2:
			clear(part)
			r.Op = bdev.OpWriteZeroes
		default:
			got = make([]byte, n*bs)
			r.Iov = cut(rnd, got)
		}
		if s := Do(b.h, r); s != nvme.Success {
			b.Errorf("%v of %d blocks at %d: %v", r.Op, n, base+at, s)
			return
		}
		if got != nil && !b.s.Discards && !bytes.Equal(got, part) {
			b.Errorf("%d blocks at %d: wrong from byte %d on", n, base+at, differs(got, part))
			return
		}
	}
}

// atomic counts up in one block by compare-and-write from several goroutines.
func (b *bench) atomic() {
	if b.s.Discards || !b.h.Info().Ops.Has(bdev.OpCompareAndWrite) {
		return
	}
	const workers, rounds = 4, 20
	b.do(nvme.Success, &bdev.Request{Op: bdev.OpWriteZeroes, Blocks: 1})
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < rounds; {
				old := Read(b, b.h, 0, 1)
				next := bytes.Clone(old)
				binary.LittleEndian.PutUint64(next, binary.LittleEndian.Uint64(old)+1)
				if Do(b.h, &bdev.Request{Op: bdev.OpCompareAndWrite, Blocks: 1, Iov: [][]byte{old, next}}) == nvme.Success {
					n++
				}
			}
		}()
	}
	wg.Wait()
	if got := binary.LittleEndian.Uint64(Read(b, b.h, 0, 1)); got != workers*rounds {
		b.Errorf("%d compare-and-writes succeeded, the counter says %d", workers*rounds, got)
	}
	b.atomicToWrites()
}

// atomicToWrites has one goroutine write ever new values while others mark
// what they find by compare-and-write. A write that is over stays, marked or
// not: a mark on an older value would have undone it.
func (b *bench) atomicToWrites() {
	var stop atomic.Bool
	var marks atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop.Store(true)
	for range 3 {
		wg.Go(func() {
			for !stop.Load() {
				old := Read(b, b.h, 0, 1)
				next := bytes.Clone(old)
				next[8] = 1
				if Do(b.h, &bdev.Request{Op: bdev.OpCompareAndWrite, Blocks: 1, Iov: [][]byte{old, next}}) == nvme.Success {
					marks.Add(1)
				}
			}
		})
	}
	p := make([]byte, b.bs())
	end := time.Now().Add(5 * time.Second)
	for n := uint64(1); n <= 300 || marks.Load() < 20 && time.Now().Before(end); n++ {
		binary.LittleEndian.PutUint64(p, n<<8)
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{p}})
		for range 3 {
			if got := binary.LittleEndian.Uint64(Read(b, b.h, 0, 1)); got != n<<8 {
				b.Errorf("a compare-and-write put %d over the %d written since it compared", got>>8, n)
				return
			}
		}
	}
	if marks.Load() == 0 {
		b.Error("no compare-and-write succeeded among the writes")
	}
}

// load keeps depth reads going on h until stop, and returns a function that
// waits for the end and gives the statuses seen.
func (b *bench) load(h *bdev.Handle, depth int, stop *atomic.Bool) (wait func() map[nvme.Status]int) {
	var mu sync.Mutex
	seen := map[nvme.Status]int{}
	var wg sync.WaitGroup
	for d := range depth {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, b.bs())
			for !stop.Load() {
				s := Do(h, &bdev.Request{Op: bdev.OpRead, Offset: uint64(d), Blocks: 1, Iov: [][]byte{p}})
				mu.Lock()
				seen[s]++
				mu.Unlock()
			}
		}()
	}
	return func() map[nvme.Status]int { wg.Wait(); return seen }
}

// within fails the test when f takes too long.
func (b *bench) within(what string, f func()) {
	b.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		b.Fatalf("%s hangs", what)
	}
}

// removal unregisters the device while it is in use.
func (b *bench) removal() {
	var stop atomic.Bool
	wait := b.load(b.h, 4, &stop)
	time.Sleep(10 * time.Millisecond)
	gone := make(chan error, 1)
	go func() { gone <- b.reg.Unregister(b.name) }()
	for b.events.count(bdev.Removed) == 0 {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-gone:
		b.Fatalf("unregistered with an open handle: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := b.reg.Open(b.name, nil); !bdev.IsErrno(err, bdev.ErrNoDevice) {
		b.Errorf("opened while being removed: %v", err)
	}
	if s := Do(b.h, &bdev.Request{Op: bdev.OpFlush}); !s.IsPath() {
		b.Errorf("a request to a removed device: %v, want a path status", s)
	}
	stop.Store(true)
	b.within("I/O on a removed device", func() {
		for s := range wait() {
			if s != nvme.Success && !s.IsPath() {
				b.Errorf("a request during the removal: %v", s)
			}
		}
	})
	b.h.Close()
	b.within("Unregister", func() {
		if err := <-gone; err != nil {
			b.Errorf("unregister: %v", err)
		}
	})
	if n := b.events.count(bdev.Removed); n != 1 {
		b.Errorf("told Removed %d times", n)
	}
	if err := b.reg.Unregister(b.name); !bdev.IsErrno(err, bdev.ErrNoDevice) {
		b.Errorf("unregistered twice: %v", err)
	}
}

// closing closes a handle with requests in flight while another stays.
func (b *bench) closing() {
	for range 20 {
		h, err := b.reg.Open(b.name, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Claim("bdevtest"); err != nil {
			b.Fatal(err)
		}
		if err := b.h.Claim("another"); !bdev.IsErrno(err, bdev.ErrClaimed) {
			b.Fatalf("claimed twice: %v", err)
		}
		var stop atomic.Bool
		wait := b.load(h, 4, &stop)
		time.Sleep(time.Millisecond)
		h.Close()
		h.Close()
		stop.Store(true)
		b.within("I/O on a closed handle", func() {
			for s := range wait() {
				if s != nvme.Success && !s.IsPath() {
					b.Errorf("a request around Close: %v", s)
				}
			}
		})
		b.within("giving the claim back", func() {
			for b.reg.ClaimedBy(b.name) != "" {
				time.Sleep(time.Millisecond)
			}
		})
	}
	Write(b, b.h, 0, b.data(1))
}

// resize grows the device under an open handle.
func (b *bench) resize() {
	if b.s.Resize == nil {
		return
	}
	old := b.h.Info().Blocks
	p := b.data(old / 2)
	Write(b, b.h, 0, p)
	b.s.Resize(b.T, b.reg, b.name)
	if b.events.count(bdev.Resized) == 0 {
		b.Fatal("not told Resized")
	}
	if b.h.Info().Blocks <= old {
		b.Fatalf("%d blocks after growing, %d before", b.h.Info().Blocks, old)
	}
	b.expect(0, p)
	end := b.h.Info().Blocks - 4
	q := b.data(4)
	Write(b, b.h, end, q)
	b.expect(end, q)
}

// stat checks that requests are counted.
func (b *bench) stat() {
	for range 3 {
		Write(b, b.h, 0, b.data(2))
	}
	Read(b, b.h, 0, 5)
	h, err := b.reg.Open(b.name, nil)
	if err != nil {
		b.Fatal(err)
	}
	Read(b, h, 0, 1)
	h.Close()
	s, err := b.reg.IOStat(b.name)
	if err != nil {
		b.Fatal(err)
	}
	w, r := s.Op[bdev.OpWrite], s.Op[bdev.OpRead]
	if w.Ops != 3 || w.Bytes != 6*b.bs() || r.Ops != 2 || r.Bytes != 6*b.bs() || s.Fails != 0 {
		b.Errorf("3 writes of 2 blocks, reads of 5 and 1: counted %+v %+v", w, r)
	}
	if r.Min > r.Max || w.Min > w.Max || w.Max > w.Nanos {
		b.Errorf("latencies do not fit together: %+v %+v", w, r)
	}
	if err := b.reg.ResetIOStat(b.name, false); err != nil {
		b.Fatal(err)
	}
	if s, _ = b.reg.IOStat(b.name); s != (bdev.IOStat{}) {
		b.Errorf("after a reset: %+v", s)
	}
}
