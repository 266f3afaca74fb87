package vda

// PD is a physical disk of a disk node: one bdev with an lvstore on it.
type PD struct {
	ID     string
	DNID   string
	Name   string
	Conf   string // JSON as the user gave it
	Online bool

	ClusterSize   uint64 // bytes; 0 until the disk is formatted
	TotalClusters uint64
	FreeClusters  uint64 // not promised to any vd
	VDCount       uint32
	Drain         bool // all vds are to leave it
	// OrphanClusters are in use on the disk and no vd accounts for them; not
	// part of FreeClusters.
	OrphanClusters uint64
	WriteCache     WriteCache

	Version uint64
	Deleted bool
	Health  Health
}

// WriteCache is what a power cut, at its dn, does to writes to a pd that were acknowledged.
type WriteCache string

// What a dn says of a pd's disk; "" is not known.
const (
	CacheNone       WriteCache = "none"        // it keeps them
	CacheFlushed    WriteCache = "flushed"     // it may lose those that were not flushed
	CacheNotFlushed WriteCache = "not flushed" // it may lose those that were flushed, too: its data plane passes no flush on
	CacheMemory     WriteCache = "memory"      // it loses everything, also at the end of the data plane
)

// Volatile reports that the disk needs flushes for what is on it to outlive a power cut.
func (c WriteCache) Volatile() bool { return c == CacheFlushed || c == CacheNotFlushed }

// Unflushed reports that a power cut may lose what was flushed to the pd, and that who made it has not
// said that he knows.
func (p *PD) Unflushed() bool {
	if p.WriteCache != CacheNotFlushed {
		return false
	}
	c, err := ParsePDConf("", p.Conf)
	return err != nil || c.VolatileCache != CacheAccepted
}

// Used returns what FreeClusters and OrphanClusters are when so many clusters are in use on
// the disk.
func (p *PD) Used(clusters uint64) (free, orphans uint64) {
	taken := p.TotalClusters - p.FreeClusters - p.OrphanClusters // by vds
	orphans = min(clusters, p.TotalClusters) - min(clusters, taken)
	return p.TotalClusters - taken - orphans, orphans
}

// NoSpace begins what a dn says of an object for which there is no space below
// its pd, though there was by the pd's own count.
const NoSpace = "no space: "

// DataLost begins what a dn says of a vd whose data is not on its pd any more, and
// does not come back.
const DataLost = "its data is lost: "

// VD is a virtual disk: an lvol of a pd, exported to one controller.
type VD struct {
	ID       string // also the namespace UUID
	DAID     string
	GrpIdx   uint32
	Idx      uint32 // place in the group's stripe; the legs of a mirror have one
	PDID     string
	DNID     string
	Clusters uint64 // of the pd
	Size     uint64 // bytes, Clusters × the pd's cluster size

	// Of a leg of a mirror.
	MirrorID string // its column
	Role     LegRole
	Leaving  bool   // it is deleted when its column has all its members without it
	Moved    bool   // with Leaving: a user wants it elsewhere, so it does not stay when it is well
	Epoch    uint64 // counts its admissions; its dn admits the primary of this one only
	Lack     uint64 // bytes that are to be copied to it, as its primary said last; see Copied
	CopyRate uint64 // bytes per second by which Lack fell then; 0: not known

	Version uint64
	Applied uint64 // see CarriedOut
	Deleted bool
	Health  Health
}

// CarriedOut is Cntlr.CarriedOut of a vd and its dn.
func (v *VD) CarriedOut(applied uint64) bool { return max(applied, v.Applied) >= v.Version }
