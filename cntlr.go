package vda

// Cntlr is one of a disk array's controllers.
type Cntlr struct {
	ID      string
	DAID    string
	CNID    string
	Idx     uint32 // unique in the da, never reused; fixes the controller-id range
	Primary bool

	Version uint64
	Applied uint64 // see CarriedOut
	Deleted bool
	Health  Health
}

// CarriedOut reports that its cn, which has carried out version applied of its desired
// state in full, has carried out what is desired of the controller. That is noted in Applied
// when something else holds up the cn's: one array in error says nothing about others.
func (c *Cntlr) CarriedOut(applied uint64) bool { return max(applied, c.Applied) >= c.Version }

// cntlidsPerCntlr is how many NVMe controller ids each of an array's
// controllers hands out to hosts. The ranges do not overlap.
const cntlidsPerCntlr = 1000

// MaxCntlrIdx is the last Idx that leaves room for its range of controller ids,
// which end at FFEFh (NVM Express base specification 2.0, 3.1.1).
const MaxCntlrIdx = 0xffef/cntlidsPerCntlr - 1 // nvme.MaxCNTLID

// CNTLIDs are the first and last NVMe controller id that the controller hands
// out.
func (c *Cntlr) CNTLIDs() (first, last uint32) {
	return c.Idx*cntlidsPerCntlr + 1, (c.Idx + 1) * cntlidsPerCntlr
}
