package volume

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/virtual-disk-array/vda"
)

// Class is what a StorageClass says of its volumes.
type Class struct {
	Portals       string // "" for the driver's own
	CntlrCnt      uint32
	Redundancy    string
	StripeCount   uint32
	StripeSizeKB  uint32
	PhysicalRatio uint64 // percent of a volume's size that is bought
	Strict        bool
	Limits        vda.Limits

	MkfsOptions []string
	NVMe        NVMe
}

// NVMe is how hosts treat their connections.
type NVMe struct {
	CtrlLossTmo    int // seconds until a lost controller is given up; -1: never
	ReconnectDelay int // seconds
	KeepAliveTmo   int // seconds
	NrIOQueues     int // per controller; 0: the kernel's choice
	Auth           Auth
}

// defaults are what docs/failover.md advises.
func defaults() Class {
	return Class{CntlrCnt: 2, Redundancy: "none", StripeCount: 1, StripeSizeKB: 64, PhysicalRatio: 100,
		NVMe: NVMe{CtrlLossTmo: -1, ReconnectDelay: 1, KeepAliveTmo: 2, Auth: NoAuth}}
}

// key is one that a StorageClass may have.
type key struct {
	want string // of its values, in errors
	set  func(c *Class, value string) bool
}

// The keys of limits, which a VolumeAttributesClass may have, too.
var limitKeys = map[string]func(*vda.Limits) *uint64{
	"rwIosPerSec":    func(l *vda.Limits) *uint64 { return &l.RWIOs },
	"rwMbytesPerSec": func(l *vda.Limits) *uint64 { return &l.RWMB },
	"rMbytesPerSec":  func(l *vda.Limits) *uint64 { return &l.RMB },
	"wMbytesPerSec":  func(l *vda.Limits) *uint64 { return &l.WMB },
}

var keys = map[string]key{
	"portals": {"host:port of portals, with commas between several, like 192.168.0.11:9520,192.168.0.12:9520", func(c *Class, v string) bool {
		c.Portals = v
		for p := range strings.SplitSeq(v, ",") {
			host, port, err := net.SplitHostPort(p)
			if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" || strings.ContainsAny(host, "/@") {
				return false
			}
		}
		return true
	}},
	"cntlrCnt": {fmt.Sprintf("a number of controllers, 1 to %d", vda.MaxCntlrCount), func(c *Class, v string) bool {
		return number(v, 1, vda.MaxCntlrCount, &c.CntlrCnt)
	}},
	"redundancy": {"none, mirror:2 or mirror:3", func(c *Class, v string) bool {
		_, err := vda.ParseRedundancy("redundancy", v)
		c.Redundancy = v
		return err == nil && v != ""
	}},
	"stripeCount":  {"a number of disks, 1 or more", func(c *Class, v string) bool { return number(v, 1, 1<<16, &c.StripeCount) }},
	"stripeSizeKb": {"a number of KiB, a power of 2 from 4", func(c *Class, v string) bool { return number(v, 4, 1<<20, &c.StripeSizeKB) }},
	"physicalRatio": {"the percentage of a volume's size that is bought, 2 to 1000; above 100 leaves room for what snapshots keep",
		func(c *Class, v string) bool { return number(v, leastRatio, mostRatio, &c.PhysicalRatio) }},
	"strict": {"true or false", func(c *Class, v string) bool {
		c.Strict = v == "true"
		return v == "true" || v == "false"
	}},
	"mkfsOptions": {"options of mkfs with spaces between them, without quotes", func(c *Class, v string) bool {
		c.MkfsOptions = strings.Fields(v)
		return !strings.ContainsAny(v, "\"'\\\x00\n")
	}},
	"nvmeCtrlLossTmo": {"seconds, 1 or more, or -1 for never, which we advise", func(c *Class, v string) bool {
		return v == "-1" || number(v, 1, 1<<30, &c.NVMe.CtrlLossTmo)
	}},
	"nvmeReconnectDelay": {"seconds, 1 to 60", func(c *Class, v string) bool { return number(v, 1, 60, &c.NVMe.ReconnectDelay) }},
	"nvmeKeepAliveTmo":   {"seconds, 1 to 60", func(c *Class, v string) bool { return number(v, 1, 60, &c.NVMe.KeepAliveTmo) }},
	"dhchap": {"none, host or mutual", func(c *Class, v string) bool {
		c.NVMe.Auth = Auth(v)
		return slices.Contains(auths, c.NVMe.Auth)
	}},
	"nvmeNrIoQueues": {"a number of queues, 1 to 128", func(c *Class, v string) bool { return number(v, 1, 128, &c.NVMe.NrIOQueues) }},
}

// ours are the sidecars' own keys, which say for whom a volume is.
var ours = []string{"csi.storage.k8s.io/pvc/name", "csi.storage.k8s.io/pvc/namespace", "csi.storage.k8s.io/pv/name"}

// ParseClass reads the parameters of a StorageClass. The error names the key, its value
// and what would be right.
func ParseClass(parameters map[string]string) (Class, error) {
	c := defaults()
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		value := parameters[name]
		if limit, is := limitKeys[name]; is {
			if err := parseLimit(name, value, limit(&c.Limits)); err != nil {
				return c, err
			}
			continue
		}
		k, known := keys[name]
		switch {
		case slices.Contains(ours, name):
		case !known:
			return c, unknown("StorageClass parameter", name, value, slices.Concat(slices.Collect(maps.Keys(keys)),
				slices.Collect(maps.Keys(limitKeys))))
		case !k.set(&c, value):
			return c, vda.Errorf(vda.InvalidArgument, "StorageClass parameter %s is %q; it must be %s", name, vda.Shorten(value, 80), k.want)
		}
	}
	return c, nil
}

// ParseMutable reads the parameters of a VolumeAttributesClass, the limits, over what was
// before; given are those that it names.
func ParseMutable(parameters map[string]string, before vda.Limits) (now vda.Limits, given []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		limit, is := limitKeys[name]
		if !is {
			return before, nil, unknown("VolumeAttributesClass parameter", name, parameters[name], slices.Collect(maps.Keys(limitKeys)))
		}
		if err := parseLimit(name, parameters[name], limit(&before)); err != nil {
			return before, nil, err
		}
		given = append(given, name)
	}
	return before, given, nil
}

func parseLimit(name, value string, to *uint64) error {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return vda.Errorf(vda.InvalidArgument, "parameter %s is %q; it must be a number, or 0 for no limit", name, vda.Shorten(value, 80))
	}
	*to = n
	return nil
}

func unknown(what, name, value string, known []string) error {
	slices.Sort(known)
	return vda.Errorf(vda.InvalidArgument, "%s %s (%q) is not known; there are: %s", what, vda.Shorten(name, 80), vda.Shorten(value, 40),
		strings.Join(known, ", "))
}

// number reads a whole number within bounds.
func number[T ~int | ~uint32 | ~uint64](value string, least, most T, to *T) bool {
	n, err := strconv.ParseUint(value, 10, 62)
	*to = T(n)
	return err == nil && n >= uint64(least) && n <= uint64(most) && value[0] != '+'
}

// DAConf is the striping as portals take it.
func (c *Class) DAConf() string {
	return fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":%d}`, c.StripeCount, c.StripeSizeKB)
}

// Physical is how much of a volume of size bytes is bought, in clusters.
func (c *Class) Physical(size uint64) uint64 { return physical(size, c.PhysicalRatio) }

func physical(size, ratio uint64) uint64 {
	cluster := vda.ClusterSizeFor(size)
	clusters := size / cluster
	return max((clusters*ratio+99)/100, 1) * cluster
}

// Ratio is the value of RatioLabel.
func (c *Class) Ratio() string { return fmt.Sprint(c.PhysicalRatio) }

// PhysicalBy is Physical by the value of RatioLabel; ok is false when it is none, as of a
// volume that was made before there was such a label.
func PhysicalBy(label string, size uint64) (bytes uint64, ok bool) {
	var ratio uint64
	if !number(label, leastRatio, mostRatio, &ratio) {
		return 0, false
	}
	return physical(size, ratio), true
}

// What physicalRatio may be.
const leastRatio, mostRatio = 2, 1000

// Request is a hash of what a volume was asked to be, but for its size and what can be
// changed later; source is the id of what it is a copy of.
func (c Class) Request(name, source string) string {
	c.Limits, c.MkfsOptions, c.NVMe = vda.Limits{}, nil, NVMe{}
	b, err := json.Marshal(c)
	if err != nil { // numbers and texts
		panic(err)
	}
	return Hash(name, source, string(b))
}
