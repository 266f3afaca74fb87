package bdev_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestCompareAndWriteDuringRemoval takes a device away, and closes and opens
// handles, while compare-and-writes and others are under way: everything ends,
// well or with a path status.
func TestCompareAndWriteDuringRemoval(t *testing.T) {
	for range 30 {
		reg := bdev.NewRegistry()
		if err := reg.Register(memory(t, "Malloc0")); err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for !stop.Load() {
					var h *bdev.Handle
					var once sync.Once
					opened := make(chan struct{})
					end := func() { once.Do(func() { h.Close() }) }
					h, err := reg.Open("Malloc0", func(k bdev.EventKind) {
						go func() { <-opened; end() }()
					})
					if err != nil {
						return
					}
					close(opened)
					for i := range 20 {
						p := make([]byte, 512)
						p[0] = byte(i)
						r := &bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{p}}
						if g%2 == 0 {
							r = &bdev.Request{Op: bdev.OpCompareAndWrite, Blocks: 1, Iov: [][]byte{p, p}}
						}
						switch s := bdevtest.Do(h, r); s {
						case nvme.Success, nvme.InternalPathError, nvme.CompareFailure | nvme.DNR:
						default:
							t.Errorf("%v: %v", r.Op, s)
						}
					}
					end()
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		gone := make(chan error, 1)
		go func() { gone <- reg.Unregister("Malloc0") }()
		select {
		case err := <-gone:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("the device is never let go")
		}
		stop.Store(true)
		wg.Wait()
	}
}
