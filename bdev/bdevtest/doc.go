// Package bdevtest is the conformance suite that every block device passes:
// what bdev promises to those who hold a Handle, checked against a model in
// memory.
package bdevtest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// Subject is a device to test.
type Subject struct {
	// New makes a device of 4 MiB to 64 MiB in reg and returns its name. It
	// is called for every test; cleaning up is the test's, by reg.Close.
	New func(t *testing.T, reg *bdev.Registry) string

	// Resize, when set, makes the device larger and has the registry told.
	Resize func(t *testing.T, reg *bdev.Registry, name string)

	// Discards says that the device keeps no data: reads give zeros.
	Discards bool

	// UnmapKeeps is how many blocks at either end of an unmapped range the
	// device may leave as they were, for devices that unmap larger units.
	UnmapKeeps uint64

	// MaxCompareAndWrite is how many blocks a compare-and-write may have; 0
	// any. Remote devices do a few at most in one step.
	MaxCompareAndWrite uint64
}

// Run tests s.
func Run(t *testing.T, s Subject) {
	for _, c := range []struct {
		name string
		test func(*bench)
	}{
		{"sizes", (*bench).sizes},
		{"pieces", (*bench).pieces},
		{"refusals", (*bench).refusals},
		{"nothing", (*bench).nothing},
		{"zeroes", (*bench).zeroes},
		{"compare", (*bench).compare},
		{"transient", (*bench).transient},
		{"durable", (*bench).durable},
		{"large", (*bench).large},
		{"map", (*bench).mapped},
		{"concurrent", (*bench).concurrent},
		{"atomic", (*bench).atomic},
		{"removal", (*bench).removal},
		{"closing", (*bench).closing},
		{"resize", (*bench).resize},
		{"stat", (*bench).stat},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := bdev.NewRegistry()
			b := &bench{T: t, s: s, reg: reg, rnd: rand.New(rand.NewPCG(1, 2))}
			b.name = s.New(t, reg)
			h, err := reg.Open(b.name, func(k bdev.EventKind) { b.events.add(k) })
			if err != nil {
				t.Fatal(err)
			}
			b.h = h
			c.test(b)
			h.Close()
			reg.Close()
			returned(t, reg)
		})
	}
}

// returned waits until no buffers of reg are in use: a target of this process
// gives one back when it has sent what is in it, and anyone who asked for that
// may have it by then.
func returned(t *testing.T, reg *bdev.Registry) {
	t.Helper()
	for end := time.Now().Add(time.Minute); reg.Buffers.InUse() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%d buffers are in use after the test", reg.Buffers.InUse())
			return
		}
	}
}

// Do submits r through h and waits for it. Iov, Op and the range are the
// caller's; Done is set here.
func Do(h *bdev.Handle, r *bdev.Request) nvme.Status {
	done := make(chan struct{})
	r.Done = func(*bdev.Request, *bdev.Batch) { close(done) }
	var b bdev.Batch
	h.Submit(r, &b)
	b.Flush()
	<-done
	return r.Status
}

// Read reads blocks into a new buffer.
func Read(t testing.TB, h *bdev.Handle, offset, blocks uint64) []byte {
	t.Helper()
	buf := make([]byte, blocks*uint64(h.Info().BlockSize))
	if s := Do(h, &bdev.Request{Op: bdev.OpRead, Offset: offset, Blocks: blocks, Iov: [][]byte{buf}}); s != nvme.Success {
		t.Fatalf("read of %d blocks at %d: %v", blocks, offset, s)
	}
	return buf
}

// Write writes data, whole blocks, at offset.
func Write(t testing.TB, h *bdev.Handle, offset uint64, data []byte) {
	t.Helper()
	blocks := uint64(len(data)) / uint64(h.Info().BlockSize)
	if s := Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: offset, Blocks: blocks, Iov: [][]byte{data}}); s != nvme.Success {
		t.Fatalf("write of %d blocks at %d: %v", blocks, offset, s)
	}
}
