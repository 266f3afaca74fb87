package format

import "testing"

// TestMostClusters: an lvstore grows until its mask of used clusters, or the pages for the
// lists of its volumes' clusters, are full, and never to less than it has.
func TestMostClusters(t *testing.T) {
	const mib = 1 << 20
	for _, row := range []struct{ data, cluster, blobs, want uint64 }{
		{4 * mib, mib, 1, 8704 * mib}, {4 * mib, mib, 2, 3584 * mib}, {4 * mib, mib, 11, 4 * mib},
		{1024 * mib, mib, 1, 32723 * mib}, {1024 * mib, mib, 11, 32723 * mib},
		{1 << 36, 4 * mib, 1, 130844 * mib}, {1 << 40, 4 * mib, 200, 1178460 * mib},
	} {
		device := DeviceBytes(row.data/row.cluster, row.cluster)
		most := MostClusters(device, row.cluster, row.blobs)
		if most*row.cluster != row.want {
			t.Errorf("made with %d bytes, %d blobs: %d bytes at most, want %d", row.data, row.blobs, most*row.cluster, row.want)
		}
		ratio := MDRatio(device, row.cluster)
		if ratio == 0 {
			ratio = DefaultMDRatio
		}
		l, err := NewLayout(device, uint32(row.cluster), MDPages(device/row.cluster, ratio), PageSize)
		if err != nil {
			t.Fatal(err)
		}
		room := uint64(l.BlobidMaskStart - l.ClusterMaskStart)
		if l.MaskPages(most+l.Meta) > room {
			t.Errorf("made with %d bytes: %d clusters need a mask of %d pages, there is room for %d", row.data, most, l.MaskPages(most+l.Meta), room)
		}
		if lists := ExtentTableLen(most) * row.blobs; most > l.Data() && lists+2*row.blobs+1 > uint64(l.MDLen) {
			t.Errorf("made with %d bytes: %d blobs of %d clusters need %d pages for lists, of %d", row.data, row.blobs, most, lists, l.MDLen)
		}
	}
	if n := MostClusters(4096, mib, 1); n != 0 {
		t.Errorf("a device that is too small: %d", n)
	}
}
