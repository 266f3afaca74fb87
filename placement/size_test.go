package placement

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/module/malloc"
)

// volume reports whether an lvstore on a device of that many bytes has room for
// a volume, thick with a snapshot, or thin.
func volume(t *testing.T, device, cluster, size uint64, thin bool) error {
	t.Helper()
	reg := bdev.NewRegistry()
	defer reg.Close()
	d, err := malloc.New(malloc.Config{Name: "d", BlockSize: 4096, Blocks: device / 4096})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	st, err := lvol.New(lvol.Config{Registry: reg}).CreateStore("d", "s",
		lvol.StoreOpts{ClusterSize: uint32(cluster), MDRatio: format.MDRatio(device, cluster), Clear: lvol.ClearNone})
	if err != nil {
		return err
	}
	v, err := st.CreateVolume(lvol.VolumeOpts{Name: "v", Bytes: size, Thin: thin, Clear: lvol.ClearNone})
	if err == nil && !thin {
		_, err = v.Snapshot("s")
	}
	return err
}

// What is called the smallest comes up, as an array and as a disk that holds a
// vd, and an array has room for a snapshot.
func TestTheSmallestHasRoomForAVolume(t *testing.T) {
	const cluster = 1 << 20
	for clusters := uint64(1); clusters < 40; clusters++ {
		for _, st := range []vda.Striping{{Count: 1, SizeKB: 4}, {Count: 3, SizeKB: 64}} {
			size := clusters * cluster
			if err := vda.CheckSize("da_size", size, cluster); err != nil {
				t.Error(err)
			}
			device := VDSize(size, cluster, st.Count, uint64(st.SizeKB)<<10) * uint64(st.Count)
			if err := volume(t, device, cluster, size, false); err != nil {
				t.Errorf("an array of %d bytes: %v", size, err)
			}
			if err := volume(t, device, cluster, vda.MaxThin*size, true); err != nil {
				t.Errorf("a thin array with %d bytes: %v", size, err)
			}
		}
		if disk := format.DeviceBytes(clusters, cluster); volume(t, disk, cluster, clusters*cluster, false) != nil {
			t.Errorf("a disk of %d bytes has no room for a vd of %d clusters", disk, clusters)
		}
	}
}

// TestVDSize: the lvstore on striped vds of the computed size holds the
// physical size, and a strip less on each vd would not do, or would save less
// than a cluster of the pd.
func TestVDSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint32Range(1, vda.MaxStripeCount).Draw(t, "stripes")
		strip := uint64(4<<10) << rapid.IntRange(0, 8).Draw(t, "strip")
		size := rapid.Uint64Range(1<<20, 1<<42).Draw(t, "size")
		cluster := vda.ClusterSizeFor(size)
		physical := (size + cluster - 1) / cluster * cluster
		vd := VDSize(physical, cluster, n, strip)
		if vd%strip != 0 {
			t.Fatalf("vd of %d bytes with strips of %d", vd, strip)
		}
		if got := format.DataClusters(vd*uint64(n), cluster); got < physical/cluster {
			t.Fatalf("%d clusters for %d", got, physical/cluster)
		}
		if less := format.DataClusters((vd-strip)*uint64(n), cluster); less >= physical/cluster {
			t.Fatalf("a strip less has %d clusters, %d are needed", less, physical/cluster)
		}
	})
}
