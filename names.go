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
	MirrorPrefix = "vda-mir-"   // mirror of a column's vds
	GrpPrefix    = "vda-grp-"   // raid of a group's vds, or of its mirrors
	DAPrefix     = "vda-da-"    // what the lvstore lies on, and the lvstore
	VolPrefix    = "vda-vol-"   // the volume's alias
	SnapPrefix   = "vda-snap-"  // a snapshot's alias
	WSnapPrefix  = "vda-wsnap-" // a writable snapshot's alias
	NewVolPrefix = "vda-new-"   // alias of what is about to be the volume, by the snapshot that it is rolled back to
	OldVolPrefix = "vda-old-"   // alias of what was the volume before
	ProxyPrefix  = "vda-px-"    // a secondary's controller to the exporter on the primary
	LinkPrefix   = "vda-link-"  // an exporter's controller to the one before it
	SourcePrefix = "vda-src-"   // a clone's controller to the exporter that it is copied from, by the clone

	// NQN prefixes.
	VDNQNPrefix  = NQNPrefix + VDPrefix
	ExpNQNPrefix = OwnNQNPrefix + "exp-"
	HopNQNPrefix = OwnNQNPrefix + "hop-"   // and an exporter's id: what secondaries connect to at a back-end listener
	RawNQNPrefix = OwnNQNPrefix + "raw-"   // and a bdev's: through which an agent reads and clears it
	AgentNQN     = OwnNQNPrefix + "agent-" // and the same: the host that an agent is for that
	OwnerNQN     = OwnNQNPrefix + "owner"  // the subsystem that says whose the data plane is
	termNQN      = OwnNQNPrefix + "cntlr-" // and array and term
)

// ControllerModel is what hosts see as the model of every exporter.
const ControllerModel = "VDA_CONTROLLER"

// VdNQN is the subsystem through which a dn exports a vd.
func VdNQN(vdID string) string { return VDNQNPrefix + vdID }

// PrimaryHostNQN is the one host that dns admit to the vds of an array in a
// term.
func PrimaryHostNQN(daID string, term uint64) string {
	return termNQN + daID + "-" + strconv.FormatUint(term, 10)
}

// LegHostNQN is the host that the array's primary, which is PrimaryHostNQN, is
// for one vd whose epoch counts how often it was dropped from its mirror. So a
// leg that comes back is fenced from what was sent to it before. Epoch 0 leaves
// the name as it is.
func LegHostNQN(primary string, epoch uint64) string {
	if epoch == 0 {
		return primary
	}
	return primary + epochMark + strconv.FormatUint(epoch, 10)
}

// epochMark stands before the epoch at the end of a LegHostNQN. What stands
// behind the last dash of a PrimaryHostNQN is a number.
const epochMark = "-e"

// ParsePrimaryHost reads term and epoch out of a PrimaryHostNQN or LegHostNQN;
// false for any other NQN.
func ParsePrimaryHost(nqn string) (term, epoch uint64, ok bool) {
	rest, ok := strings.CutPrefix(nqn, termNQN)
	if !ok {
		return 0, 0, false
	}
	at := strings.LastIndexByte(rest, '-')
	if at >= 0 && strings.HasPrefix(rest[at:], epochMark) {
		var err error
		if epoch, err = strconv.ParseUint(rest[at+len(epochMark):], 10, 64); err != nil || epoch == 0 {
			return 0, 0, false
		}
		rest = rest[:at]
		at = strings.LastIndexByte(rest, '-')
	}
	term, err := strconv.ParseUint(rest[at+1:], 10, 64)
	return term, epoch, err == nil
}

// ClonePrefix begins the names of the exporters, and snapshots, that clones of arrays are
// copied from; behind it is the clone's id. Users' exporters and snapshots have no such
// names.
const ClonePrefix = "vda-clone-"

// CloneHostNQN is the host that the primary of a clone is to the exporter that it is
// copied from, in any term: it only reads there.
func CloneHostNQN(daID string) string { return OwnNQNPrefix + "clone-" + daID }

// ProxyHostNQN is the host that a secondary controller is when it reaches an
// exporter on the primary.
func ProxyHostNQN(cntlrID string) string { return NQNPrefix + ProxyPrefix + cntlrID }

// ExpNQN is the subsystem that an exporter's host connects to, on every
// controller.
func ExpNQN(daName, expName string) string { return ExpNQNPrefix + daName + "-" + expName }

// HopNQN is the subsystem that secondaries reach an exporter by, on a primary whose node
// has a back-end listener. No user's host is let in.
func HopNQN(expID string) string { return HopNQNPrefix + expID }
