package portal

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
)

// parsePDConf checks a pd's conf and returns what the disk is on its dn, for
// which no second pd may be made: "" for one that only the pd itself has.
func parsePDConf(field, text string) (medium string, err error) {
	c, err := vda.ParsePDConf(field, text)
	if err == nil {
		err = checkPDSize(field, &c)
	}
	if err != nil {
		return "", err
	}
	return c.Medium(), nil
}

// checkPDSize checks "size": whole sectors, and room for at least one cluster
// beside the lvstore's own.
func checkPDSize(field string, c *vda.PDConf) error {
	if !c.Sized {
		return nil
	}
	size, cluster := c.Size, c.Cluster(c.Size)
	least := placement.LeastDisk(cluster)
	switch {
	case size > vda.MaxSize:
		return invalid("%s: size is %d bytes; at most %d", field, size, uint64(vda.MaxSize))
	case size < least || placement.DiskClusters(size, cluster) == 0:
		return invalid("%s: size is %d bytes; with clusters of %d bytes a disk needs at least %d", field, size, cluster, least)
	case size%vda.SectorSize != 0:
		return invalid("%s: size is %d bytes, not a multiple of the sector size %d; the nearest are %d and %d",
			field, size, vda.SectorSize, size/vda.SectorSize*vda.SectorSize, (size/vda.SectorSize+1)*vda.SectorSize)
	}
	return nil
}
