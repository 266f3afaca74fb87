package blobstore

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestFirstChangeAfterACut cuts the power at each write of a snapshot and of a deletion, loads
// the store, and makes each kind of change the first one, before which the store finishes what
// was cut off: it moves metadata that the change is about. Then the power fails again. The
// volume is there, and holds what was written.
func TestFirstChangeAfterACut(t *testing.T) {
	cut := map[string]func(v, s1 *Blob) error{
		"snapshot":      func(v, _ *Blob) error { _, err := v.Snapshot(named("s2")); return err },
		"held snapshot": heldSnapshot,
		"deletion":      func(_, s1 *Blob) error { return s1.Delete() },
	}
	first := map[string]struct {
		of string // the blob that it changes
		do func(b *Blob) error
	}{
		"delete a snapshot":    {"s1", (*Blob).Delete},
		"delete the new one":   {"s2", (*Blob).Delete},
		"snapshot":             {"v", func(b *Blob) error { _, err := b.Snapshot(named("s3")); return err }},
		"clone":                {"s1", func(b *Blob) error { _, err := b.Clone(named("c")); return err }},
		"label":                {"v", func(b *Blob) error { return b.SetXattr("label", []byte("x")) }},
		"grow":                 {"v", func(b *Blob) error { return b.Resize(6) }},
		"shrink":               {"v", func(b *Blob) error { return b.Resize(4) }},
		"inflate":              {"v", (*Blob).Inflate},
		"decouple":             {"v", (*Blob).Decouple},
		"make it read only":    {"v", (*Blob).SetReadOnly},
		"clone of the new one": {"s2", func(b *Blob) error { _, err := b.Clone(named("c")); return err }},
	}
	shapes, step := []bool{false, true}, 1 // thin
	if raceEnabled {
		shapes, step = shapes[:1], 5
	}
	for name, cut := range cut {
		for change, first := range first {
			if name == "deletion" && first.of == "s2" {
				continue
			}
			t.Run(name+", "+change, func(t *testing.T) {
				made := 0
				for at, over := 0, false; !over; at += step {
					for _, thin := range shapes {
						var done bool
						over, done = firstChange(t, cut, at, thin, func(w *world) (bool, error) {
							b := w.blob(first.of)
							if b == nil || first.of == "v" && change == "decouple" && b.Parent() == nil {
								return false, nil
							}
							return true, first.do(b)
						})
						if done {
							made++
						}
					}
				}
				if made == 0 {
					t.Error("the change was never made")
				}
			})
		}
	}
}

// heldSnapshot leaves the snapshot's mark to the next change, as snapshots of several volumes do.
func heldSnapshot(v, _ *Blob) error {
	h, err := v.Hold(1 << 40)
	if err != nil {
		return err
	}
	defer h.Release()
	_, err = h.Snapshot(named("s2"))
	return err
}

// firstChange has the power fail at a write of an operation. over: it has fewer; the power
// fails after it then. done: what was to be the first change could be made.
func firstChange(t *testing.T, cut func(v, s1 *Blob) error, at int, thin bool, first func(*world) (bool, error)) (over, done bool) {
	t.Helper()
	w := newWorld(t, smallDeviceBytes, func(int) int { return 0 })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("write %d, thin %v: %v", at, thin, err)
		}
	}
	again := func(seed uint64) {
		t.Helper()
		w.dev = w.dev.restart(rand.New(rand.NewPCG(seed, uint64(at))))
		w.store.Close()
		w.base = openDevice(t, w.dev)
		must(w.load())
	}
	v, err := w.store.CreateBlob(BlobConfig{Xattrs: named("v"), Clusters: 5, Thin: thin})
	must(err)
	must(status(w.io(v, bdev.OpWrite, 0, 1, tagged(1))))
	s1, err := v.Snapshot(named("s1"))
	must(err)
	must(status(w.io(v, bdev.OpWrite, perCluster, 1, tagged(2))))
	must(status(w.io(v, bdev.OpFlush, 0, 5*perCluster, nil)))
	w.dev.cutAt = w.dev.writes + 1 + at
	over = cut(v, s1) == nil
	w.dev.cutAt = 0
	again(3)
	done, err = first(w)
	must(err)
	again(4)
	defer w.store.Close()
	for i, want := range []uint64{1, 2} {
		got := make([]byte, len(tagged(0)))
		if s := w.io(w.blob("v"), bdev.OpRead, uint64(i)*perCluster, 1, got); s != nvme.Success || !bytes.Equal(got, tagged(want)) {
			t.Fatalf("write %d, thin %v: cluster %d: %v, it does not hold what was written", at, thin, i, s)
		}
	}
	w.firstChange()
	w.checkDisk()
	return over, done
}
