package blobstore

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestLoadWritesNothing loads stores that were left clean, dirty, or in the
// middle of an operation, reads all of them and unloads them: the disk stays as
// it was, to the bit.
func TestLoadWritesNothing(t *testing.T) {
	seeds, step := uint64(3), 7
	if raceEnabled {
		seeds, step = 1, 31
	}
	for seed := range seeds {
		for cut := 3; cut < 200; cut += step {
			w := newWorld(t, testDeviceBytes, rand.New(rand.NewPCG(seed, 7)).IntN)
			w.dev.cutAt = w.dev.writes + 1 + cut
			died := false
			for range 25 {
				if _, died = w.step(); died {
					break
				}
			}
			if w.store.Close(); died {
				w.dev = w.dev.restart(rand.New(rand.NewPCG(seed, uint64(cut))))
				w.base = openDevice(t, w.dev)
			} else {
				w.dev.cutAt = 0
			}
			untouched(t, w)
			if !died {
				break
			}
		}
	}
	w := newWorld(t, testDeviceBytes, rand.New(rand.NewPCG(1, 1)).IntN)
	for range 20 {
		w.step()
	}
	if err := w.store.Unload(); err != nil {
		t.Fatal(err)
	}
	untouched(t, w) // a clean one
}

func untouched(t *testing.T, w *world) {
	t.Helper()
	before, writes := slices.Clone(w.dev.view), w.dev.writes
	if err := w.load(); err != nil {
		w.failf("load: %v", err)
	}
	for _, b := range w.store.Blobs() {
		if s := w.io(b, bdev.OpRead, 0, b.Blocks(), make([]byte, b.Blocks()*format.PageSize)); b.Blocks() > 0 && s != nvme.Success {
			w.failf("read: %s", s)
		}
	}
	if err := w.store.Unload(); err != nil {
		w.failf("unload: %v", err)
	}
	if !bytes.Equal(before, w.dev.view) || w.dev.writes != writes {
		w.failf("a load without a change did %d writes", w.dev.writes-writes)
	}
}

const smallDeviceBytes = 3 << 20

// second loads the store of a world once more, as another program would.
func (w *world) second() *world {
	w.t.Helper()
	o := &world{t: w.t, dev: w.dev, base: openDevice(w.t, w.dev), pick: w.pick}
	if err := o.load(); err != nil {
		w.t.Fatal(err)
	}
	return o
}

// Anyone who only looked at a store that another has loaded leaves nothing of it
// behind.
func TestOnlookerDoesNoHarm(t *testing.T) {
	a := newWorld(t, smallDeviceBytes, func(int) int { return 0 })
	if _, err := a.store.CreateBlob(BlobConfig{Clusters: 3, Thin: true, Xattrs: named("one")}); err != nil {
		t.Fatal(err)
	}
	b := a.second()
	if err := b.store.Unload(); err != nil { // it is told to stop
		t.Fatal(err)
	}
	if _, err := a.store.CreateBlob(BlobConfig{Clusters: 3, Xattrs: named("two")}); err != nil {
		t.Fatal(err)
	}
	a.store.Close() // killed
	if err := a.load(); err != nil {
		t.Fatal(err)
	}
	if a.blob("one") == nil || a.blob("two") == nil {
		t.Error("a blob is gone")
	}
	a.firstChange()
	a.checkDisk()
}

// twoWriters are two programs that have the same store loaded: a has changed
// something since b loaded it.
func twoWriters(t *testing.T, clean, marked bool, change func(a *world) error) (a, b *world) {
	a = newWorld(t, smallDeviceBytes, func(int) int { return 0 })
	for _, c := range []BlobConfig{{Clusters: 3, Thin: true, Xattrs: named("thin")}, {Clusters: 3, Xattrs: named("thick")}} {
		if _, err := a.store.CreateBlob(c); err != nil {
			t.Fatal(err)
		}
	}
	if clean {
		if err := a.reload(); err != nil {
			t.Fatal(err)
		}
	}
	b = a.second()
	if !marked {
		a.store.writer = make([]byte, sbWriterLen) // a program that leaves none
	}
	if err := change(a); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func (w *world) write(name string, tag uint64) nvme.Status {
	return w.io(w.blob(name), bdev.OpWrite, 0, 1, tagged(tag))
}

// TestSecondWriterStops: a program that loaded a store, and finds when it is to
// write for the first time that another has changed it since, does not write.
func TestSecondWriterStops(t *testing.T) {
	changes := map[string]func(a *world) error{
		"create": func(a *world) error {
			_, err := a.store.CreateBlob(BlobConfig{Clusters: 1, Xattrs: named("new")})
			return err
		},
		"delete":   func(a *world) error { return a.blob("thick").Delete() },
		"allocate": func(a *world) error { return status(a.write("thin", 1)) },
		"create, unload": func(a *world) error {
			_, err := a.store.CreateBlob(BlobConfig{Clusters: 1, Xattrs: named("new")})
			return errors.Join(err, a.store.Unload(), a.load())
		},
	}
	writes := map[string]func(b *world) error{
		"create": func(b *world) error {
			_, err := b.store.CreateBlob(BlobConfig{Clusters: 1, Xattrs: named("b")})
			return err
		},
		"write":    func(b *world) error { return taken(b.write("thick", 2)) },
		"allocate": func(b *world) error { return taken(b.write("thin", 2)) },
		"zero":     func(b *world) error { return taken(b.io(b.blob("thick"), bdev.OpWriteZeroes, 0, 1, nil)) },
		"unmap":    func(b *world) error { return taken(b.io(b.blob("thick"), bdev.OpUnmap, 0, 2, nil)) },
		"grow":     func(b *world) error { return b.blob("thin").Resize(9) },
		"destroy":  func(b *world) error { return b.store.Destroy() },
	}
	for change, do := range changes {
		for write, try := range writes {
			for _, clean := range []bool{false, true} {
				for _, marked := range []bool{false, true} {
					t.Run(change+"/"+write, func(t *testing.T) {
						a, b := twoWriters(t, clean, marked, do)
						b.store.log = slog.New(slog.DiscardHandler)
						before := slices.Clone(a.dev.view)
						if err := try(b); !errors.Is(err, ErrTaken) || !errors.Is(err, syscall.ESTALE) {
							t.Errorf("error %v, want %v", err, ErrTaken)
						}
						if write != "destroy" {
							if b.store.Failed() == nil {
								t.Error("the store does not say that it has failed")
							}
							if s := b.io(b.blob("thin"), bdev.OpRead, 0, 1, make([]byte, format.PageSize)); s != nvme.InternalPathError {
								t.Errorf("read: %s", s)
							}
							if err := b.store.Unload(); !errors.Is(err, ErrTaken) {
								t.Errorf("unload: %v", err)
							}
						}
						if !bytes.Equal(before, a.dev.view) {
							t.Error("the disk was written to")
						}
						if _, err := a.store.CreateBlob(BlobConfig{Clusters: 1, Xattrs: named("more")}); err != nil {
							t.Errorf("the first one: %v", err)
						}
						a.store.Close()
					})
				}
			}
		}
	}
}

// taken is what a host is told by a store that has failed.
func taken(s nvme.Status) error {
	if s == nvme.InternalPathError {
		return ErrTaken
	}
	return status(s)
}

func status(s nvme.Status) error {
	if s == nvme.Success {
		return nil
	}
	return s
}

// TestFirstWriterStops: a program that has been writing finds that another has
// begun to, and leaves the store to it.
func TestFirstWriterStops(t *testing.T) {
	for name, begin := range map[string]func(b *world) error{
		"write":  func(b *world) error { return status(b.write("thick", 2)) },
		"create": func(b *world) error { _, err := b.store.CreateBlob(BlobConfig{Xattrs: named("b")}); return err },
		"unload": func(b *world) error {
			_, err := b.store.CreateBlob(BlobConfig{Xattrs: named("b")})
			return errors.Join(err, b.store.Unload())
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := twoWriters(t, false, true, func(*world) error { return nil })
			if err := begin(b); err != nil {
				t.Fatal(err)
			}
			before := slices.Clone(a.dev.view)
			a.store.recheck = 0
			if s := a.write("thin", 3); s != nvme.InternalPathError {
				t.Errorf("write: %s", s)
			}
			if _, err := a.store.CreateBlob(BlobConfig{Xattrs: named("a")}); !errors.Is(err, ErrTaken) {
				t.Errorf("create: %v", err)
			}
			if err := a.store.Unload(); !errors.Is(err, ErrTaken) {
				t.Errorf("unload: %v", err)
			}
			if !bytes.Equal(before, a.dev.view) {
				t.Error("the disk was written to")
			}
			b.store.Close()
		})
	}
}

// The first change fails half way: whichever super block is on the disk, the
// store is still this one's.
func TestFirstChangeFailsAndIsTriedAgain(t *testing.T) {
	for _, applies := range []bool{false, true} {
		w := newWorld(t, testDeviceBytes, func(int) int { return 0 })
		if _, err := w.store.CreateBlob(BlobConfig{Clusters: 3, Xattrs: named("thick")}); err != nil {
			t.Fatal(err)
		}
		if err := w.reload(); err != nil {
			t.Fatal(err)
		}
		w.dev.failAt, w.dev.applies = w.dev.writes+1, applies
		if s := w.write("thick", 1); s != nvme.ANAInaccessible {
			t.Errorf("write: %s", s)
		}
		if s := w.write("thick", 2); s != nvme.Success {
			t.Errorf("the next write: %s", s)
		}
		w.store.Close()
	}
}
