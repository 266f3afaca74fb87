package bdev_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
)

// hammer submits from several goroutines, each with requests of its own,
// for a time, and returns how many completed, and in what time.
func hammer(h *bdev.Handle, op bdev.Op, blocks uint64, d time.Duration) (int64, time.Duration) {
	var done atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	end := begin.Add(d)
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			const depth = 16
			free := make(chan *bdev.Request, depth)
			for range depth {
				free <- &bdev.Request{Op: op, Blocks: blocks, Iov: [][]byte{make([]byte, blocks*512)}, Done: func(r *bdev.Request, _ *bdev.Batch) {
					if r.Status == nvme.Success {
						done.Add(1)
					}
					free <- r
				}}
			}
			var b bdev.Batch
			for time.Now().Before(end) {
				select {
				case r := <-free:
					h.Submit(r, &b)
					b.Flush()
				case <-time.After(time.Millisecond):
				}
			}
			for range depth {
				<-free
			}
		}()
	}
	time.Sleep(time.Until(end))
	n, took := done.Load(), time.Since(begin)
	wg.Wait()
	return n, took
}

func TestQoSKeepsItsLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits bdev.Limits
		op     bdev.Op
		blocks uint64
		want   float64 // requests per second
	}{
		{"rw_ios", bdev.Limits{RWIOs: 10000}, bdev.OpRead, 1, 10000},
		{"rw_mb", bdev.Limits{RWMB: 16}, bdev.OpWrite, 8, 4096},
		{"r_mb", bdev.Limits{RMB: 8, WMB: 1}, bdev.OpRead, 8, 2048},
		{"w_mb", bdev.Limits{RMB: 1, WMB: 8}, bdev.OpWrite, 8, 2048},
		{"the lowest", bdev.Limits{RWIOs: 2000, RWMB: 100}, bdev.OpWrite, 8, 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reg := bdev.NewRegistry()
				defer reg.Close()
				h := add(t, reg, memory(t, "Malloc0"))
				defer h.Close()
				if err := reg.SetQoS("Malloc0", c.limits); err != nil {
					t.Fatal(err)
				}
				if got, _ := reg.QoS("Malloc0"); got != c.limits {
					t.Fatalf("limits are %+v", got)
				}
				n, took := hammer(h, c.op, c.blocks, 1500*time.Millisecond)
				// More than the limit and the 100 ms that it remembers is never right.
				if got := float64(n) / (took + 100*time.Millisecond).Seconds(); got > 1.02*c.want {
					t.Errorf("%d requests in %v, limit %.0f a second", n, took, c.want)
				}
				if got := float64(n) / took.Seconds(); got < 0.95*c.want {
					t.Errorf("%.0f requests per second, limit %.0f", got, c.want)
				}
				if n := h.InFlight(); n != 0 {
					t.Errorf("%d requests left", n)
				}
			})
		})
	}
}

// What is limited does not slow its neighbours or other operations.
func TestQoSLeavesOthersAlone(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	slow, free := add(t, reg, memory(t, "Malloc0")), add(t, reg, memory(t, "Malloc1"))
	defer slow.Close()
	defer free.Close()
	if err := reg.SetQoS("Malloc0", bdev.Limits{RWIOs: 1000}); err != nil {
		t.Fatal(err)
	}
	var stop sync.WaitGroup
	stop.Add(1)
	go func() { defer stop.Done(); hammer(slow, bdev.OpRead, 1, 300*time.Millisecond) }()
	if n, took := hammer(free, bdev.OpRead, 1, 200*time.Millisecond); n < 1000 {
		t.Errorf("a device without limits made %d requests in %v", n, took)
	}
	begin := time.Now()
	for range 100 {
		if s := bdevtest.Do(slow, &bdev.Request{Op: bdev.OpFlush}); s != nvme.Success {
			t.Fatal(s)
		}
	}
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("100 flushes of a limited device took %v", d)
	}
	stop.Wait()
}

// blocked fills a device's queue with requests that its limit holds back.
func blocked(t *testing.T, reg *bdev.Registry, h *bdev.Handle, n int) chan nvme.Status {
	t.Helper()
	if err := reg.SetQoS("Malloc0", bdev.Limits{RWMB: 1}); err != nil {
		t.Fatal(err)
	}
	out := make(chan nvme.Status, n)
	var b bdev.Batch
	for range n {
		p := make([]byte, 1<<20)
		h.Submit(&bdev.Request{Op: bdev.OpWrite, Blocks: 2048, Iov: [][]byte{p}, Transient: true,
			Done: func(r *bdev.Request, _ *bdev.Batch) { out <- r.Status }}, &b)
	}
	b.Flush()
	return out
}

func TestQoSEndsReleasesAll(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	h := add(t, reg, memory(t, "Malloc0"))
	defer h.Close()
	out := blocked(t, reg, h, 20)
	if err := reg.SetQoS("Malloc0", bdev.Limits{}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		select {
		case s := <-out:
			if s != nvme.Success {
				t.Fatal(s)
			}
		case <-time.After(time.Minute):
			t.Fatal("requests wait for a limit that is gone")
		}
	}
}

func TestQoSRemovalFailsWhatWaits(t *testing.T) {
	reg := bdev.NewRegistry()
	h := add(t, reg, memory(t, "Malloc0"))
	out := blocked(t, reg, h, 20)
	h.Close() // with 19 or so in flight
	if err := reg.Unregister("Malloc0"); err != nil {
		t.Fatal(err)
	}
	path := 0
	for range 20 {
		if s := <-out; s.IsPath() {
			path++
		} else if s != nvme.Success {
			t.Error(s)
		}
	}
	if path == 0 {
		t.Error("nothing waited")
	}
	if n := reg.Buffers.InUse(); n != 0 {
		t.Errorf("%d buffers are in use after the removal", n)
	}
}

func TestQoSRounds(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	h := add(t, reg, memory(t, "Malloc0"))
	defer h.Close()
	if err := reg.SetQoS("Malloc0", bdev.Limits{RWIOs: 1}); err != nil {
		t.Fatal(err)
	}
	if l, _ := reg.QoS("Malloc0"); l.RWIOs != 1000 {
		t.Errorf("1 I/O a second became %d, want 1000", l.RWIOs)
	}
	if err := reg.SetQoS("nobody", bdev.Limits{}); !bdev.IsErrno(err, bdev.ErrNoDevice) {
		t.Errorf("limits of nothing: %v", err)
	}
}
