package blobstore

import (
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestRepair cuts the power at each write of a snapshot of a blob that has a
// parent, and of the deletion of a snapshot with a parent and a clone: what
// some cuts leave crashes SPDK when it loads it. After Repair and Unload
// nothing is left to be finished, and the blob holds what it did.
func TestRepair(t *testing.T) {
	for name, op := range map[string]func(a, s1 *Blob) error{
		"snapshot": func(a, _ *Blob) error { _, err := a.Snapshot(named("s2")); return err },
		"deletion": func(_, s1 *Blob) error { return s1.Delete() },
	} {
		t.Run(name, func(t *testing.T) {
			unfinished, cuts := 0, 0
			for cut := 0; ; cut++ {
				found, over := repairOnce(t, cut, op)
				if over {
					break
				}
				cuts++
				if found {
					unfinished++
				}
			}
			t.Logf("%d of %d cuts left something to finish", unfinished, cuts)
			if unfinished == 0 {
				t.Error("no cut left anything to finish")
			}
		})
	}
}

// repairOnce reports whether the cut left something to finish, and whether the
// operation was over before it.
func repairOnce(t *testing.T, cut int, op func(a, s1 *Blob) error) (found, over bool) {
	w := newWorld(t, smallDeviceBytes, rand.New(rand.NewPCG(1, uint64(cut))).IntN)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
	}
	const blocks = 4 * testCluster / format.PageSize
	a, err := w.store.CreateBlob(BlobConfig{Xattrs: named("a"), Clusters: 4, Thin: true})
	must(err)
	write := func(at uint64, tag byte) {
		t.Helper()
		data := make([]byte, format.PageSize)
		for i := range data {
			data[i] = tag
		}
		if s := w.io(a, bdev.OpWrite, at, 1, data); s != nvme.Success {
			t.Fatalf("write: %v", s)
		}
	}
	write(0, 1)
	_, err = a.Snapshot(named("s0"))
	must(err)
	write(testCluster/format.PageSize, 2)
	s1, err := a.Snapshot(named("s1"))
	must(err)
	write(2*testCluster/format.PageSize, 3)
	if s := w.io(a, bdev.OpFlush, 0, blocks, nil); s != nvme.Success {
		t.Fatalf("flush: %v", s)
	}
	w.dev.cutAt = w.dev.writes + 1 + cut
	if op(a, s1) == nil {
		w.store.Close()
		return false, true
	}
	w.store.Close()
	w.dev = w.dev.restart(rand.New(rand.NewPCG(2, uint64(cut))))
	w.base = openDevice(t, w.dev)
	must(w.load())
	found = len(w.store.Unfinished()) > 0
	must(w.store.Repair())
	if l := w.store.Unfinished(); len(l) != 0 {
		t.Errorf("cut %d: unfinished after Repair: %q", cut, l)
	}
	must(w.store.Unload())
	im, err := ReadImage(w.base, "TEST")
	must(err)
	if !im.Super.Clean || len(im.Problems) != 0 || len(im.Dropped) != 0 {
		t.Errorf("cut %d: after Repair clean %v, problems %v, dropped %d", cut, im.Super.Clean, im.Problems, len(im.Dropped))
	}
	for _, b := range im.Blobs {
		if b.Rewrite {
			t.Errorf("cut %d: blob 0x%x is still to be rewritten", cut, uint64(b.ID))
		}
	}
	s, err := Load(w.base, "TEST", slog.New(slog.DiscardHandler))
	must(err)
	w.store = s
	defer s.Close()
	a = w.blob("a")
	for i, want := range []byte{1, 2, 3, 0} {
		got := make([]byte, format.PageSize)
		if s := w.io(a, bdev.OpRead, uint64(i)*testCluster/format.PageSize, 1, got); s != nvme.Success || got[7] != want {
			t.Errorf("cut %d: cluster %d: %v, %d, want %d", cut, i, s, got[7], want)
		}
	}
	return found, false
}
