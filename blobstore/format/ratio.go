package format

// A store of fewer than tinyClusters gets tinyMDRatio.
const (
	tinyClusters = 16
	tinyMDRatio  = 400
)

// MDRatio is the number of metadata pages for each 100 clusters that an lvstore
// on a device of deviceBytes should be made with; 0 is the default. A volume
// needs two pages, one for its root and one for the list of its clusters, a
// snapshot as many, and the super blob one, so that with a page for each cluster
// the smallest devices have clusters in which no volume can be made. Four for
// each cost a small device nothing: they fit into the cluster that is the
// metadata's in any case.
func MDRatio(deviceBytes, clusterSize uint64) uint32 {
	if deviceBytes/clusterSize < tinyClusters {
		return tinyMDRatio
	}
	return 0
}
