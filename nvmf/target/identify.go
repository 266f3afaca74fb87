package target

import (
	"encoding/binary"
	"math/bits"

	"vda/bdev"
	"vda/nvme"
)

// firmware is the revision that Identify Controller tells, 8 bytes.
const firmware = "1.0"

const (
	asyncEvents  = 4  // Asynchronous Event Requests at once
	abortsAtOnce = 4  //
	errorEntries = 64 // entries of the error log
)

// identify executes Identify (base 2.0, section 5.17).
func (k *conn) identify(c *cmd) {
	v := c.sqe.Identify()
	s := k.sub
	nsid := c.sqe.NSID()
	p := make([]byte, nvme.IdentifyLen)
	refuse := func(st nvme.Status) { c.finish(st|nvme.DNR, &k.batch) }
	// A namespace that isn't there may have been a moment ago, or be in one:
	// told not to retry, Linux would remove its disk.
	absent := func() {
		st := nvme.InvalidNamespace
		if nsid == 0 || nsid > s.cfg.MaxNamespaces {
			st |= nvme.DNR
		}
		c.finish(st, &k.batch)
	}
	if v.CNS == nvme.CNSController {
		d := k.controllerData()
		nvme.PutControllerData(p, &d)
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
		case nsid == nvme.NSIDAll: // what namespaces have in common: nothing
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
		nvme.PutNamespaceIndepData(p, nvme.NamespaceIndepData{NSFEAT: d.NSFEAT, NMIC: d.NMIC, RESCAP: d.RESCAP, FPI: d.FPI, ANAGroup: d.ANAGroup, NSTAT: nvme.NSTATReady})
	case nvme.CNSNamespaceCSI: // the NVM command set's extended formats: none
		if n == nil && nsid != nvme.NSIDAll {
			absent()
			return
		}
	case nvme.CNSControllerCSI:
		nvme.PutControllerNVMData(p, nvme.ControllerNVMData{})
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

// controllerData describes the controller to its host.
func (k *conn) controllerData() nvme.ControllerData {
	s, o := k.sub, &k.opts
	d := nvme.ControllerData{
		Serial: s.cfg.Serial, Model: s.cfg.Model, Firmware: firmware,
		MDTS: uint8(bits.Len32(o.MaxIOSize>>12) - 1), CNTLID: k.ctrl.id, Version: specVersion,
		CTRATT: nvme.CTRATTHostID128 | nvme.CTRATTTrafficKA, CNTRLTYPE: nvme.ControllerIO,
		ACL: abortsAtOnce - 1, AERL: asyncEvents - 1, FRMW: 1 | 1<<1, ELPE: errorEntries - 1,
		LPA: nvme.LPACommands | nvme.LPAExtended | nvme.LPASupported, KAS: o.KAS,
		SQES: 0x66, CQES: 0x44, MAXCMD: o.MaxQueueDepth,
		SGLS: nvme.SGLSSupported | nvme.SGLSOffset | nvme.SGLSTransport, SubNQN: s.cfg.NQN,
		IOCCSZ: (nvme.CommandLen + o.capsule) / 16, IORCSZ: nvme.CompletionLen / 16, MSDBD: 1,
	}
	if s.discovery {
		d.CNTRLTYPE, d.OAES, d.MAXCMD = nvme.ControllerDiscovery, nvme.OAESDiscovery, uint16(o.MaxAQDepth)
		d.Serial, d.Model = "00000000000000000000", "VDA Discovery"
		return d
	}
	d.CMIC = nvme.CMICMultiPort | nvme.CMICMultiController
	d.OAES = nvme.OAESNamespace
	d.NN, d.MNAN = s.cfg.MaxNamespaces, s.cfg.MaxNamespaces
	d.ONCS = nvme.ONCSCompare | nvme.ONCSDSM | nvme.ONCSWriteZeroes | nvme.ONCSVerify
	if s.reserves() {
		d.ONCS |= nvme.ONCSReservations
	}
	d.FUSES = nvme.FUSESCompareWrite
	// Always: a namespace with a volatile cache may come later, and hosts
	// look at this bit once.
	d.VWC = nvme.VWCPresent | nvme.VWCFlushAll
	d.OFCS = nvme.OFCSDisconnect
	if s.cfg.ANAReporting {
		d.CMIC |= nvme.CMICANA
		d.OAES |= nvme.OAESANA
		d.ANATT = 10
		d.ANACAP = nvme.ANACAPOptimized | nvme.ANACAPNonOptimized | nvme.ANACAPInaccessible
		d.ANAGRPMAX, d.NANAGRPID = s.cfg.MaxNamespaces, s.cfg.MaxNamespaces
	}
	return d
}

// data describes the namespace; one that lost its device keeps its size.
func (n *namespace) data() nvme.NamespaceData {
	d := nvme.NamespaceData{NMIC: nvme.NMICShared, ANAGroup: n.group.Load(), NGUID: n.nguid, EUI64: n.eui64}
	if !n.sub.cfg.ANAReporting {
		d.ANAGroup = 0
	}
	i := n.last.Load()
	if h := n.handle.Load(); h != nil {
		i = h.Info()
		n.last.Store(i)
	}
	if i == nil {
		return d
	}
	d.Size, d.Capacity, d.Used = i.Blocks, i.Blocks, i.Blocks
	d.BlockShift = uint8(bits.TrailingZeros32(i.BlockSize))
	if i.OptimalIO > 0 && i.OptimalIO <= 0xffff {
		d.NOIOB = uint16(i.OptimalIO)
	}
	d.DLFEAT = nvme.DLFEATWriteZero
	if i.UnmapZeroes {
		d.DLFEAT |= nvme.DLFEATZeroes
	}
	if i.Ops.Has(bdev.OpUnmap) {
		d.NSFEAT |= nvme.NSFEATThin
	}
	if n.sub.reserves() {
		d.RESCAP = nvme.RESCAPAll
	}
	return d
}
