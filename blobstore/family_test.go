package blobstore

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

// familyOps are steps of a world: create, snapshot, clone, delete, resize,
// inflate, decouple, reload, zero and write.
var familyOps = []int{0, 1, 1, 1, 2, 3, 3, 5, 5, 5, 5, 6, 7, 7, 8, 11, 12, 12, 12}

// TestFamilyModel changes short blobs, their snapshots and clones at random,
// and their lengths more than anything else, and compares every block with the
// model: what a snapshot is too short for is zeros, whatever lies below it and
// anyone who goes away.
func TestFamilyModel(t *testing.T) {
	steps := 60
	if raceEnabled {
		steps = 30
		_ = flag.Set("rapid.checks", "40")
		defer func() { _ = flag.Set("rapid.checks", "100") }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
		w := newWorld(t, testDeviceBytes, pick)
		w.short, w.ops = true, familyOps
		defer func() { w.store.Close() }()
		for range steps {
			w.step()
			if d := w.differs(w.model, true); d != "" {
				w.failf("%s", d)
			}
		}
		w.checkDisk()
		w.store.Close() // as after a power cut
		if err := w.load(); err != nil {
			w.failf("%v", err)
		}
		if d := w.differs(w.model, true); d != "" {
			w.failf("after a load: %s", d)
		}
	})
}

// family is a thin blob v of six clusters of AA, snapshot s1, v cut to three,
// snapshot s2, v grown to eight.
type family struct {
	*world
	v, s1, s2 *Blob
}

func newFamily(t *testing.T) *family {
	w := newWorld(t, smallDeviceBytes, func(int) int { return 0 })
	t.Cleanup(func() { w.store.Close() })
	f := &family{world: w}
	must := func(b *Blob, err error) *Blob {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f.v = must(w.store.CreateBlob(BlobConfig{Clusters: 6, Thin: true, Xattrs: named("v")}))
	f.fill(f.v, 0, 6, 0xaa)
	f.s1 = must(f.v.Snapshot(named("s1")))
	must(f.v, f.v.Resize(3))
	f.s2 = must(f.v.Snapshot(named("s2")))
	must(f.v, f.v.Resize(8))
	return f
}

func (f *family) fill(b *Blob, cluster, n uint64, with byte) {
	f.t.Helper()
	if s := f.io(b, bdev.OpWrite, cluster*perCluster, n*perCluster, bytes.Repeat([]byte{with}, int(n)*testCluster)); s != nvme.Success {
		f.t.Fatal(s)
	}
}

// clusters returns a byte a cluster; it fails when one is mixed.
func (f *family) clusters(b *Blob) string {
	f.t.Helper()
	buf := bytes.Repeat([]byte{0x5a}, int(b.Blocks())*format.PageSize)
	if s := f.io(b, bdev.OpRead, 0, b.Blocks(), buf); s != nvme.Success {
		f.t.Fatal(s)
	}
	out := ""
	for c := 0; c < len(buf); c += testCluster {
		if !bytes.Equal(buf[c:c+testCluster], bytes.Repeat(buf[c:c+1], testCluster)) {
			f.t.Fatalf("cluster %d is mixed", c/testCluster)
		}
		out += fmt.Sprintf("%02x ", buf[c])
	}
	return out
}

const cutFamily = "aa aa aa 00 00 00 00 00 "

func TestZerosBeyondTheParentsEnd(t *testing.T) {
	for name, then := range map[string]func(f *family) error{
		"nothing":         func(f *family) error { return nil },
		"load":            func(f *family) error { return f.again("v") },
		"inflate":         func(f *family) error { return f.v.Inflate() },
		"decouple":        func(f *family) error { return f.v.Decouple() },
		"decouple twice":  func(f *family) error { return errors.Join(f.v.Decouple(), f.v.Decouple()) },
		"delete s2":       func(f *family) error { return f.s2.Delete() },
		"delete s1":       func(f *family) error { return f.s1.Delete() },
		"delete both":     func(f *family) error { return errors.Join(f.s2.Delete(), f.s1.Delete()) },
		"delete s1 first": func(f *family) error { return errors.Join(f.s1.Delete(), f.s2.Delete()) },
		"snapshot, delete s2": func(f *family) error {
			_, err := f.v.Snapshot(named("s3"))
			return errors.Join(err, f.s2.Delete())
		},
		"shrink and grow":           func(f *family) error { return errors.Join(f.v.Resize(1), f.v.Resize(8)) },
		"delete s2, load":           func(f *family) error { return errors.Join(f.s2.Delete(), f.again("v")) },
		"write in what was cut off": func(f *family) error { f.fill(f.v, 4, 1, 0); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFamily(t)
			if got := f.clusters(f.v); got != cutFamily {
				t.Fatalf("before: %s", got)
			}
			if err := then(f); err != nil {
				t.Fatal(err)
			}
			if got := f.clusters(f.v); got != cutFamily {
				t.Errorf("%s, want %s", got, cutFamily)
			}
			f.checkDisk()
		})
	}
}

// again loads the store as after a power cut and finds v.
func (f *family) again(name string) error {
	f.store.Close()
	err := f.load()
	if err == nil {
		f.v = f.blob(name)
	}
	return err
}

// A part of a cluster that is written where a parent ends takes zeros along,
// not what was cut off.
func TestWriteBeyondTheParentsEnd(t *testing.T) {
	f := newFamily(t)
	if s := f.io(f.v, bdev.OpWrite, 4*perCluster, 1, bytes.Repeat([]byte{0xbb}, format.PageSize)); s != nvme.Success {
		t.Fatal(s)
	}
	buf := make([]byte, testCluster)
	if s := f.io(f.v, bdev.OpRead, 4*perCluster, perCluster, buf); s != nvme.Success {
		t.Fatal(s)
	}
	if !bytes.Equal(buf[format.PageSize:], make([]byte, testCluster-format.PageSize)) {
		t.Errorf("the rest of the cluster is % x", buf[format.PageSize:format.PageSize+4])
	}
	// Zeroes where zeros are take no cluster.
	n := f.v.Allocated()
	if s := f.io(f.v, bdev.OpWriteZeroes, 5*perCluster, perCluster, nil); s != nvme.Success {
		t.Fatal(s)
	}
	if f.v.Allocated() != n {
		t.Errorf("zeroing a hole took %d clusters", f.v.Allocated()-n)
	}
}

// Without the snapshot that ends early its clone would show the snapshots
// below. When there is no room for the zeros that say otherwise the snapshot
// stays, and nothing has changed.
func TestDeleteWantsRoomForZeros(t *testing.T) {
	f := newFamily(t)
	free := f.store.FreeClusters()
	hog, err := f.store.CreateBlob(BlobConfig{Clusters: free - 2, Xattrs: named("hog")})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.s2.Delete(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	if got := f.clusters(f.v); got != cutFamily || f.v.Parent() != f.s2 || f.store.FreeClusters() != 2 {
		t.Errorf("%s, parent %v, %d clusters free", got, f.v.Parent(), f.store.FreeClusters())
	}
	if err := errors.Join(hog.Delete(), f.s2.Delete()); err != nil {
		t.Fatal(err)
	}
	if got := f.clusters(f.v); got != cutFamily || f.v.Parent() != f.s1 {
		t.Errorf("%s, parent %v", got, f.v.Parent())
	}
}

// The same where the lowest parent is outside the store.
func TestZerosBeyondTheEndOfAnExternalClone(t *testing.T) {
	for name, then := range map[string]func(f *family) error{
		"nothing":   func(f *family) error { return nil },
		"inflate":   func(f *family) error { return f.v.Inflate() },
		"decouple":  func(f *family) error { return f.v.Decouple() },
		"delete s2": func(f *family) error { return f.s2.Delete() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testDeviceBytes, func(int) int { return 0 })
			defer func() { w.store.Close() }()
			f := &family{world: w}
			reg := bdev.NewRegistry()
			d, err := malloc.New(malloc.Config{Name: "outside", BlockSize: format.PageSize, Blocks: 6 * perCluster})
			if err != nil {
				t.Fatal(err)
			}
			if err := reg.Register(d); err != nil {
				t.Fatal(err)
			}
			h, err := reg.Open("outside", nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := (&device{h: h}).write(0, bytes.Repeat([]byte{0xaa}, 6*testCluster)); err != nil {
				t.Fatal(err)
			}
			if f.v, err = w.store.CreateBlob(BlobConfig{Clusters: 6, External: []byte("outside"), Xattrs: named("v")}); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.v.SetOutside(h), f.v.Resize(3)); err != nil {
				t.Fatal(err)
			}
			if f.s2, err = f.v.Snapshot(named("s2")); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.v.Resize(8), then(f)); err != nil {
				t.Fatal(err)
			}
			if got := f.clusters(f.v); got != cutFamily {
				t.Errorf("%s, want %s", got, cutFamily)
			}
		})
	}
}
