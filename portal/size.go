package portal

import (
	"github.com/virtual-disk-array/vda/blobstore/format"
)

const (
	// maxSize is the largest array or disk, bytes: 1 PiB.
	maxSize = 1 << 50
	// maxThin is how many times its physical size an array may promise. The
	// metadata of its lvstore is laid out for the physical size.
	maxThin = 64
)

// clusterSizeFor is the cluster size of an lvstore of that many bytes: 1 MiB,
// and 4 MiB from 64 GiB on.
func clusterSizeFor(size uint64) uint64 {
	if size < 64<<30 {
		return 1 << 20
	}
	return 4 << 20
}

// checkSize refuses what is not a positive multiple of the cluster size.
func checkSize(field string, size, cluster uint64) error {
	switch {
	case size == 0:
		return invalid("%s is 0 or missing; the smallest is %d bytes", field, cluster)
	case size > maxSize:
		return invalid("%s is %d bytes; the largest is %d", field, size, uint64(maxSize))
	case size < cluster:
		return invalid("%s is %d bytes, not a multiple of the cluster size %d; the smallest is %d", field, size, cluster, cluster)
	case size%cluster != 0:
		down := size / cluster * cluster
		return invalid("%s is %d bytes, not a multiple of the cluster size %d; the nearest are %d and %d", field, size, cluster, down, down+cluster)
	}
	return nil
}

// vdSize is the size, bytes, that each of n striped vds needs so that the
// array's lvstore has physical/cluster data clusters. raid0 uses whole strips
// of each vd and nothing else.
func vdSize(physical, cluster uint64, st striping) uint64 {
	device := format.DeviceBytes(physical/cluster, cluster)
	n, strip := uint64(st.count), uint64(st.sizeKB)<<10
	each := (device + n - 1) / n
	return (each + strip - 1) / strip * strip
}
