package portal

const (
	// maxSize is the largest array or disk, bytes: 1 PiB.
	maxSize = 1 << 50
	// maxThin is how many times its physical size an array may promise. The
	// metadata of its lvstore is laid out for the physical size.
	maxThin = 64
)

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
