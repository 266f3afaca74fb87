package dn

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// conf is a pd's conf.
type conf struct{ vda.PDConf }

// maxCluster is the largest cluster of an lvstore, bytes.
const maxCluster = 1 << 30

func parseConf(text string) (conf, error) {
	var c conf
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c.PDConf); err != nil {
		if _, why := vda.ParsePDConf("conf_json", text); why != nil {
			return c, why
		}
		return c, fmt.Errorf("conf_json %q is not a pd conf: %s", vda.Shorten(text, 80), reason.Of(err))
	}
	switch {
	case c.Size%vda.SectorSize != 0:
		return c, fmt.Errorf("size %d must be a multiple of %d", c.Size, vda.SectorSize)
	case c.ClusterSize != 0 && (c.ClusterSize&(c.ClusterSize-1) != 0 || c.ClusterSize < 1<<20 || c.ClusterSize > maxCluster):
		return c, fmt.Errorf("cluster_size %d must be a power of two from 1 MiB to 1 GiB", c.ClusterSize)
	case c.Type == "malloc" && c.Size == 0:
		return c, errors.New("a malloc pd needs a size")
	case c.Type == "aio" && !strings.HasPrefix(c.Filename, "/"):
		return c, fmt.Errorf("filename %q of an aio pd must be an absolute path", c.Filename)
	case c.Type == "nvme" && c.TrAddr == "":
		return c, errors.New("an nvme pd needs the PCI address as traddr")
	case c.Type != "malloc" && c.Type != "aio" && c.Type != "nvme":
		return c, fmt.Errorf(`type %q must be "malloc", "aio" or "nvme"`, c.Type)
	}
	return c, nil
}

// cluster returns the lvstore's cluster size for a disk of so many bytes.
func (c *conf) cluster(size uint64) uint32 { return uint32(c.Cluster(size)) }
