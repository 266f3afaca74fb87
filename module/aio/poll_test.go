package aio

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestPolledCompletions: completions are taken by those who poll as well as
// by the ring's own goroutine, each once, also while the device is closed.
func TestPolledCompletions(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	d := scratch(t, reg)
	if d.ring == nil {
		t.Fatal("no direct I/O here: this file system cannot run the test")
	}
	stop := make(chan struct{})
	var pollers sync.WaitGroup
	for range 2 {
		pollers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					d.ring.PollSource()
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
	}
	h, err := reg.Open("Aio0", nil)
	if err != nil {
		t.Fatal(err)
	}
	var submitters sync.WaitGroup
	for i := range 4 {
		submitters.Go(func() { roundTrips(t, h, reg.Buffers, uint64(i)*64, 40) })
	}
	submitters.Wait()
	h.Close()
	if err := reg.Unregister("Aio0"); err != nil {
		t.Error(err)
	}
	close(stop)
	pollers.Wait()
	if d.ring.PollSource() {
		t.Error("completions after the end")
	}
}

// roundTrips writes a block and reads it back, n times.
func roundTrips(t *testing.T, h *bdev.Handle, bufs *bdev.Pool, at uint64, n int) {
	var b bdev.Batch
	done := make(chan nvme.Status, 2)
	out, in := bufs.Get(4096), bufs.Get(4096)
	defer bufs.Put(out)
	defer bufs.Put(in)
	do := func(op bdev.Op, buf []byte, block uint64) bool {
		h.Submit(&bdev.Request{Op: op, Offset: block, Blocks: 1, Iov: [][]byte{buf},
			Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}, &b)
		b.Flush()
		select {
		case s := <-done:
			if s != nvme.Success {
				t.Errorf("%v of block %d: %v", op, block, s)
			}
			return s == nvme.Success
		case <-time.After(2 * time.Minute):
			t.Errorf("%v of block %d does not end", op, block)
			return false
		}
	}
	for i := range n {
		for j := range out {
			out[j] = byte(i + j)
		}
		block := at + uint64(i)%64
		if !do(bdev.OpWrite, out, block) || !do(bdev.OpRead, in, block) {
			return
		}
		if !bytes.Equal(in, out) {
			t.Errorf("block %d reads other than it was written", block)
			return
		}
	}
}
