package vda

import (
	"math/bits"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// PDConf is a pd's conf: what the disk is.
type PDConf struct {
	Type        string `json:"type"`         // malloc, aio, nvme
	Size        uint64 `json:"size"`         // bytes; malloc, and aio files that are to be made
	Filename    string `json:"filename"`     // aio: file or block device
	TrAddr      string `json:"traddr"`       // nvme: PCI address
	ClusterSize uint64 `json:"cluster_size"` // bytes; 0: by the disk's size
	Wipe        bool   `json:"wipe"`         // aio, nvme: what has been shown to be on the disk may go
	// VolatileCache is "accepted" when the disk may lose acknowledged writes at a power cut:
	// aio and nvme, on a data plane that passes no flush on.
	VolatileCache string `json:"volatile_cache"`
	Lost          bool   `json:"lost"` // of a tombstone: the disk is lost, nothing on it is waited for

	Sized bool `json:"-"` // Size was given
}

// CacheAccepted is the VolatileCache of a pd whose user knows of it.
const CacheAccepted = "accepted"

// Limits of a pd's cluster size, bytes.
const (
	minPDCluster = 1 << 20
	maxPDCluster = 64 << 20
)

var pciAddress = regexp.MustCompile(`^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]$`)

const pdForm = `{"type":"malloc","size":BYTES}, {"type":"aio","filename":"/PATH"} or {"type":"nvme","traddr":"PCI ADDRESS"}`

// ParsePDConf reads the conf of a pd that a user wants. What a Size may be follows
// from the lvstore's layout, which is not looked at here.
func ParsePDConf(field, text string) (PDConf, error) {
	var c PDConf
	o, err := parseObject(field, pdForm, text)
	if err != nil {
		return c, err
	}
	if c.Type, err = o.text("type"); err != nil {
		return c, err
	}
	cluster, set, err := o.number("cluster_size")
	if err != nil {
		return c, err
	}
	if set && (bits.OnesCount64(cluster) != 1 || cluster < minPDCluster || cluster > maxPDCluster) {
		return c, invalid("%s: cluster_size is %d; it must be a power of two from %d to %d bytes", field, cluster, minPDCluster, maxPDCluster)
	}
	c.ClusterSize = cluster
	switch c.Type {
	case "malloc":
		return c, c.malloc(o)
	case "aio":
		return c, c.aio(o)
	case "nvme":
		return c, c.nvme(o)
	}
	return c, invalid("%s: type is %q; it must be \"malloc\", \"aio\" or \"nvme\": %s", field, Shorten(c.Type, 40), pdForm)
}

func (c *PDConf) malloc(o *object) (err error) {
	if err := o.only("type", "size", "cluster_size"); err != nil {
		return err
	}
	if c.Size, c.Sized, err = o.number("size"); err == nil && !c.Sized {
		err = o.missing("size")
	}
	return err
}

func (c *PDConf) aio(o *object) (err error) {
	if err := o.only("type", "filename", "size", "cluster_size", "wipe", "volatile_cache"); err != nil {
		return err
	}
	if err := c.accepted(o); err != nil {
		return err
	}
	if c.Wipe, err = o.flag("wipe"); err != nil {
		return err
	}
	if c.Filename, err = o.text("filename"); err != nil {
		return err
	}
	if name := c.Filename; !path.IsAbs(name) || path.Clean(name) != name || len(name) > 1024 || strings.ContainsFunc(name, unicode.IsControl) {
		return invalid("%s: filename is %q; it must be the absolute path, without . and .. and control characters, "+
			"of a block device or file on the dn", o.field, Shorten(name, 60))
	}
	c.Size, c.Sized, err = o.number("size")
	return err
}

func (c *PDConf) nvme(o *object) (err error) {
	if err := o.only("type", "traddr", "cluster_size", "wipe", "volatile_cache"); err != nil {
		return err
	}
	if err := c.accepted(o); err != nil {
		return err
	}
	if c.Wipe, err = o.flag("wipe"); err != nil {
		return err
	}
	if c.TrAddr, err = o.text("traddr"); err != nil {
		return err
	}
	if !pciAddress.MatchString(c.TrAddr) {
		return invalid("%s: traddr is %q; it must be a PCI address like 0000:5e:00.0", o.field, Shorten(c.TrAddr, 40))
	}
	return nil
}

func (c *PDConf) accepted(o *object) (err error) {
	if _, has := o.vals["volatile_cache"]; !has {
		return nil
	}
	if c.VolatileCache, err = o.text("volatile_cache"); err != nil {
		return err
	}
	if c.VolatileCache != CacheAccepted {
		return invalid("%s: volatile_cache is %q; it must be %q", o.field, Shorten(c.VolatileCache, 40), CacheAccepted)
	}
	return nil
}

// Medium is what the disk is on its dn, for which no second pd may be made: "" for
// one that only the pd itself has.
func (c *PDConf) Medium() string {
	switch c.Type {
	case "aio":
		return "file " + c.Filename
	case "nvme":
		return "nvme device " + strings.ToLower(c.TrAddr)
	}
	return ""
}

// Cluster is the cluster size, bytes, of the lvstore on a disk of so many bytes.
func (c *PDConf) Cluster(size uint64) uint64 {
	if c.ClusterSize != 0 {
		return c.ClusterSize
	}
	return ClusterSizeFor(size)
}
