package nvmftgt

import (
	"math"
	"math/bits"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// promise is something that CAP and Identify tell hosts and that they rely on.
// All that these tell is in the table: fields are set by it alone, and the
// tests go through it and have each promise kept.
type promise struct {
	name string
	on   func(s *Subsystem) bool // where it is given; nil: by all controllers, of discovery as well
	ctrl func(conn *conn, d *told)
	ns   func(n *namespace, i *bdev.Info, d *nvme.NamespaceData) // of a namespace with a device
}

// told is what a controller tells of itself.
type told struct {
	id   nvme.ControllerData
	nvm  nvme.ControllerNVMData
	caps nvme.Capabilities
	crto uint32
}

// readyUnits is how long a controller may take until it is ready, units of
// 500 ms. It is ready at once.
const readyUnits = 10

// writeZeroesPages is the largest Write Zeroes, 2^n pages of 4 KiB: as many
// blocks of 512 bytes as a command has room for. A command moves no data, so
// MDTS is not its limit; Linux takes that where nothing is said.
const writeZeroesPages = 13

func (s *Subsystem) isIO() bool        { return !s.discovery }
func (s *Subsystem) isDiscovery() bool { return s.discovery }
func (s *Subsystem) offersANA() bool   { return !s.discovery && s.cfg.ANAReporting }

var promises = []promise{
	{name: "CAP MQES: queues may have so many entries",
		ctrl: func(conn *conn, d *told) { d.caps.MaxQueueEntries = uint32(conn.opts.MaxQueueDepth) }},
	{name: "CAP CQR, CSS, MPSMIN, MPSMAX: one command set, one page size", ctrl: func(_ *conn, d *told) {
		d.caps.Contiguous, d.caps.NVMCommandSet = true, true
	}},
	{name: "CAP TO: ready in time", ctrl: func(_ *conn, d *told) { d.caps.ReadyTimeout = readyUnits }},
	{name: "CAP CRMS, CRTO: ready with media", ctrl: func(_ *conn, d *told) { d.caps.ReadyWithMedia, d.crto = true, readyUnits }},

	{name: "SN, MN, FR, SUBNQN, CNTLID, VER, CNTRLTYPE: who it is", ctrl: func(conn *conn, d *told) {
		c := &conn.sub.cfg
		d.id.Serial, d.id.Model, d.id.Firmware, d.id.SubNQN = c.Serial, c.Model, firmware, c.NQN
		d.id.CNTLID, d.id.Version, d.id.CNTRLTYPE = conn.ctrl.id, specVersion, nvme.ControllerIO
		if conn.sub.discovery {
			d.id.Serial, d.id.Model, d.id.CNTRLTYPE = "00000000000000000000", "VDA Discovery", nvme.ControllerDiscovery
		}
	}},
	{name: "MDTS: the largest transfer", ctrl: func(conn *conn, d *told) { d.id.MDTS = uint8(bits.Len32(conn.opts.MaxIOSize>>12) - 1) }},
	{name: "CTRATT 0: host ids of 128 bits", ctrl: func(_ *conn, d *told) { d.id.CTRATT |= nvme.CTRATTHostID128 }},
	{name: "CTRATT 6, KAS: any traffic keeps alive", ctrl: func(conn *conn, d *told) {
		d.id.CTRATT |= nvme.CTRATTTrafficKA
		d.id.KAS = conn.opts.KAS
	}},
	{name: "ACL: aborts at once", ctrl: func(_ *conn, d *told) { d.id.ACL = abortsAtOnce - 1 }},
	{name: "AERL: event requests at once", ctrl: func(_ *conn, d *told) { d.id.AERL = asyncEvents - 1 }},
	{name: "OAES 8: events of namespaces", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) { d.id.OAES |= nvme.OAESNamespace }},
	{name: "OAES 31: events of discovery", on: (*Subsystem).isDiscovery, ctrl: func(_ *conn, d *told) { d.id.OAES |= nvme.OAESDiscovery }},
	{name: "FRMW: one firmware slot, read only", ctrl: func(_ *conn, d *told) { d.id.FRMW = 1 | 1<<1 }},
	{name: "ELPE: entries of the error log", ctrl: func(_ *conn, d *told) { d.id.ELPE = errorEntries - 1 }},
	{name: "LPA 1: the log of commands", ctrl: func(_ *conn, d *told) { d.id.LPA |= nvme.LPACommands }},
	{name: "LPA 2: parts of log pages", ctrl: func(_ *conn, d *told) { d.id.LPA |= nvme.LPAExtended }},
	{name: "LPA 5: the logs of log pages, features and NVMe-MI commands, and scopes",
		ctrl: func(_ *conn, d *told) { d.id.LPA |= nvme.LPASupported }},
	{name: "SQES, CQES: entries of 64 and 16 bytes", ctrl: func(_ *conn, d *told) { d.id.SQES, d.id.CQES = 0x66, 0x44 }},
	{name: "MAXCMD: commands at once", ctrl: func(conn *conn, d *told) {
		d.id.MAXCMD = conn.opts.MaxQueueDepth
		if conn.sub.discovery {
			d.id.MAXCMD = uint16(conn.opts.MaxAQDepth)
		}
	}},
	{name: "SGLS: data by transport SGL or at an offset in the capsule", ctrl: func(_ *conn, d *told) {
		d.id.SGLS, d.id.MSDBD = nvme.SGLSSupported|nvme.SGLSOffset|nvme.SGLSTransport, 1
	}},
	{name: "IOCCSZ, IORCSZ, ICDOFF: capsules", ctrl: func(conn *conn, d *told) {
		d.id.IOCCSZ, d.id.IORCSZ = (nvme.CommandLen+conn.opts.capsule)/16, nvme.CompletionLen/16
	}},

	{name: "CMIC 0, 1: many ports, many controllers", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) {
		d.id.CMIC |= nvme.CMICMultiPort | nvme.CMICMultiController
	}},
	{name: "NN, MNAN: namespaces", on: (*Subsystem).isIO, ctrl: func(conn *conn, d *told) {
		d.id.NN, d.id.MNAN = conn.sub.cfg.MaxNamespaces, conn.sub.cfg.MaxNamespaces
	}},
	{name: "ONCS 0: Compare", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) { d.id.ONCS |= nvme.ONCSCompare }},
	{name: "ONCS 2: Dataset Management", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) { d.id.ONCS |= nvme.ONCSDSM }},
	{name: "ONCS 3, WZSL: Write Zeroes, and the largest", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) {
		d.id.ONCS |= nvme.ONCSWriteZeroes
		d.nvm.WZSL = writeZeroesPages
	}},
	{name: "ONCS 7: Verify", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) { d.id.ONCS |= nvme.ONCSVerify }},
	{name: "ONCS 5, RESCAP: reservations", on: (*Subsystem).reserves,
		ctrl: func(_ *conn, d *told) { d.id.ONCS |= nvme.ONCSReservations },
		ns:   func(_ *namespace, _ *bdev.Info, d *nvme.NamespaceData) { d.RESCAP |= nvme.RESCAPAll }},
	{name: "RESCAP 0: reservations outlive the process", on: (*Subsystem).reserves, ns: func(n *namespace,
		_ *bdev.Info, d *nvme.NamespaceData) {
		if r := n.resv.Load(); r.file != nil || r.id != uuid.Nil {
			d.RESCAP |= nvme.RESCAPPersistent
		}
	}},
	{name: "FUSES 0: Compare and Write", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) { d.id.FUSES = nvme.FUSESCompareWrite }},
	// Always: a namespace with a volatile cache may come later, and hosts
	// look at this bit once.
	{name: "VWC: Flush, also of all namespaces", on: (*Subsystem).isIO,
		ctrl: func(_ *conn, d *told) { d.id.VWC = nvme.VWCPresent | nvme.VWCFlushAll }},
	{name: "OFCS 0: Disconnect", on: (*Subsystem).isIO, ctrl: func(_ *conn, d *told) { d.id.OFCS = nvme.OFCSDisconnect }},
	{name: "CMIC 3, OAES 11, ANACAP, ANAGRPMAX, NANAGRPID: ANA", on: (*Subsystem).offersANA, ctrl: func(conn *conn, d *told) {
		d.id.CMIC |= nvme.CMICANA
		d.id.OAES |= nvme.OAESANA
		d.id.ANATT = 10
		d.id.ANACAP = nvme.ANACAPOptimized | nvme.ANACAPNonOptimized | nvme.ANACAPInaccessible
		d.id.ANAGRPMAX, d.id.NANAGRPID = conn.sub.cfg.MaxNamespaces, conn.sub.cfg.MaxNamespaces
	}},

	{name: "NMIC 0: shared", on: (*Subsystem).isIO, ns: func(_ *namespace, _ *bdev.Info, d *nvme.NamespaceData) { d.NMIC = nvme.NMICShared }},
	{name: "NSZE, NCAP, LBADS, NOIOB: size and shape", on: (*Subsystem).isIO, ns: func(_ *namespace, i *bdev.Info, d *nvme.NamespaceData) {
		d.Size, d.Capacity = i.Blocks, i.Blocks
		d.BlockShift = uint8(bits.TrailingZeros32(i.BlockSize))
		if i.OptimalIO > 0 && i.OptimalIO <= math.MaxUint16 {
			d.NOIOB = uint16(i.OptimalIO)
		}
	}},
	{name: "NSFEAT 0, NUSE: what a thin namespace uses", on: (*Subsystem).isIO, ns: func(n *namespace, i *bdev.Info, d *nvme.NamespaceData) {
		d.Used = i.Blocks
		if h := n.handle.Load(); h != nil {
			if used, ok := h.Used(); ok {
				d.NSFEAT |= nvme.NSFEATThin
				d.Used = min(used, i.Blocks)
			}
		}
	}},
	{name: "NSFEAT 4, NPDG, NPDA, NOWS: what is freed and written best", on: (*Subsystem).isIO, ns: func(_ *namespace,
		i *bdev.Info, d *nvme.NamespaceData) {
		d.NSFEAT |= nvme.NSFEATOptimal
		if i.UnmapUnit > 0 {
			d.NPDG = uint16(min(i.UnmapUnit, 1<<16) - 1)
			d.NPDA = d.NPDG
		}
		if d.NOIOB > 0 {
			d.NOWS = d.NOIOB - 1
		}
	}},
	{name: "NSATTR 0: write protected", on: (*Subsystem).isIO, ns: func(_ *namespace, i *bdev.Info, d *nvme.NamespaceData) {
		if !i.Ops.Has(bdev.OpWrite) {
			d.NSATTR |= nvme.NSATTRProtected
		}
	}},
	{name: "DLFEAT: what deallocated blocks read, Write Zeroes that deallocates", on: (*Subsystem).isIO, ns: func(_ *namespace,
		i *bdev.Info, d *nvme.NamespaceData) {
		d.DLFEAT = nvme.DLFEATWriteZero
		if i.UnmapZeroes && i.Ops.Has(bdev.OpUnmap) {
			d.DLFEAT |= nvme.DLFEATZeroes
		}
	}},
}

// of reports whether controllers of s give the promise.
func (p *promise) of(s *Subsystem) bool { return p.on == nil || p.on(s) }

// told puts together what the controller of conn tells.
func (conn *conn) told() told {
	var d told
	for i := range promises {
		if p := &promises[i]; p.ctrl != nil && p.of(conn.sub) {
			p.ctrl(conn, &d)
		}
	}
	return d
}
