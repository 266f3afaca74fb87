package nvmftgt

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestTenThousandConnectsAMinute has hosts connect and leave, each with a
// controller and an I/O queue or in the middle of it, at no less than that
// rate. A host that was there before goes on with its I/O, and afterwards
// everything is as before.
func TestTenThousandConnectsAMinute(t *testing.T) {
	const least, long = 10000.0 / 60, 3 * time.Second
	r := newRig(t)
	_, id := r.admin()
	q := r.ioq(id, 1)
	q.read(0, 1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()

	var connects atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(long)
	for g := range 4 {
		wg.Go(func() {
			for i := g; time.Now().Before(end) || connects.Load() < int64(least*long.Seconds()); i++ {
				if time.Now().After(end.Add(20 * time.Second)) {
					return
				}
				connects.Add(1)
				w, err := r.tryConnect(0, 0xffff) // as far as Connect
				if err == nil && i%5 == 0 {
					_, _ = w.c.Write(raw(4, 0, 72, 0, 72)) // a torn capsule
				}
				if w != nil {
					_ = w.c.Close()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	worst := time.Duration(0)
	n := 0
	for time.Now().Before(end) {
		begin := time.Now()
		q.read(uint64(n%4096), 1)
		worst = max(worst, time.Since(begin))
		n++
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	t.Logf("%d connects in %v; %d reads meanwhile, the slowest %v", connects.Load(), time.Since(end.Add(-long)).Round(time.Millisecond), n,
		worst)
	if took := time.Since(end.Add(-long)); float64(connects.Load()) < least*long.Seconds() {
		t.Errorf("%d connects in %v", connects.Load(), took)
	}
	if worst > 5*time.Second {
		t.Errorf("a read took %v", worst)
	}
	r.clean(t, 2)
	waitFor(t, func() bool { return runtime.NumGoroutine() <= goroutines+8 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}
