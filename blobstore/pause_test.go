package blobstore

import (
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// watched is a disk that tells of each operation that is not a read.
type watched struct {
	*crashDevice
	saw func(bdev.Op)
}

func (d *watched) Submit(r *bdev.Request, b *bdev.Batch) {
	if r.Op != bdev.OpRead {
		d.saw(r.Op)
	}
	d.crashDevice.Submit(r, b)
}

// TestSnapshotPause: I/O of a blob stands still for one write and one flush while a snapshot is
// made, and what is written first after it waits for no more flushes than its cluster, the page
// that leads to it and the chain that leads to that need.
func TestSnapshotPause(t *testing.T) {
	dev := &watched{crashDevice: newCrashDevice(testDeviceBytes), saw: func(bdev.Op) {}}
	reg := bdev.NewRegistry()
	if err := reg.Register(dev); err != nil {
		t.Fatal(err)
	}
	base, err := reg.Open("crash", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Format(base, Config{Type: "TEST", ClusterSize: testCluster, MDPages: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.CreateBlob(BlobConfig{Clusters: 4, Xattrs: named("b")})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: s}
	write := func(tag uint64) {
		t.Helper()
		if st := w.io(b, bdev.OpWrite, 0, 1, tagged(tag)); st != nvme.Success {
			t.Fatal(st)
		}
	}
	write(1)
	var held, free []bdev.Op
	dev.saw = func(op bdev.Op) {
		if b.gate.state.Load()&gateFrozen != 0 {
			held = append(held, op)
		} else {
			free = append(free, op)
		}
	}
	pause := []bdev.Op{bdev.OpWrite, bdev.OpFlush}
	snap, err := b.Snapshot(named("s"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(held, pause) || !slices.Equal(free, slices.Concat(pause, pause)) {
		t.Errorf("while I/O was held: %v; while it was not: %v", held, free)
	}
	free = nil
	write(2)
	want := []bdev.Op{bdev.OpWrite, bdev.OpWrite, bdev.OpFlush, bdev.OpWrite, bdev.OpFlush, bdev.OpWrite}
	if !slices.Equal(free, want) {
		t.Errorf("a write after the snapshot: %v, want %v", free, want)
	}

	// While another holds the I/O, the mark on the snapshot waits for the next change.
	held = nil
	h, err := b.Hold(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Snapshot(named("t")); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(held, slices.Concat(pause, pause)) {
		t.Errorf("within a hold: %v", held)
	}
	if _, inForce := h.Release(); !inForce || len(s.unmarked) != 1 || !snap.ReadOnly() {
		t.Errorf("%d snapshots have their mark, the hold was in force: %v", len(s.unmarked), inForce)
	}
	write(3)
	if len(s.unmarked) != 0 {
		t.Error("the mark stays after a change")
	}
}
