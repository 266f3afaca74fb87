package vda

const (
	// SectorSize is the block size of everything VDA makes, bytes.
	SectorSize = 4096
	// MaxSize is the largest array or disk, bytes: 1 PiB.
	MaxSize = 1 << 50
	// MaxThin is how many times its physical size an array may promise. The
	// metadata of its lvstore is laid out for the physical size.
	MaxThin = 64
)

// ClusterSizeFor is the cluster size of an lvstore of that many bytes: 1 MiB,
// and 4 MiB from 64 GiB on.
func ClusterSizeFor(size uint64) uint64 {
	if size < 64<<30 {
		return 1 << 20
	}
	return 4 << 20
}

// CheckSize refuses what is not a positive multiple of the cluster size.
func CheckSize(field string, size, cluster uint64) error {
	switch {
	case size == 0:
		return invalid("%s is 0 or missing; the smallest is %d bytes", field, cluster)
	case size > MaxSize:
		return invalid("%s is %d bytes; the largest is %d", field, size, uint64(MaxSize))
	case size < cluster:
		return invalid("%s is %d bytes, not a multiple of the cluster size %d; the smallest is %d", field, size, cluster, cluster)
	case size%cluster != 0:
		down := size / cluster * cluster
		return invalid("%s is %d bytes, not a multiple of the cluster size %d; the nearest are %d and %d",
			field, size, cluster, down, down+cluster)
	}
	return nil
}
