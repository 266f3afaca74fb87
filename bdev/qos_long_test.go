package bdev_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestQoSOverTenSeconds has a device for each limit under more load than it
// allows, all at once and for 10 s: each does what its limit says within 5 %.
// Meanwhile requests to a device without a limit, and of the direction that a
// limit leaves alone, never wait. Time is fake: what a busy machine gets done in
// 10 s is its own.
func TestQoSOverTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, qosOverTenSeconds)
}

func qosOverTenSeconds(t *testing.T) {
	const long = 10 * time.Second
	reg := bdev.NewRegistry()
	defer reg.Close()
	free := add(t, reg, memory(t, "free"))
	defer free.Close()
	stop := make(chan struct{})
	var neighbours, load sync.WaitGroup
	passes := func(what string, h *bdev.Handle, op bdev.Op) {
		defer neighbours.Done()
		for n := 0; ; n++ {
			select {
			case <-stop:
				if n < 1000 {
					t.Errorf("%s: only %d requests in %v", what, n, long)
				}
				return
			case <-time.After(time.Millisecond):
			}
			status, b := nvme.InternalError, bdev.Batch{}
			h.Submit(&bdev.Request{Op: op, Blocks: 1, Iov: [][]byte{make([]byte, 512)}, Done: func(r *bdev.Request,
				_ *bdev.Batch) {
				status = r.Status
			}}, &b)
			if status != nvme.Success { // memory completes before Submit returns
				t.Errorf("%s: a request waited, or failed", what)
				<-stop
				return
			}
		}
	}
	neighbours.Add(1)
	go passes("a device without limits", free, bdev.OpRead)
	for _, c := range []struct {
		name   string
		limits bdev.Limits
		op     bdev.Op
		other  bdev.Op // goes unlimited; 0: none does
		blocks uint64  // of 512 bytes
		want   float64 // requests per second
	}{
		{"rw_ios", bdev.Limits{RWIOs: 3000}, bdev.OpRead, 0, 1, 3000},
		{"rw_mb", bdev.Limits{RWMB: 8}, bdev.OpWrite, 0, 8, 2048},
		{"r_mb", bdev.Limits{RMB: 4}, bdev.OpRead, bdev.OpWrite, 8, 1024},
		{"w_mb", bdev.Limits{WMB: 4}, bdev.OpWrite, bdev.OpRead, 8, 1024},
	} {
		h := add(t, reg, memory(t, c.name))
		defer h.Close()
		if err := reg.SetQoS(c.name, c.limits); err != nil {
			t.Fatal(err)
		}
		if c.other != 0 {
			neighbours.Add(1)
			go passes(c.name+", the other direction", h, c.other)
		}
		load.Go(func() {
			n, took := hammer(h, c.op, c.blocks, long)
			got := float64(n) / took.Seconds()
			t.Logf("%s: %.0f requests per second, limit %.0f", c.name, got, c.want)
			if got < 0.95*c.want || got > 1.05*c.want {
				t.Errorf("%s: %.0f requests per second over %v, limit %.0f", c.name, got, took, c.want)
			}
		})
	}
	load.Wait()
	close(stop)
	neighbours.Wait()
}
