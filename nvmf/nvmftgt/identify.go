package nvmftgt

import (
	"encoding/binary"
	"github.com/virtual-disk-array/vda/nvme"
)

// firmware is the revision that Identify Controller tells, 8 bytes.
const firmware = "1.0"

const (
	asyncEvents  = 4  // Asynchronous Event Requests at once
	abortsAtOnce = 4  //
	errorEntries = 64 // entries of the error log
)

// identify executes Identify (base 2.0, section 5.17).
func (conn *conn) identify(c *cmd) {
	v := c.sqe.Identify()
	s := conn.sub
	nsid := c.sqe.NSID()
	p := make([]byte, nvme.IdentifyLen)
	refuse := func(st nvme.Status) { c.finish(st|nvme.DNR, &conn.batch) }
	// A namespace that is not there may have been a moment ago, or be in one:
	// told not to retry, Linux would remove its disk.
	absent := func() {
		st := nvme.InvalidNamespace
		if nsid == 0 || nsid > s.cfg.MaxNamespaces {
			st |= nvme.DNR
		}
		c.finish(st, &conn.batch)
	}
	if v.CNS == nvme.CNSController {
		d := conn.told()
		nvme.PutControllerData(p, &d.id)
		c.send(p)
		return
	}
	if s.discovery {
		refuse(nvme.InvalidField)
		return
	}
	n := s.namespace(nsid)
	switch v.CNS {
	case nvme.CNSNamespaceCSI, nvme.CNSControllerCSI, nvme.CNSActiveNSListCSI:
		if v.CSI != 0 {
			refuse(nvme.InvalidField)
			return
		}
	}
	switch v.CNS {
	case nvme.CNSNamespace:
		switch {
		case nsid == 0 || nsid > s.cfg.MaxNamespaces:
			refuse(nvme.InvalidNamespace)
			return
		case n != nil:
			d := n.data()
			nvme.PutNamespaceData(p, &d)
		}
	case nvme.CNSNamespaceIndep:
		if n == nil {
			absent()
			return
		}
		d := n.data()
		nvme.PutNamespaceIndepData(p, nvme.NamespaceIndepData{NSFEAT: d.NSFEAT, NMIC: d.NMIC, RESCAP: d.RESCAP, FPI: d.FPI, ANAGroup: d.ANAGroup,
			NSATTR: d.NSATTR, NSTAT: nvme.NSTATReady})
	case nvme.CNSNamespaceCSI: // the NVM command set's extended formats: none
		if n == nil {
			absent()
			return
		}
	case nvme.CNSControllerCSI:
		nvme.PutControllerNVMData(p, conn.told().nvm)
	case nvme.CNSActiveNSList, nvme.CNSActiveNSListCSI:
		if nsid >= 0xfffffffe {
			refuse(nvme.InvalidNamespace)
			return
		}
		at := 0
		for _, m := range *s.nss.Load() {
			if m != nil && m.nsid > nsid && at < len(p) {
				binary.LittleEndian.PutUint32(p[at:], m.nsid)
				at += 4
			}
		}
	case nvme.CNSNSDescriptors:
		if n == nil {
			absent()
			return
		}
		nvme.PutNamespaceIDs(p, nvme.NamespaceIDs{EUI64: n.eui64, NGUID: n.nguid, UUID: n.uuid, HasCSI: true})
	case nvme.CNSCommandSets:
		p[0] = 1 // one combination: the NVM command set
	default:
		refuse(nvme.InvalidField)
		return
	}
	c.send(p)
}

// data describes the namespace; one that lost its device keeps its size.
func (n *namespace) data() nvme.NamespaceData {
	d := nvme.NamespaceData{ANAGroup: n.group.Load(), NGUID: n.nguid, EUI64: n.eui64}
	if !n.sub.cfg.ANAReporting {
		d.ANAGroup = 0
	}
	// Controllers of other targets may show the same namespace where a host has several
	// associations, and their data must be equal.
	if e := n.epoch.Load(); e != nil && n.sub.SingleAssociation() {
		d.Epoch = *e
	}
	i := n.last.Load()
	if h := n.handle.Load(); h != nil {
		i = h.Info()
		n.last.Store(i)
	}
	if i == nil {
		return d
	}
	for j := range promises {
		if p := &promises[j]; p.ns != nil && p.of(n.sub) {
			p.ns(n, i, &d)
		}
	}
	return d
}
