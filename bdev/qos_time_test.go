package bdev_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// keepBusy keeps depth requests under way on h for d, and returns how many
// succeeded meanwhile.
func keepBusy(t *testing.T, h *bdev.Handle, op bdev.Op, blocks uint64, depth int, d time.Duration) int {
	free := make(chan *bdev.Request, depth)
	for range depth {
		free <- &bdev.Request{Op: op, Blocks: blocks, Iov: [][]byte{make([]byte, blocks*512)}, Status: nvme.InternalError,
			Done: func(r *bdev.Request, _ *bdev.Batch) { free <- r }}
	}
	var b bdev.Batch
	done := -depth
	for end := time.Now().Add(d); time.Now().Before(end); done++ {
		r := <-free
		if done >= 0 && r.Status != nvme.Success {
			t.Errorf("request %d: %v", done, r.Status)
		}
		h.Submit(r, &b)
		b.Flush()
	}
	done += len(free)
	for len(free) < depth {
		time.Sleep(time.Second)
	}
	return done
}

// TestQoSByTheClock: over 10 s of a clock that no other work disturbs, each limit
// lets as much through as it says, within 5 %, and less only for want of requests.
func TestQoSByTheClock(t *testing.T) {
	for name, c := range map[string]struct {
		limits bdev.Limits
		op     bdev.Op
		blocks uint64 // of 512 bytes
		want   int    // requests in 10 s
	}{
		"rw_ios, reads":    {bdev.Limits{RWIOs: 2000}, bdev.OpRead, 1, 20000},
		"rw_ios, writes":   {bdev.Limits{RWIOs: 5000}, bdev.OpWrite, 8, 50000},
		"rw_mb":            {bdev.Limits{RWMB: 16}, bdev.OpWrite, 8, 40960},
		"r_mb":             {bdev.Limits{RMB: 8, WMB: 1}, bdev.OpRead, 8, 20480},
		"w_mb, 128 KiB":    {bdev.Limits{RMB: 1, WMB: 100}, bdev.OpWrite, 256, 8000},
		"the lower of two": {bdev.Limits{RWIOs: 1000, RWMB: 100}, bdev.OpWrite, 8, 10000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := bdev.NewRegistry()
				defer reg.Close()
				h := add(t, reg, memory(t, "Malloc0"))
				defer h.Close()
				if err := reg.SetQoS("Malloc0", c.limits); err != nil {
					t.Fatal(err)
				}
				if n := keepBusy(t, h, c.op, c.blocks, 64, 10*time.Second); n < c.want*95/100 || n > c.want*105/100 {
					t.Errorf("%d requests in 10 s, want %d", n, c.want)
				}
			})
		})
	}
}

// TestQoSCountsThrottledTime: time counts in which something waits, once however
// much does, and none does when all may go.
func TestQoSCountsThrottledTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := bdev.NewRegistry()
		defer reg.Close()
		h := add(t, reg, memory(t, "Malloc0"))
		defer h.Close()
		throttled := func() time.Duration {
			s, err := reg.IOStat("Malloc0")
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(s.JSON().ThrottledTicks); got != s.Throttled {
				t.Errorf("bdev_get_iostat has %v, want %v", got, s.Throttled)
			}
			return s.Throttled
		}
		near := func(what string, want time.Duration) {
			t.Helper()
			if got := throttled(); got < want-20*time.Millisecond || got > want+20*time.Millisecond {
				t.Errorf("%s: throttled for %v, want %v", what, got, want)
			}
		}
		if err := reg.SetQoS("Malloc0", bdev.Limits{RWIOs: 1000}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		submit := func(n int) {
			var b bdev.Batch
			for range n {
				h.Submit(&bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 512)},
					Done: func(*bdev.Request, *bdev.Batch) {}}, &b)
			}
			b.Flush()
		}
		submit(50)
		near("all may go", 0)
		time.Sleep(time.Second)
		submit(600) // 250 of them at once, for the pause before
		time.Sleep(250 * time.Millisecond)
		near("while they wait", 250*time.Millisecond)
		time.Sleep(10 * time.Second)
		near("long after", 350*time.Millisecond)
		submit(1100)
		time.Sleep(400 * time.Millisecond)
		if err := reg.SetQoS("Malloc0", bdev.Limits{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		near("after the limit is gone", 750*time.Millisecond)
	})
}

// TestQoSChangesAtOnce: what waits for a low limit does not wait for it any more
// when the limit is raised.
func TestQoSChangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := bdev.NewRegistry()
		defer reg.Close()
		h := add(t, reg, memory(t, "Malloc0"))
		defer h.Close()
		out := blocked(t, reg, h, 3) // 1 MiB each, at 1 MiB per second
		begin := time.Now()
		time.Sleep(10 * time.Millisecond)
		if err := reg.SetQoS("Malloc0", bdev.Limits{RWMB: 1000}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if s := <-out; s != nvme.Success {
				t.Error(s)
			}
		}
		if d := time.Since(begin); d > 100*time.Millisecond {
			t.Errorf("3 MiB took %v after the limit was raised to 1000 MiB per second", d)
		}
	})
}
