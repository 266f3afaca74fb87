package dn

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const (
	blockSize = 4096 // bytes; of everything VDA makes

	smallCluster = 1 << 20
	largeCluster = 4 << 20
	largeDisk    = 64 << 30 // bytes from which a pd has large clusters
)

// conf is a pd's conf: what the disk is.
type conf struct {
	Type        string `json:"type"`         // malloc, aio, nvme
	Size        uint64 `json:"size"`         // bytes; malloc, and aio files that are to be made
	Filename    string `json:"filename"`     // aio: file or block device
	TrAddr      string `json:"traddr"`       // nvme: PCI address
	ClusterSize uint64 `json:"cluster_size"` // bytes; 0: by the disk's size
	Wipe        bool   `json:"wipe"`         // aio, nvme: what has been shown to be on the disk may go
	Lost        bool   `json:"lost"`         // of a tombstone: the disk is lost, nothing on it is waited for
}

func parseConf(text string) (conf, error) {
	var c conf
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%q is not a pd conf: %w", text, err)
	}
	switch {
	case c.Size%blockSize != 0:
		return c, fmt.Errorf("size %d must be a multiple of %d", c.Size, blockSize)
	case c.ClusterSize != 0 && (c.ClusterSize&(c.ClusterSize-1) != 0 || c.ClusterSize < smallCluster || c.ClusterSize > 1<<30):
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
func (c *conf) cluster(size uint64) uint32 {
	switch {
	case c.ClusterSize != 0:
		return uint32(c.ClusterSize)
	case size < largeDisk:
		return smallCluster
	}
	return largeCluster
}
