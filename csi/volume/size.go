package volume

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/virtual-disk-array/vda"
)

// DefaultSize is that of a volume of which none is said, bytes.
const DefaultSize = 1 << 30

// Size chooses a volume's size: the smallest that there is from required_bytes on. The
// error is vda.InvalidArgument for a range that is none; outside says that the range has
// no size that a volume can have.
func Size(r *csi.CapacityRange) (size uint64, outside bool, err error) {
	required, limit := r.GetRequiredBytes(), r.GetLimitBytes()
	if required < 0 || limit < 0 || limit > 0 && limit < required {
		return 0, false, vda.Errorf(vda.InvalidArgument, "capacity_range: required_bytes is %d and limit_bytes is %d; "+
			"they must not be negative, and the limit not below what is required", required, limit)
	}
	size = uint64(required)
	if size == 0 {
		size = DefaultSize
		if limit > 0 && size > uint64(limit) {
			size = uint64(limit) &^ (1<<20 - 1)
		}
	}
	if size > vda.MaxSize || size == 0 {
		return 0, true, vda.Errorf(vda.InvalidArgument, "capacity_range: no volume is of %d bytes; there are volumes from 1 MiB to 1 PiB",
			required)
	}
	cluster := vda.ClusterSizeFor(size)
	size = (size + cluster - 1) / cluster * cluster
	cluster = vda.ClusterSizeFor(size) // just below 64 GiB the sum may have passed it
	size = (size + cluster - 1) / cluster * cluster
	if limit > 0 && size > uint64(limit) {
		return 0, true, vda.Errorf(vda.InvalidArgument,
			"capacity_range: limit_bytes is %d; sizes are multiples of %d, and the smallest that is enough is %d",
			limit, cluster, size)
	}
	return size, false, nil
}
