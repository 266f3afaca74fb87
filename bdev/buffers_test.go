package bdev_test

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestBuffersOfTheRegistry: a device's memory comes from the registry that its
// request was submitted in, and no other registry notices.
func TestBuffersOfTheRegistry(t *testing.T) {
	full, empty := bdev.NewRegistry(), bdev.NewRegistry()
	defer full.Close()
	defer empty.Close()
	empty.Buffers.SetLimit(0)
	for _, c := range []struct {
		reg  *bdev.Registry
		want nvme.Status
	}{{full, nvme.Success}, {empty, nvme.CommandInterrupted}} {
		h := add(t, c.reg, &bare{Device: memory(t, "Bare0"), inline: true})
		for _, r := range []*bdev.Request{
			{Op: bdev.OpWriteZeroes, Blocks: 8, Transient: true, Iov: [][]byte{make([]byte, 1)}}, // kept while it is done by writes
			{Op: bdev.OpCompare, Blocks: 1, Iov: [][]byte{make([]byte, 512)}},                    // read into a buffer
		} {
			if s := bdevtest.Do(h, r); s != c.want {
				t.Errorf("%v in a registry of %d bytes: %v, want %v", r.Op, c.reg.Buffers.Limit(), s, c.want)
			}
		}
		if n := c.reg.Buffers.InUse(); n != 0 {
			t.Errorf("%d buffers are out", n)
		}
		h.Close()
	}
}

// TestRetainWithoutHandle: a request that was not submitted in a registry has no
// memory to be kept in, and stays as it was.
func TestRetainWithoutHandle(t *testing.T) {
	r := &bdev.Request{Op: bdev.OpWrite, Transient: true, Iov: [][]byte{make([]byte, 512)}}
	if r.Retain() || !r.Transient {
		t.Errorf("retained; transient: %v", r.Transient)
	}
}

// TestTrim: the memory of buffers that were put back goes to the system, and
// the pool gives as many again.
func TestTrim(t *testing.T) {
	p := bdev.NewPool(8 << 20)
	for range 2 {
		var all [][]byte
		for _, n := range []int{4096, 128 << 10, 4 << 20} {
			buf := p.Get(n)
			buf[0] = 1
			all = append(all, buf)
		}
		for _, buf := range all {
			p.Put(buf)
		}
		p.Trim()
		if p.Free() != 8<<20 || p.InUse() != 0 {
			t.Errorf("%d bytes are free, %d buffers out", p.Free(), p.InUse())
		}
	}
	if buf := p.Get(4096); buf[0] == 1 {
		t.Error("a trimmed buffer still has what was written to it")
	}
}
