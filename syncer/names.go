package syncer

import (
	"strconv"
	"strings"
)

// nqnPrefix begins every NQN that VDA gives to subsystems and hosts of its
// own.
const nqnPrefix = "nqn.2016-06.io.spdk:vda-"

// VdNQN is the subsystem through which a dn exports a vd.
func VdNQN(vdID string) string { return nqnPrefix + "vd-" + vdID }

// PrimaryHostNQN is the one host that dns admit to the vds of an array in a
// term.
func PrimaryHostNQN(daID string, term uint64) string {
	return nqnPrefix + "cntlr-" + daID + "-" + strconv.FormatUint(term, 10)
}

// ProxyHostNQN is the host a secondary is when it reaches an exporter on the
// primary.
func ProxyHostNQN(cntlrID string) string { return nqnPrefix + "px-" + cntlrID }

// UUID writes an id of 32 hex digits the way UUIDs are written.
func UUID(id string) string {
	if len(id) != 32 || strings.Contains(id, "-") {
		return id
	}
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}

// cntlidsPerCntlr is how many NVMe controller ids each of an array's
// controllers hands out to hosts. The ranges don't overlap.
const cntlidsPerCntlr = 1000
