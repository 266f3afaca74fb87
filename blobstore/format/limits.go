package format

// MostClusters is up to how many data clusters the lvstore that was made on a device of
// deviceBytes can grow, with blobs for one volume of as many clusters and for others that
// are equally long: what the metadata that were laid out then can tell of. 0 when there
// is no such lvstore.
func MostClusters(deviceBytes, clusterSize, blobs uint64) uint64 {
	if clusterSize == 0 || deviceBytes < clusterSize {
		return 0
	}
	ratio := MDRatio(deviceBytes, clusterSize)
	if ratio == 0 {
		ratio = DefaultMDRatio
	}
	pages := MDPages(deviceBytes/clusterSize, ratio)
	l, err := NewLayout(deviceBytes, uint32(clusterSize), pages, PageSize)
	if err != nil {
		return 0
	}
	// The mask of used clusters has the pages up to the next region.
	room := uint64(l.BlobidMaskStart-l.ClusterMaskStart) * uint64(l.PageBytes)
	most := min((room-maskHeader)*8, 1<<32-1) - l.Meta
	// A blob has a page for its root, perhaps another one, and one per list of its
	// clusters; the super blob has one.
	each := (pages - 1) / max(blobs, 1)
	if each <= 2 {
		return min(most, l.Data())
	}
	return max(min(most, (each-2)*ExtentsPerPage), l.Data())
}
