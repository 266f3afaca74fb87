package vda

// Cntlr is one of a disk array's controllers.
type Cntlr struct {
	ID      string
	DAID    string
	CNID    string
	Idx     uint32 // unique in the da, never reused; fixes the controller-id range
	Primary bool

	Version uint64
	Deleted bool
	Health  Health
}
