package placement

import "github.com/virtual-disk-array/vda/blobstore/format"

// VDSize is the size, bytes, that each of n striped vds needs so that the
// array's lvstore has physical/cluster data clusters; metadata come on top.
// raid0 uses whole strips (bytes) of each vd and nothing else.
func VDSize(physical, cluster uint64, n uint32, strip uint64) uint64 {
	device := format.DeviceBytes(physical/cluster, cluster)
	each := (device + uint64(n) - 1) / uint64(n)
	return (each + strip - 1) / strip * strip
}

// MostPhysical is the greatest physical size, bytes, that an array can get which was made
// on a device of that many bytes and has so many volumes, snapshots among them; 0 when
// there is none.
func MostPhysical(device, cluster, volumes uint64) uint64 {
	return format.MostClusters(device, cluster, volumes) * cluster
}

// DiskClusters is how many data clusters the lvstore on a disk of size bytes has.
func DiskClusters(size, cluster uint64) uint64 { return format.DataClusters(size, cluster) }

// LeastDisk is the size, bytes, of the smallest disk that has room for a data
// cluster.
func LeastDisk(cluster uint64) uint64 { return format.DeviceBytes(1, cluster) }
