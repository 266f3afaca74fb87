package format

import (
	"testing"

	"pgregory.net/rapid"
)

func TestLayoutByHand(t *testing.T) {
	// 1 GiB in 1 MiB clusters: 1024 metadata pages after a super block and
	// three masks of one page, 1028 pages in 5 clusters.
	l, err := NewLayout(1<<30, 1<<20, 1024, PageSize)
	if err != nil {
		t.Fatal(err)
	}
	want := Layout{DeviceBytes: 1 << 30, ClusterSize: 1 << 20, PageBytes: 4096, PageMaskStart: 1, PageMaskLen: 1,
		ClusterMaskStart: 2, ClusterMaskLen: 1,
		BlobidMaskStart: 3, BlobidMaskLen: 1, MDStart: 4, MDLen: 1024, Total: 1024, Meta: 5}
	if l != want {
		t.Errorf("got %+v, want %+v", l, want)
	}
	if n := DataClusters(1<<30, 1<<20); n != 1019 {
		t.Errorf("%d data clusters, want 1019", n)
	}
	if n := DeviceBytes(1019, 1<<20); n != 1<<30 {
		t.Errorf("%d bytes for 1019 clusters, want %d", n, 1<<30)
	}
}

// TestDeviceBytesIsTheLeast: the size it gives has the clusters, one cluster
// less does not.
func TestDeviceBytesIsTheLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cluster := uint64(PageSize) << rapid.IntRange(3, 12).Draw(t, "cluster")
		n := rapid.Uint64Range(1, 1<<24).Draw(t, "clusters")
		bytes := DeviceBytes(n, cluster)
		if got := DataClusters(bytes, cluster); got < n {
			t.Fatalf("%d bytes have %d clusters, want %d", bytes, got, n)
		}
		if got := DataClusters(bytes-cluster, cluster); got >= n {
			t.Fatalf("%d bytes have %d clusters already, want of %d", bytes-cluster, got, n)
		}
	})
}

func TestNoLayout(t *testing.T) {
	for _, c := range []struct{ bytes, cluster uint64 }{{0, 1 << 20}, {1 << 20, 0}, {1 << 20, 4097}, {4 << 20, 8 << 20},
		{4096, 4096}, {1 << 62, 4096}} {
		if n := DataClusters(c.bytes, c.cluster); n != 0 {
			t.Errorf("%d bytes in clusters of %d: %d data clusters", c.bytes, c.cluster, n)
		}
	}
	if n := DeviceBytes(1<<40, 1<<20); n != 0 {
		t.Errorf("2^40 clusters in %d bytes", n)
	}
}
