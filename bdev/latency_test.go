package bdev

import (
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda/nvme"
)

// TestLatencyBounds: a latency is counted where LatencyBound says.
func TestLatencyBounds(t *testing.T) {
	last := latencies - 1
	for i := range last {
		b := LatencyBound(i)
		if latencyOf(b) != i || latencyOf(b+1) != i+1 {
			t.Errorf("bound %d, %d ns: counted in %d, and a nanosecond more in %d", i, b, latencyOf(b), latencyOf(b+1))
		}
		if i > 0 && b != 2*LatencyBound(i-1) {
			t.Errorf("bound %d is %d", i, b)
		}
	}
	if LatencyBound(0) != 32_000 || latencyOf(0) != 0 || latencyOf(1) != 0 || LatencyBound(last) != 0 || latencyOf(1<<63) != last {
		t.Errorf("the ends: %d, %d, %d, %d, %d", LatencyBound(0), latencyOf(0), latencyOf(1), LatencyBound(last), latencyOf(1<<63))
	}
}

// TestCountersOnlyGrow: what Prometheus takes for a counter never goes down, though only some
// of the requests that complete at once are timed, and those by many goroutines at once: a
// counter that falls is taken for one that has begun again.
func TestCountersOnlyGrow(t *testing.T) {
	var c counters
	done := make(chan struct{})
	var wg sync.WaitGroup
	const each, workers = 20000, 4
	for w := range workers {
		wg.Go(func() {
			r := Request{Op: OpRead, Blocks: 1, Status: nvme.Success}
			for i := range each {
				switch {
				case i%3 == 0:
					c.add(&r, true, uint64(50_000+i), 512) // far
				case i%61 == w:
					c.add(&r, false, uint64(1+i%7*1000), 512) // timed, and of very different latency
				default:
					c.add(&r, false, 0, 512)
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	var last IOStat
	look := func() {
		s := c.stat()
		r, was := s.Op[OpRead], last.Op[OpRead]
		if r.Ops < was.Ops || r.Settled < was.Settled || r.Bytes < was.Bytes || r.Nanos < r.Settled {
			t.Errorf("it went from %+v to %+v", was, r)
		}
		for i := range s.Reads {
			if s.Reads[i] < last.Reads[i] {
				t.Errorf("count %d of latencies went from %d to %d", i, last.Reads[i], s.Reads[i])
			}
		}
		last = s
	}
	for running := true; running && !t.Failed(); {
		select {
		case <-done:
			running = false
		default:
		}
		look()
	}
	look()
	n := uint64(0)
	for _, v := range last.Reads {
		n += v
	}
	if want := uint64(each * workers); last.Op[OpRead].Ops != want || n > want || n < want-workers*200 {
		t.Errorf("%d requests: %d are counted, %d of them by latency", want, last.Op[OpRead].Ops, n)
	}
}
