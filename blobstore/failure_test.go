package blobstore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestWriteFailure has one write of a sequence fail, on the medium or not. The
// operation fails or not, the store goes on, and a power cut at the end shows
// that memory and disk have not drifted apart.
func TestWriteFailure(t *testing.T) {
	seeds, sample := uint64(6), 25
	if raceEnabled {
		seeds, sample = 2, 5
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 3))
		for range sample {
			failOnce(t, seed, 1+rng.IntN(250), rng.IntN(2) == 0)
		}
	}
}

func failOnce(t *testing.T, seed uint64, at int, applies bool) {
	rng := rand.New(rand.NewPCG(seed, 11))
	w := newWorld(t, testDeviceBytes, rng.IntN)
	w.dev.failAt, w.dev.applies = w.dev.writes+at, applies
	for range 25 {
		before, failed := w.step()
		if !failed {
			continue
		}
		w.dev.failed, w.dev.failAt = false, 0
		w.trace = append(w.trace, "a write of this failed")
		if w.store.closed.Load() { // it failed to unload
			if err := w.load(); err != nil {
				w.failf("load: %v", err)
			}
		}
		w.whichOf(before)
		for _, b := range w.store.blobs {
			if b.uncertain {
				if err := w.store.commit(b.change()); err != nil {
					w.failf("write 0x%x again: %v", uint64(b.id), err)
				}
			}
		}
	}
	w.dev.failAt = 0
	for _, name := range w.model.names() {
		if s := w.io(w.blob(name), bdev.OpFlush, 0, 0, nil); s != nvme.Success {
			w.failf("flush: %s", s)
		}
	}
	if d := w.differs(w.model, false); d != "" {
		w.failf("seed %d, failure %d: %s", seed, at, d)
	}
	w.store.Close()
	w.dev = w.dev.restart(rng)
	w.base = openDevice(t, w.dev)
	if err := w.load(); err != nil {
		w.failf("seed %d, failure %d: load: %v", seed, at, err)
	}
	if d := w.differs(w.model, false); d != "" {
		w.failf("seed %d, failure %d, after a power cut: %s", seed, at, d)
	}
	w.firstChange()
	if d := w.differs(w.model, false); d != "" {
		w.failf("seed %d, failure %d, repaired: %s", seed, at, d)
	}
	w.checkDisk()
	w.store.Close()
}

// whichOf decides whether a failed operation has happened. A delete may be
// half done; it is repeated then.
func (w *world) whichOf(before model) {
	after := w.model
	last := w.trace[len(w.trace)-2]
	if op, _, _ := strings.Cut(last, " "); op == "write" || op == "zero" || op == "unmap" {
		for name, b := range after {
			for i := range b.blocks {
				if len(b.blocks[i].tags) != len(before[name].blocks[i].tags) {
					b.blocks[i] = block{any: true} // a flush does not tell, either
				}
			}
		}
	}
	if w.differs(after, false) == "" {
		return
	}
	if name, ok := strings.CutPrefix(last, "delete "); ok && w.differs(before, false) != "" {
		if b := w.blob(name); b != nil {
			if err := b.Delete(); err != nil {
				w.failf("delete again: %v", err)
			}
		}
		if d := w.differs(after, false); d != "" {
			w.failf("after deleting again: %s", d)
		}
		return
	}
	w.model = before
	if d := w.differs(before, false); d != "" {
		w.failf("neither as after nor as before: %s", d)
	}
}

// TestFailedSnapshotLosesNothing has a write or a flush of a snapshot fail, on the medium or
// not, and the power fail right after it. What the volume held is there, as all its clusters
// are the snapshot's when the disk has come that far.
func TestFailedSnapshotLosesNothing(t *testing.T) {
	for _, applies := range []bool{false, true} {
		for at := 1; ; at++ {
			var err error
			for seed := range uint64(8) {
				if err = failedSnapshot(t, seed, at, applies); err == nil {
					break // it has fewer operations
				}
			}
			if err == nil {
				break
			}
		}
	}
}

// failedSnapshot has the operation at of a snapshot fail, and returns the snapshot's error.
func failedSnapshot(t *testing.T, seed uint64, at int, applies bool) error {
	w := newWorld(t, smallDeviceBytes, func(int) int { return 0 })
	b, err := w.store.CreateBlob(BlobConfig{Clusters: 4, Thin: true, Xattrs: named("b")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(4) {
		if s := w.io(b, bdev.OpWrite, i*perCluster, 1, tagged(1+i)); s != nvme.Success {
			t.Fatal(s)
		}
	}
	if s := w.io(b, bdev.OpFlush, 0, 0, nil); s != nvme.Success {
		t.Fatal(s)
	}
	w.dev.failAt, w.dev.applies = w.dev.writes+at, applies
	_, snapErr := b.Snapshot(named("s"))
	w.dev.failAt = 0
	w.dev = w.dev.restart(rand.New(rand.NewPCG(seed, 5)))
	w.store.Close()
	w.base = openDevice(t, w.dev)
	if err := w.load(); err != nil {
		t.Fatalf("operation %d fails (on the medium: %v), %v: load: %v", at, applies, snapErr, err)
	}
	defer w.store.Close()
	if b = w.blob("b"); b == nil {
		t.Fatalf("operation %d fails (on the medium: %v), %v: the volume is gone", at, applies, snapErr)
	}
	for i := range uint64(4) {
		got := make([]byte, len(tagged(0)))
		if s := w.io(b, bdev.OpRead, i*perCluster, 1, got); s != nvme.Success || !bytes.Equal(got, tagged(1+i)) {
			t.Fatalf("operation %d fails (on the medium: %v), %v: cluster %d: status %v, it does not hold what was written",
				at, applies, snapErr, i, s)
		}
	}
	return snapErr
}

// TestFailedSnapshotIsForgotten: a snapshot that may be on disk, as neither its making nor its
// taking back was seen to end, does not come back to claim what has become another volume's.
func TestFailedSnapshotIsForgotten(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t, smallDeviceBytes, func(int) int { return 0 })
		b, err := w.store.CreateBlob(BlobConfig{Clusters: 4, Xattrs: named("b")})
		if err != nil {
			t.Fatal(err)
		}
		w.dev.failAt, w.dev.more, w.dev.applies = w.dev.writes+at, 2, true
		if _, err = b.Snapshot(named("s")); err == nil {
			w.store.Close()
			if at < 4 {
				t.Fatalf("a snapshot has %d operations", at-1)
			}
			return
		}
		w.dev.failAt = 0
		if err := b.Delete(); err != nil {
			t.Fatalf("operation %d: %v", at, err)
		}
		c, err := w.store.CreateBlob(BlobConfig{Clusters: w.store.FreeClusters(), Xattrs: named("c")})
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.Clusters() {
			if s := w.io(c, bdev.OpWrite, i*perCluster, 1, tagged(1+i)); s != nvme.Success {
				t.Fatal(s)
			}
		}
		if s := w.io(c, bdev.OpFlush, 0, 0, nil); s != nvme.Success {
			t.Fatal(s)
		}
		w.dev = w.dev.restart(rand.New(rand.NewPCG(1, 5)))
		w.store.Close()
		w.base = openDevice(t, w.dev)
		if err := w.load(); err != nil {
			t.Fatalf("operation %d: load: %v", at, err)
		}
		if w.blob("s") != nil || w.blob("b") != nil || w.blob("c") == nil {
			t.Errorf("operation %d: s is %v, b is %v, c is %v", at, w.blob("s"), w.blob("b"), w.blob("c"))
		}
		w.checkDisk()
		w.store.Close()
	}
}

// TestStatusGoesThrough: what the base device answers reaches the host as it
// is, also when the failing I/O was the store's own.
func TestStatusGoesThrough(t *testing.T) {
	for _, thin := range []bool{false, true} {
		w := newWorld(t, smallDeviceBytes, func(int) int { return 0 })
		b, err := w.store.CreateBlob(BlobConfig{Clusters: 4, Thin: thin})
		if err != nil {
			t.Fatal(err)
		}
		w.dev.failAt = w.dev.writes + 1
		if s := w.io(b, bdev.OpWrite, 1, 1, tagged(1)); s != nvme.ANAInaccessible {
			t.Errorf("thin %v: status %s", thin, s)
		}
		if s := w.io(b, bdev.OpWrite, 1, 1, tagged(2)); s != nvme.Success {
			t.Errorf("thin %v: after the failure: %s", thin, s)
		}
		w.dev.failAt = w.dev.writes + 1
		err = b.Resize(5)
		var s nvme.Status
		if !errors.Is(err, syscall.EIO) || !errors.As(err, &s) || s != nvme.ANAInaccessible {
			t.Errorf("resize: %v", err)
		}
		w.store.Close()
	}
}

// TestKeptAfterAFailure: a record that is kept is on the disk when that has succeeded, also when it is the one of before
// a change of it that failed, on the disk or not.
func TestKeptAfterAFailure(t *testing.T) {
	for at := range 3 { // a change of one page is a write and a flush
		for seed := range uint64(4) {
			w := newWorld(t, smallDeviceBytes, func(int) int { return 0 })
			b, err := w.store.CreateBlob(BlobConfig{Clusters: 1, Xattrs: named("b")})
			if err != nil {
				t.Fatal(err)
			}
			if s := b.Keep("record", []byte("one")); s != nvme.Success {
				t.Fatal(s)
			}
			w.dev.failAt, w.dev.applies = w.dev.writes+1+at, true
			failed := b.Keep("record", []byte("two")) != nvme.Success
			w.dev.failAt = 0
			if s := b.Keep("record", []byte("one")); s != nvme.Success {
				t.Fatalf("operation %d: %s", at, s)
			}
			w.dev = w.dev.restart(rand.New(rand.NewPCG(seed, 5)))
			w.store.Close()
			w.base = openDevice(t, w.dev)
			if err := w.load(); err != nil {
				t.Fatalf("operation %d: load: %v", at, err)
			}
			if got, _ := w.blob("b").Xattr("record"); string(got) != "one" {
				t.Errorf("operation %d, failed: %t: the disk has %q", at, failed, got)
			}
			w.store.Close()
		}
	}
}
