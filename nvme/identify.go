package nvme

import (
	"encoding/binary"
	"strings"
)

// IdentifyLen is the length in bytes of every identify data structure.
const IdentifyLen = 4096

// CNS selects the structure that Identify returns (base 2.0, figure 273).
type CNS uint8

// The structures.
const (
	CNSNamespace       CNS = 0x00
	CNSController      CNS = 0x01
	CNSActiveNSList    CNS = 0x02
	CNSNSDescriptors   CNS = 0x03
	CNSNamespaceCSI    CNS = 0x05 // command set specific
	CNSControllerCSI   CNS = 0x06 // command set specific
	CNSActiveNSListCSI CNS = 0x07
	CNSNamespaceIndep  CNS = 0x08 // command set independent
	CNSCommandSets     CNS = 0x1c
)

// Identify is the part of Identify in the submission queue entry.
type Identify struct {
	CNS    CNS
	CNTID  uint16
	CSI    uint8 // command set; 0 is NVM
	UUIDIx uint8
}

// Identify reads the fields of an Identify command.
func (c *Command) Identify() Identify {
	return Identify{CNS: CNS(c[40]), CNTID: binary.LittleEndian.Uint16(c[42:]), CSI: c[47], UUIDIx: c[56] & 0x7f}
}

// SetIdentify sets them.
func (c *Command) SetIdentify(v Identify) {
	c[40] = byte(v.CNS)
	binary.LittleEndian.PutUint16(c[42:], v.CNTID)
	c[47], c[56] = v.CSI, v.UUIDIx
}

// Controller types (CNTRLTYPE).
const (
	ControllerIO        uint8 = 1
	ControllerDiscovery uint8 = 2
)

// Bits of ControllerData's fields.
const (
	CMICMultiPort       uint8  = 1 << 0
	CMICMultiController uint8  = 1 << 1
	CMICANA             uint8  = 1 << 3
	OAESNamespace       uint32 = 1 << 8
	OAESANA             uint32 = 1 << 11
	OAESDiscovery       uint32 = 1 << 31
	CTRATTHostID128     uint32 = 1 << 0
	CTRATTTrafficKA     uint32 = 1 << 6
	LPACommands         uint8  = 1 << 1 // commands supported and effects
	LPAExtended         uint8  = 1 << 2 // offset and 32-bit length of Get Log Page
	LPASupported        uint8  = 1 << 5 // the logs 00h, 12h and 13h, and scopes in 05h
	ANACAPOptimized     uint8  = 1 << 0
	ANACAPNonOptimized  uint8  = 1 << 1
	ANACAPInaccessible  uint8  = 1 << 2
	ANACAPPersistent    uint8  = 1 << 3
	ANACAPChange        uint8  = 1 << 4
	ANACAPGroupIDStays  uint8  = 1 << 6
	ONCSCompare         uint16 = 1 << 0
	ONCSDSM             uint16 = 1 << 2
	ONCSWriteZeroes     uint16 = 1 << 3
	ONCSSaveSelect      uint16 = 1 << 4
	ONCSReservations    uint16 = 1 << 5
	ONCSVerify          uint16 = 1 << 7
	FUSESCompareWrite   uint16 = 1 << 0
	VWCPresent          uint8  = 1 << 0
	VWCFlushAll         uint8  = 3 << 1 // Flush with NSIDAll works
	VWCFlushNotAll      uint8  = 2 << 1
	SGLSSupported       uint32 = 1 << 0
	SGLSOffset          uint32 = 1 << 20
	SGLSTransport       uint32 = 1 << 21
	OFCSDisconnect      uint16 = 1 << 0
)

// ControllerData is the Identify Controller data structure (base 2.0, figure
// 275) as far as Fabrics controllers use it. Strings are without padding.
type ControllerData struct {
	VendorID, SubsystemVendorID uint16
	Serial, Model, Firmware     string // 20, 40, 8 bytes
	RAB                         uint8
	OUI                         [3]byte
	CMIC                        uint8
	MDTS                        uint8 // largest transfer is 2^MDTS pages of 4 KiB; 0 no limit
	CNTLID                      uint16
	Version                     uint32
	OAES                        uint32
	CTRATT                      uint32
	CNTRLTYPE                   uint8
	CRDT1                       uint16 // command retry delay, units of 100 ms
	OACS                        uint16
	ACL, AERL                   uint8 // aborts and async events at once, minus one
	FRMW, LPA, ELPE             uint8
	KAS                         uint16 // keep-alive granularity, units of 100 ms
	ANATT, ANACAP               uint8
	ANAGRPMAX, NANAGRPID        uint32
	SQES, CQES                  uint8
	MAXCMD                      uint16
	NN                          uint32
	ONCS, FUSES                 uint16
	VWC                         uint8
	AWUN, AWUPF, ACWU           uint16 // blocks minus one
	NWPC                        uint8
	SGLS                        uint32
	MNAN                        uint32
	SubNQN                      string
	IOCCSZ, IORCSZ              uint32 // capsule sizes, units of 16 bytes
	ICDOFF                      uint16
	FCATT, MSDBD                uint8
	OFCS                        uint16
	DCTYPE                      uint8
}

// PutControllerData writes d into b[:4096].
func PutControllerData(b []byte, d *ControllerData) {
	b = b[:IdentifyLen]
	clear(b)
	le := binary.LittleEndian
	le.PutUint16(b[0:], d.VendorID)
	le.PutUint16(b[2:], d.SubsystemVendorID)
	putPadded(b[4:24], d.Serial)
	putPadded(b[24:64], d.Model)
	putPadded(b[64:72], d.Firmware)
	b[72] = d.RAB
	copy(b[73:76], d.OUI[:])
	b[76], b[77] = d.CMIC, d.MDTS
	le.PutUint16(b[78:], d.CNTLID)
	le.PutUint32(b[80:], d.Version)
	le.PutUint32(b[92:], d.OAES)
	le.PutUint32(b[96:], d.CTRATT)
	b[111] = d.CNTRLTYPE
	le.PutUint16(b[128:], d.CRDT1)
	le.PutUint16(b[256:], d.OACS)
	b[258], b[259], b[260], b[261], b[262] = d.ACL, d.AERL, d.FRMW, d.LPA, d.ELPE
	le.PutUint16(b[320:], d.KAS)
	b[342], b[343] = d.ANATT, d.ANACAP
	le.PutUint32(b[344:], d.ANAGRPMAX)
	le.PutUint32(b[348:], d.NANAGRPID)
	b[512], b[513] = d.SQES, d.CQES
	le.PutUint16(b[514:], d.MAXCMD)
	le.PutUint32(b[516:], d.NN)
	le.PutUint16(b[520:], d.ONCS)
	le.PutUint16(b[522:], d.FUSES)
	b[525] = d.VWC
	le.PutUint16(b[526:], d.AWUN)
	le.PutUint16(b[528:], d.AWUPF)
	b[531] = d.NWPC
	le.PutUint16(b[532:], d.ACWU)
	le.PutUint32(b[536:], d.SGLS)
	le.PutUint32(b[540:], d.MNAN)
	copy(b[768:1023], d.SubNQN)
	le.PutUint32(b[1792:], d.IOCCSZ)
	le.PutUint32(b[1796:], d.IORCSZ)
	le.PutUint16(b[1800:], d.ICDOFF)
	b[1802], b[1803] = d.FCATT, d.MSDBD
	le.PutUint16(b[1804:], d.OFCS)
	b[1806] = d.DCTYPE
}

// DecodeControllerData reads an Identify Controller data structure.
func DecodeControllerData(b []byte) (ControllerData, error) {
	if len(b) < IdentifyLen {
		return ControllerData{}, ErrShort
	}
	le := binary.LittleEndian
	d := ControllerData{
		VendorID: le.Uint16(b[0:]), SubsystemVendorID: le.Uint16(b[2:]),
		Serial: trimmed(b[4:24]), Model: trimmed(b[24:64]), Firmware: trimmed(b[64:72]),
		RAB: b[72], OUI: [3]byte(b[73:76]), CMIC: b[76], MDTS: b[77], CNTLID: le.Uint16(b[78:]), Version: le.Uint32(b[80:]),
		OAES: le.Uint32(b[92:]), CTRATT: le.Uint32(b[96:]), CNTRLTYPE: b[111], CRDT1: le.Uint16(b[128:]),
		OACS: le.Uint16(b[256:]), ACL: b[258], AERL: b[259], FRMW: b[260], LPA: b[261], ELPE: b[262],
		KAS: le.Uint16(b[320:]), ANATT: b[342], ANACAP: b[343], ANAGRPMAX: le.Uint32(b[344:]), NANAGRPID: le.Uint32(b[348:]),
		SQES: b[512], CQES: b[513], MAXCMD: le.Uint16(b[514:]), NN: le.Uint32(b[516:]), ONCS: le.Uint16(b[520:]), FUSES: le.Uint16(b[522:]),
		VWC: b[525], AWUN: le.Uint16(b[526:]), AWUPF: le.Uint16(b[528:]), NWPC: b[531], ACWU: le.Uint16(b[532:]),
		SGLS: le.Uint32(b[536:]), MNAN: le.Uint32(b[540:]), SubNQN: trimmed(b[768:1024]),
		IOCCSZ: le.Uint32(b[1792:]), IORCSZ: le.Uint32(b[1796:]), ICDOFF: le.Uint16(b[1800:]), FCATT: b[1802], MSDBD: b[1803],
		OFCS: le.Uint16(b[1804:]), DCTYPE: b[1806],
	}
	return d, nil
}

// ControllerNVMData is the Identify Controller data structure of the NVM
// command set (NVM command set 1.0, figure 102). Zero is no limit.
type ControllerNVMData struct {
	VSL, WZSL, WUSL uint8  // Verify, Write Zeroes, Write Uncorrectable: 2^n pages of 4 KiB
	DMRL            uint8  // ranges of Dataset Management
	DMRSL           uint32 // blocks of a range
	DMSL            uint64 // blocks of all ranges
}

// PutControllerNVMData writes d into b[:4096].
func PutControllerNVMData(b []byte, d ControllerNVMData) {
	clear(b[:IdentifyLen])
	b[0], b[1], b[2], b[3] = d.VSL, d.WZSL, d.WUSL, d.DMRL
	binary.LittleEndian.PutUint32(b[4:], d.DMRSL)
	binary.LittleEndian.PutUint64(b[8:], d.DMSL)
}

// DecodeControllerNVMData reads the structure.
func DecodeControllerNVMData(b []byte) (ControllerNVMData, error) {
	if len(b) < IdentifyLen {
		return ControllerNVMData{}, ErrShort
	}
	return ControllerNVMData{VSL: b[0], WZSL: b[1], WUSL: b[2], DMRL: b[3],
		DMRSL: binary.LittleEndian.Uint32(b[4:]), DMSL: binary.LittleEndian.Uint64(b[8:])}, nil
}

// putPadded writes s into b, cut to its length and padded with spaces.
func putPadded(b []byte, s string) {
	for i := copy(b, s); i < len(b); i++ {
		b[i] = ' '
	}
}

// trimmed reads a string that ends at a zero or is padded with spaces.
func trimmed(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimRight(s, " ")
}

// Lengths of a controller's names, bytes (base 2.0, figure 275).
const (
	SerialMax = 20
	ModelMax  = 40
)

// IsASCII reports whether s can stand in an ASCII string of Identify of at most
// so many bytes: characters 20h to 7Eh.
func IsASCII(s string, most int) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= most
}
