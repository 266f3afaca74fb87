package vda

// CN is a controller node.
type CN struct {
	ID       string
	Name     string // host:port of its agent
	Listener Listener
	Location string
	Online   bool

	Version uint64
	Applied uint64

	CntlrCount   uint32 // controllers placed here
	PrimaryCount uint32 // of them primary

	DataPlaneVersion string
	Health           Health
}

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
