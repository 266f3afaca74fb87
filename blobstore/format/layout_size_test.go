package format

import "testing"

// TestDeviceBytes checks the inverse of DataClusters on sizes from one cluster
// to a PiB: enough, and not a cluster more than that.
func TestDeviceBytes(t *testing.T) {
	for _, cluster := range []uint64{1 << 20, 4 << 20} {
		for n := uint64(1); n*cluster <= 1<<50; n = n*3 + 1 {
			size := DeviceBytes(n, cluster)
			if size == 0 || size%cluster != 0 || DataClusters(size, cluster) < n {
				t.Fatalf("%d clusters of %d: device of %d bytes has %d", n, cluster, size, DataClusters(size, cluster))
			}
			if less := DataClusters(size-cluster, cluster); less >= n {
				t.Fatalf("%d clusters of %d: a cluster less has %d", n, cluster, less)
			}
		}
	}
}
