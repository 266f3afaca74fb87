package nvme

import "encoding/binary"

// LID selects a log page (base 2.0, figure 196).
type LID uint8

// The log pages.
const (
	LogSupported    LID = 0x00
	LogError        LID = 0x01
	LogSMART        LID = 0x02
	LogFirmware     LID = 0x03
	LogChangedNS    LID = 0x04
	LogCommands     LID = 0x05
	LogANA          LID = 0x0c
	LogFeatures     LID = 0x12 // feature identifiers supported and effects
	LogMICommands   LID = 0x13 // NVMe-MI commands supported and effects
	LogDiscovery    LID = 0x70
	LogReservations LID = 0x80
)

// GetLogPage is Get Log Page's part of the submission queue entry.
type GetLogPage struct {
	LID     LID
	LSP     uint8
	RetainE bool   // RAE: do not clear the asynchronous event
	Length  uint32 // bytes, a multiple of 4
	Offset  uint64 // bytes, a multiple of 4
	IndexOT bool   // the offset is an index, which we do not offer
	CSI     uint8
}

// GetLogPage reads the fields. A length that does not fit 32 bits becomes the
// largest.
func (c *Command) GetLogPage() GetLogPage {
	le := binary.LittleEndian
	dwords := uint64(le.Uint16(c[42:])) | uint64(le.Uint16(c[44:]))<<16
	return GetLogPage{LID: LID(c[40]), LSP: c[41] & 0x7f, RetainE: c[41]>>7 != 0, Length: uint32(min((dwords+1)*4, 0xfffffffc)),
		Offset: le.Uint64(c[48:]), IndexOT: c[58]>>7 != 0, CSI: c[59]}
}

// SetGetLogPage makes the command a Get Log Page.
func (c *Command) SetGetLogPage(v GetLogPage) {
	le := binary.LittleEndian
	c[40], c[41] = byte(v.LID), v.LSP&0x7f
	if v.RetainE {
		c[41] |= 1 << 7
	}
	dwords := v.Length/4 - 1
	le.PutUint16(c[42:], uint16(dwords))
	le.PutUint16(c[44:], uint16(dwords>>16))
	le.PutUint64(c[48:], v.Offset)
	c[59] = v.CSI
}

// ErrorEntry is an entry of the error log (base 2.0, figure 201).
type ErrorEntry struct {
	Count  uint64 // number of this error since the controller was made; 0: no entry
	SQID   uint16
	CID    uint16
	Status Status
	Param  uint16 // byte in bits 7:0, bit in 10:8 of the bad field in the command; 0xffff: none
	LBA    uint64
	NSID   uint32
}

// ErrorEntryLen is the length in bytes of an entry.
const ErrorEntryLen = 64

// PutErrorEntry writes e into b[:64].
func PutErrorEntry(b []byte, e ErrorEntry) {
	clear(b[:ErrorEntryLen])
	le := binary.LittleEndian
	le.PutUint64(b[0:], e.Count)
	le.PutUint16(b[8:], e.SQID)
	le.PutUint16(b[10:], e.CID)
	le.PutUint16(b[12:], uint16(e.Status)<<1)
	le.PutUint16(b[14:], e.Param)
	le.PutUint64(b[16:], e.LBA)
	le.PutUint32(b[24:], e.NSID)
	b[29] = 3 // TRTYPE: TCP
}

// WarningTemperature is the bit of SMART's critical warning that says that a
// temperature threshold is passed.
const WarningTemperature uint8 = 1 << 1

// SMARTLen is the length in bytes of the SMART / health information log.
const SMARTLen = 512

// SMART is the SMART / health information log (base 2.0, figure 202). Data
// units are thousands of 512 bytes, rounded up.
type SMART struct {
	CriticalWarning               uint8
	Temperature                   uint16 // Kelvin
	Spare, SpareThreshold         uint8  // percent
	DataUnitsRead, DataUnitsWrite uint64
	HostReads, HostWrites         uint64 // commands
	PowerOnHours                  uint64
	MediaErrors, ErrorEntries     uint64
}

// PutSMART writes s into b[:512].
func PutSMART(b []byte, s SMART) {
	clear(b[:SMARTLen])
	le := binary.LittleEndian
	b[0] = s.CriticalWarning
	le.PutUint16(b[1:], s.Temperature)
	b[3], b[4] = s.Spare, s.SpareThreshold
	le.PutUint64(b[32:], s.DataUnitsRead)
	le.PutUint64(b[48:], s.DataUnitsWrite)
	le.PutUint64(b[64:], s.HostReads)
	le.PutUint64(b[80:], s.HostWrites)
	le.PutUint64(b[128:], s.PowerOnHours)
	le.PutUint64(b[160:], s.MediaErrors)
	le.PutUint64(b[176:], s.ErrorEntries)
}

// FirmwareLen is the length in bytes of the firmware slot log.
const FirmwareLen = 512

// PutFirmware writes a log with one slot (base 2.0, figure 204).
func PutFirmware(b []byte, revision string) {
	clear(b[:FirmwareLen])
	b[0] = 1
	putPadded(b[8:16], revision)
}

// ChangedNSLen is the length in bytes of the changed namespace list; more
// than 1024 changes are told by a first entry of all ones.
const ChangedNSLen = 4096

// CommandsLen is the length in bytes of the commands supported and effects
// log (base 2.0, figure 206): a dword for each admin opcode, then for each
// I/O opcode.
const CommandsLen = 4096

// Effects of a command, or of a change of a feature, in the logs of those.
const (
	EffectSupported     uint32 = 1 << 0
	EffectContent       uint32 = 1 << 1  // changes the content of blocks
	EffectCapability    uint32 = 1 << 4  // changes what the controller can do
	ScopeNamespace      uint32 = 1 << 20 // what it is about
	ScopeController     uint32 = 1 << 21
	ScopeSubsystem      uint32 = 1 << 25
	EffectScopes        uint32 = 0xfff << 20
	effectsOfIOCommands        = 1024 // offset of the I/O commands, bytes
)

// PutCommands writes the log: the effects of each opcode.
func PutCommands(b []byte, admin, io map[Opcode]uint32) {
	clear(b[:CommandsLen])
	for op, e := range admin {
		binary.LittleEndian.PutUint32(b[4*int(op):], e)
	}
	for op, e := range io {
		binary.LittleEndian.PutUint32(b[effectsOfIOCommands+4*int(op):], e)
	}
}

// FeaturesLen is the length in bytes of the feature identifiers supported and
// effects log (base 2.0, section 5.16.1.18): a dword for each feature.
const FeaturesLen = 1024

// PutFeatures writes the log: the effects of a change of each feature.
func PutFeatures(b []byte, features map[FID]uint32) {
	clear(b[:FeaturesLen])
	for fid, e := range features {
		binary.LittleEndian.PutUint32(b[4*int(fid):], e)
	}
}

// MICommandsLen is the length in bytes of the NVMe-MI commands supported and
// effects log (base 2.0, section 5.16.1.19), which is all zeros where there is
// no management endpoint.
const MICommandsLen = 4096

// SupportedLen is the length in bytes of the supported log pages log.
const SupportedLen = 1024

// PutSupported writes the log (base 2.0, figure 198).
func PutSupported(b []byte, pages ...LID) {
	clear(b[:SupportedLen])
	for _, p := range pages {
		b[4*int(p)] = 1
	}
}
