package vda

// DA is a disk array.
type DA struct {
	ID           string
	Name         string
	Size         uint64 // bytes the host sees
	PhysicalSize uint64 // bytes of data clusters bought; below Size the array is thin
	CntlrCnt     uint32
	StripeCount  uint32
	StripeSizeKB uint32
	Conf         string // JSON as the user gave it
	ClusterSize  uint64 // bytes, of the array's own lvstore

	Term    uint64 // number of the primary's term; only grows
	Created bool   // raid, lvstore and volume have been made on media once
	Deleted bool
	Health  Health
}

// Thin reports whether the array promises more than it has bought.
func (d *DA) Thin() bool { return d.Size > d.PhysicalSize }

// Redundancy says which losses of vds the array's groups tolerate.
func (d *DA) Redundancy() Redundancy { return Striped }

// Grp is a group of vds of equal size joined by one raid bdev.
type Grp struct {
	ID   string
	DAID string
	Idx  uint32
	Size uint64 // bytes of all its vds
}
