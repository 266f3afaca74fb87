package portal

import (
	"encoding/json"
	"math/bits"
	"path"
	"regexp"
	"strings"
	"unicode"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/placement"
)

// sectorSize is the block size of everything VDA makes, bytes.
const sectorSize = 4096

const listenerForm = `like {"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}`

// parseListener reads a dn's or cn's listener conf.
func parseListener(field, text string) (vda.Listener, error) {
	var l vda.Listener
	o, err := parseObject(field, listenerForm, text)
	if err != nil {
		return l, err
	}
	if err := o.only("trtype", "traddr", "adrfam", "trsvcid"); err != nil {
		return l, err
	}
	for _, v := range []struct {
		key string
		to  *string
	}{{"trtype", &l.TrType}, {"traddr", &l.TrAddr}, {"adrfam", &l.AdrFam}, {"trsvcid", &l.TrSvcID}} {
		if *v.to, err = o.text(v.key); err != nil {
			return l, err
		}
	}
	l.TrType, l.AdrFam = strings.ToLower(l.TrType), strings.ToLower(l.AdrFam)
	if l.TrType != "tcp" {
		return l, invalid("%s: trtype is %q; the only transport is \"tcp\"", field, shorten(l.TrType, 40))
	}
	if l.AdrFam != "ipv4" && l.AdrFam != "ipv6" {
		return l, invalid("%s: adrfam is %q; it must be \"ipv4\" or \"ipv6\"", field, shorten(l.AdrFam, 40))
	}
	if _, l.TrAddr, err = nvme.ParseReachable(l.AdrFam, l.TrAddr); err != nil {
		return l, invalid("%s: %v", field, err)
	}
	if _, err := parsePort(l.TrSvcID); err != nil {
		return l, invalid("%s: trsvcid is %q; it must be a port, \"1\" to \"65535\"", field, shorten(l.TrSvcID, 40))
	}
	return l, nil
}

// listenerJSON is the conf as the tutorial prints it.
func listenerJSON(l vda.Listener) string {
	b, err := json.Marshal(l)
	if err != nil { // four strings
		panic(err)
	}
	return string(b)
}

// Limits of a pd's cluster size, bytes.
const (
	minPDCluster = 1 << 20
	maxPDCluster = 64 << 20
)

var pciAddress = regexp.MustCompile(`^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]$`)

const pdForm = `{"type":"malloc","size":BYTES}, {"type":"aio","filename":"/PATH"} or {"type":"nvme","traddr":"PCI ADDRESS"}`

// parsePDConf checks a pd's conf and returns what the disk is on its dn, for
// which no second pd may be made: "" for one that only the pd itself has.
func parsePDConf(field, text string) (medium string, err error) {
	o, err := parseObject(field, pdForm, text)
	if err != nil {
		return "", err
	}
	kind, err := o.text("type")
	if err != nil {
		return "", err
	}
	cluster, set, err := o.number("cluster_size")
	if err != nil {
		return "", err
	}
	if set && (bits.OnesCount64(cluster) != 1 || cluster < minPDCluster || cluster > maxPDCluster) {
		return "", invalid("%s: cluster_size is %d; it must be a power of two from %d to %d bytes", field, cluster, minPDCluster, maxPDCluster)
	}
	switch kind {
	case "malloc":
		if err := o.only("type", "size", "cluster_size"); err != nil {
			return "", err
		}
		return "", checkPDSize(o, cluster, true)
	case "aio":
		if err := o.only("type", "filename", "size", "cluster_size", "wipe"); err != nil {
			return "", err
		}
		if _, err := o.flag("wipe"); err != nil {
			return "", err
		}
		name, err := o.text("filename")
		if err != nil {
			return "", err
		}
		if !path.IsAbs(name) || path.Clean(name) != name || len(name) > 1024 || strings.ContainsFunc(name, unicode.IsControl) {
			return "", invalid("%s: filename is %q; it must be the absolute path, without . and .. and control characters, of a block device or file on the dn", field, shorten(name, 60))
		}
		return "file " + name, checkPDSize(o, cluster, false)
	case "nvme":
		if err := o.only("type", "traddr", "cluster_size", "wipe"); err != nil {
			return "", err
		}
		if _, err := o.flag("wipe"); err != nil {
			return "", err
		}
		addr, err := o.text("traddr")
		if err != nil {
			return "", err
		}
		if !pciAddress.MatchString(addr) {
			return "", invalid("%s: traddr is %q; it must be a PCI address like 0000:5e:00.0", field, shorten(addr, 40))
		}
		return "nvme device " + strings.ToLower(addr), nil
	}
	return "", invalid("%s: type is %q; it must be \"malloc\", \"aio\" or \"nvme\": %s", field, shorten(kind, 40), pdForm)
}

// checkPDSize checks "size": whole sectors, and room for at least one cluster
// beside the lvstore's own.
func checkPDSize(o *object, cluster uint64, required bool) error {
	size, set, err := o.number("size")
	if err != nil {
		return err
	}
	if !set {
		if required {
			return o.missing("size")
		}
		return nil
	}
	if cluster == 0 {
		cluster = placement.ClusterSize(size)
	}
	least := placement.LeastDisk(cluster)
	switch {
	case size > maxSize:
		return invalid("%s: size is %d bytes; at most %d", o.field, size, uint64(maxSize))
	case size < least || placement.DiskClusters(size, cluster) == 0:
		return invalid("%s: size is %d bytes; with clusters of %d bytes a disk needs at least %d", o.field, size, cluster, least)
	case size%sectorSize != 0:
		return invalid("%s: size is %d bytes, not a multiple of the sector size %d; the nearest are %d and %d",
			o.field, size, sectorSize, size/sectorSize*sectorSize, (size/sectorSize+1)*sectorSize)
	}
	return nil
}

// Limits of an array's striping.
const (
	maxStripeCount  = 64
	minStripeSizeKB = 4
	maxStripeSizeKB = 1024
	maxCntlrCount   = 64 // each has 1000 of NVMe's 65519 controller ids
)

const daForm = `{"stripe_count":N,"stripe_size_kb":K}`

// striping is an array's conf.
type striping struct {
	count  uint32
	sizeKB uint32
}

// parseDAConf reads an array's conf; "" and missing keys give one vd and 64 KiB.
func parseDAConf(field, text string) (striping, error) {
	st := striping{count: 1, sizeKB: 64}
	if text == "" {
		return st, nil
	}
	o, err := parseObject(field, daForm, text)
	if err != nil {
		return st, err
	}
	if err := o.only("stripe_count", "stripe_size_kb"); err != nil {
		return st, err
	}
	n, set, err := o.number("stripe_count")
	if err != nil {
		return st, err
	}
	if set {
		if n < 1 || n > maxStripeCount {
			return st, invalid("%s: stripe_count is %d; it must be 1 to %d", field, n, maxStripeCount)
		}
		st.count = uint32(n)
	}
	kb, set, err := o.number("stripe_size_kb")
	if err != nil {
		return st, err
	}
	if set {
		if bits.OnesCount64(kb) != 1 || kb < minStripeSizeKB || kb > maxStripeSizeKB {
			return st, invalid("%s: stripe_size_kb is %d; it must be a power of two from %d to %d", field, kb, minStripeSizeKB, maxStripeSizeKB)
		}
		st.sizeKB = uint32(kb)
	}
	return st, nil
}
