package blobstore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

const (
	usedClusters  = 40 // that hold what a deleted blob has left
	grownClusters = usedClusters + 20
)

// newUsed is a world whose lowest free clusters hold another's data, and a
// thick blob v of two clusters of 0x11.
func newUsed(t *testing.T) *family {
	f := &family{world: newWorld(t, testDeviceBytes, func(int) int { return 0 })}
	var err error
	if f.v, err = f.store.CreateBlob(BlobConfig{Clusters: 2, Xattrs: named("v")}); err != nil {
		t.Fatal(err)
	}
	f.fill(f.v, 0, 2, 0x11)
	old, err := f.store.CreateBlob(BlobConfig{Clusters: usedClusters, Clear: format.ClearNone})
	if err != nil {
		t.Fatal(err)
	}
	f.fill(old, 0, usedClusters, 0xaa)
	if err := errors.Join(f.store.dev.flush(), old.Delete()); err != nil {
		t.Fatal(err)
	}
	return f
}

// small and grown are what v holds.
var (
	small = strings.Repeat("11 ", 2)
	grown = small + strings.Repeat("00 ", grownClusters-2)
)

// TestGrownThickBlobIsZeros: what a thick blob gets shows nothing of its former
// owner, at no power cut either, which leaves the old length or the new one.
func TestGrownThickBlobIsZeros(t *testing.T) {
	seen := map[string]int{}
	for cut := 0; ; cut++ {
		f := newUsed(t)
		f.dev.cutAt = f.dev.writes + 1 + cut
		err := f.v.Resize(grownClusters)
		if !f.dev.dead {
			if err != nil {
				t.Fatal(err)
			}
			if got := f.clusters(f.v); got != grown {
				t.Errorf("grown, the blob holds %s", got)
			}
			f.checkDisk()
			f.store.Close()
			break
		}
		f.store.Close()
		for seed := range uint64(2) {
			f.dev = f.dev.restart(rand.New(rand.NewPCG(seed, uint64(cut))))
			f.base = openDevice(t, f.dev)
			if err := f.load(); err != nil {
				t.Fatalf("cut %d: %v", cut, err)
			}
			got := f.clusters(f.blob("v"))
			seen[got]++
			if got != small && got != grown {
				t.Errorf("cut %d: the blob holds %s", cut, got)
			}
			f.firstChange()
			f.checkDisk()
			f.store.Close()
		}
	}
	if seen[small] == 0 {
		t.Errorf("no cut was before the end: %v", seen)
	}
}

// slowZeroes is a disk that takes its time over Write Zeroes.
type slowZeroes struct {
	*crashDevice
	came chan struct{} // gets one for each
	goOn chan struct{} // closed: they are done
}

func (d *slowZeroes) Submit(r *bdev.Request, b *bdev.Batch) {
	if r.Op != bdev.OpWriteZeroes {
		d.crashDevice.Submit(r, b)
		return
	}
	d.came <- struct{}{}
	go func() {
		<-d.goOn
		var own bdev.Batch
		d.crashDevice.Submit(r, &own)
		own.Flush()
	}()
}

// slowed is newUsed on a disk that is slow from here on.
func slowed(t *testing.T) (*family, *slowZeroes) {
	f := newUsed(t)
	if _, err := f.store.CreateBlob(BlobConfig{Clusters: 8, Thin: true, Xattrs: named("thin")}); err != nil {
		t.Fatal(err)
	}
	d := &slowZeroes{f.dev, make(chan struct{}, grownClusters), make(chan struct{})}
	reg := bdev.NewRegistry()
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("crash", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.store.dev.h = h
	return f, d
}

// TestGrowingHoldsNothingUp: while new clusters are zeroed the blob and others
// take I/O, and clusters, but no second operation.
func TestGrowingHoldsNothingUp(t *testing.T) {
	f, d := slowed(t)
	defer func() { f.store.Close() }()
	done := make(chan error, 1)
	go func() { done <- f.v.Resize(grownClusters) }()
	<-d.came
	f.fill(f.v, 1, 1, 0x22)
	f.fill(f.blob("thin"), 0, 8, 0x33) // of which none was another's
	if got, want := f.clusters(f.v), "11 22 "; got != want {
		t.Errorf("while it grows the blob holds %s, want %s", got, want)
	}
	_, snap := f.v.Snapshot(named("s"))
	for what, err := range map[string]error{"snapshot": snap, "delete": f.v.Delete(), "resize": f.v.Resize(1)} {
		if !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%s while it grows: %v", what, err)
		}
	}
	close(d.goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, want := f.clusters(f.v), strings.Replace(grown, "11 11", "11 22", 1); got != want {
		t.Errorf("grown, the blob holds %s, want %s", got, want)
	}
	f.checkDisk()
}

// TestCloseWhileGrowing: a store that is unloaded meanwhile waits until nothing
// is written to clusters that may be another's soon, and loses none.
func TestCloseWhileGrowing(t *testing.T) {
	f, d := slowed(t)
	grow, unload := make(chan error, 1), make(chan error, 1)
	go func() { grow <- f.v.Resize(grownClusters) }()
	<-d.came
	go func() { unload <- f.store.Unload() }()
	for !f.store.closed.Load() {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-unload:
		t.Fatalf("unloaded while clusters are zeroed: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	close(d.goOn)
	if err := <-grow; !errors.Is(err, ErrClosed) {
		t.Errorf("the growth: %v", err)
	}
	if err := <-unload; err != nil {
		t.Fatal(err)
	}
	if err := f.load(); err != nil {
		t.Fatal(err)
	}
	defer f.store.Close()
	if got := f.clusters(f.blob("v")); got != small {
		t.Errorf("the blob holds %s", got)
	}
	f.checkDisk()
}

// TestFailedGrowthGivesBack: what cannot be zeroed is not shown and not lost.
func TestFailedGrowthGivesBack(t *testing.T) {
	f := newUsed(t)
	defer func() { f.store.Close() }()
	free := f.store.FreeClusters()
	f.dev.failAt = f.dev.writes + 1
	if err := f.v.Resize(grownClusters); !errors.Is(err, syscall.EIO) {
		t.Errorf("with a failing disk: %v", err)
	}
	if got := f.clusters(f.v); got != small || f.store.FreeClusters() != free {
		t.Errorf("the blob holds %s, %d clusters are free of %d", got, f.store.FreeClusters(), free)
	}
	if err := f.v.Resize(grownClusters); err != nil {
		t.Fatal(err)
	}
	if got := f.clusters(f.v); got != grown {
		t.Errorf("at the second attempt the blob holds %s", got)
	}
	f.checkDisk()
	buf := bytes.Repeat([]byte{0x44}, testCluster)
	if s := f.io(f.v, bdev.OpWrite, (grownClusters-1)*perCluster, perCluster, buf); s != nvme.Success {
		t.Error(s)
	}
}
