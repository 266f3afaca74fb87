package bdevnvme

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestAbandoned: a write that waits for a lost connection is not sent any more
// once the host that it came from is gone; one whose host is there is.
func TestAbandoned(t *testing.T) {
	r := newRig(t, 1)
	r.attach(0, nil)
	h := r.open("Nv0n1")
	defer h.Close()
	r.ok(r.sub.RemoveListener(r.addrs[0]))
	write := func(block uint64, gone *atomic.Bool) <-chan nvme.Status {
		done := make(chan nvme.Status, 1)
		go func() {
			done <- bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: block, Blocks: 1, Iov: [][]byte{bytes.Repeat([]byte{7}, 4096)},
				Gone: gone})
		}()
		return done
	}
	gone := &atomic.Bool{}
	lost, kept := write(0, gone), write(1, &atomic.Bool{})
	time.Sleep(200 * time.Millisecond) // both wait
	gone.Store(true)
	r.listen(r.addrs[0].Trsvcid)
	if s := <-kept; s != nvme.Success {
		t.Errorf("the write of a host that is there: %v", s)
	}
	if s := <-lost; !s.IsPath() {
		t.Errorf("the write of a host that is gone: %v, want a path status", s)
	}
	buf := make([]byte, 8192)
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 2, Iov: [][]byte{buf}}); s != nvme.Success {
		t.Fatal(s)
	}
	if buf[0] != 0 || buf[4096] != 7 {
		t.Errorf("blocks start with %d and %d, want 0 and 7", buf[0], buf[4096])
	}
}
