package vda

import (
	"strconv"
	"strings"
)

// Names of what VDA makes in data planes. Invariants 1 and 7 hang on them: a
// disk node admits the one host whose NQN has the array's term, and what does
// not begin with "vda-" is never touched.
const (
	// NQNPrefix begins the NQN of every subsystem and host that VDA names.
	NQNPrefix = "nqn.2016-06.io.spdk:"
	// OwnNQNPrefix begins those of VDA's own; users' hosts may not have such a
	// name.
	OwnNQNPrefix = NQNPrefix + "vda-"

	// On a disk node.
	PDPrefix = "vda-pd-" // and the pd's id: its bdev, or the NVMe controller of it
	VDPrefix = "vda-vd-" // and the vd's id: its lvol; on a cn, the controller that reaches it

	// On a controller node, each with an id behind it.
	GrpPrefix   = "vda-grp-"  // raid of a group's vds
	DAPrefix    = "vda-da-"   // what the lvstore lies on, and the lvstore
	VolPrefix   = "vda-vol-"  // the volume's alias
	ProxyPrefix = "vda-px-"   // a secondary's controller to the exporter on the primary
	LinkPrefix  = "vda-link-" // an exporter's controller to the one before it

	// NQN prefixes.
	VDNQNPrefix  = NQNPrefix + VDPrefix
	ExpNQNPrefix = OwnNQNPrefix + "exp-"
	RawNQNPrefix = OwnNQNPrefix + "raw-"   // and a bdev's: through which an agent reads and clears it
	AgentNQN     = OwnNQNPrefix + "agent-" // and the same: the host that an agent is for that
	OwnerNQN     = OwnNQNPrefix + "owner"  // the subsystem that says whose the data plane is
	termNQN      = OwnNQNPrefix + "cntlr-" // and array and term
)

// VdNQN is the subsystem through which a dn exports a vd.
func VdNQN(vdID string) string { return VDNQNPrefix + vdID }

// PrimaryHostNQN is the one host that dns admit to the vds of an array in a
// term.
func PrimaryHostNQN(daID string, term uint64) string {
	return termNQN + daID + "-" + strconv.FormatUint(term, 10)
}

// TermOfPrimaryHost reads the term out of a PrimaryHostNQN; false for any other
// NQN.
func TermOfPrimaryHost(nqn string) (term uint64, ok bool) {
	id, ok := strings.CutPrefix(nqn, termNQN)
	if !ok {
		return 0, false
	}
	term, err := strconv.ParseUint(id[strings.LastIndexByte(id, '-')+1:], 10, 64)
	return term, err == nil
}

// ProxyHostNQN is the host that a secondary controller is when it reaches an
// exporter on the primary.
func ProxyHostNQN(cntlrID string) string { return NQNPrefix + ProxyPrefix + cntlrID }

// ExpNQN is the subsystem that an exporter's host connects to, on every
// controller.
func ExpNQN(daName, expName string) string { return ExpNQNPrefix + daName + "-" + expName }
