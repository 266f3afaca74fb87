package nvme

import "encoding/binary"

// Lengths in bytes of queue entries.
const (
	CommandLen    = 64
	CompletionLen = 16
)

// Opcode is byte 0 of a command; its meaning depends on the queue.
type Opcode uint8

// Opcodes of the admin queue (base 2.0, figure 138).
const (
	AdminGetLogPage  Opcode = 0x02
	AdminIdentify    Opcode = 0x06
	AdminAbort       Opcode = 0x08
	AdminSetFeatures Opcode = 0x09
	AdminGetFeatures Opcode = 0x0a
	AdminAsyncEvent  Opcode = 0x0c
	AdminKeepAlive   Opcode = 0x18
)

// OpFabrics is the opcode of all Fabrics commands, on any queue; the command
// type is FabricsType's.
const OpFabrics Opcode = 0x7f

// Opcodes of I/O queues (NVM command set 1.0, figure 15).
const (
	IOFlush              Opcode = 0x00
	IOWrite              Opcode = 0x01
	IORead               Opcode = 0x02
	IOWriteUncorrectable Opcode = 0x04
	IOCompare            Opcode = 0x05
	IOWriteZeroes        Opcode = 0x08
	IODatasetManagement  Opcode = 0x09
	IOVerify             Opcode = 0x0c
	IOResvRegister       Opcode = 0x0d
	IOResvReport         Opcode = 0x0e
	IOResvAcquire        Opcode = 0x11
	IOResvRelease        Opcode = 0x15
	IOCopy               Opcode = 0x19
)

// HostToController and ControllerToHost are bits 1:0 of an opcode: the
// direction of its data.
const (
	HostToController = 1
	ControllerToHost = 2
)

// Transfer returns bits 1:0 of the opcode: 0 none, 1 host to controller, 2
// controller to host. For Fabrics commands use the command type's.
func (o Opcode) Transfer() uint8 { return uint8(o) & 3 }

// NSIDAll is the broadcast namespace id.
const NSIDAll uint32 = 0xffffffff

// Bits of command dword 12 of the I/O commands (NVM command set 1.0).
const (
	CDW12LimitedRetry uint32 = 1 << 31
	CDW12FUA          uint32 = 1 << 30
	CDW12Deallocate   uint32 = 1 << 25 // Write Zeroes: deallocate if that reads as zeros
	CDW11Deallocate   uint32 = 1 << 2  // Dataset Management
)

// Command is a submission queue entry (base 2.0, figure 87), viewed in place:
// (*Command)(b) makes one of a slice of at least 64 bytes.
type Command [CommandLen]byte

// Opcode returns the opcode.
func (c *Command) Opcode() Opcode { return Opcode(c[0]) }

// FirstFused and SecondFused are values of Fused.
const (
	FirstFused  = 1
	SecondFused = 2
)

// Fused returns the fuse bits: 0 normal, 1 first, 2 second command of a pair.
func (c *Command) Fused() uint8 { return c[1] & 3 }

// PSDT returns how data is described; Fabrics allows 1 only (SGL, contiguous
// metadata), and 2.
func (c *Command) PSDT() uint8 { return c[1] >> 6 }

// CID returns the command id.
func (c *Command) CID() uint16 { return binary.LittleEndian.Uint16(c[2:]) }

// NSID returns the namespace id.
func (c *Command) NSID() uint32 { return binary.LittleEndian.Uint32(c[4:]) }

// CDW returns command dword n, 0 to 15.
func (c *Command) CDW(n int) uint32 { return binary.LittleEndian.Uint32(c[n*4:]) }

// Host returns the id of the host that a command is of, as SetHost has put it there;
// zeros: it says none.
func (c *Command) Host() [16]byte { return [16]byte(c[8:24]) }

// SetHost says of which host a command is, to a controller that takes the word of the
// sender for it. The id takes dwords 2 to 5: 2 and 3 are reserved in commands without
// end-to-end protection, and 4 and 5 (the metadata pointer) over Fabrics, which has no
// separate metadata.
func (c *Command) SetHost(id [16]byte) { copy(c[8:24], id[:]) }

// SLBA returns the starting block of an I/O command (dwords 10 and 11).
func (c *Command) SLBA() uint64 { return binary.LittleEndian.Uint64(c[40:]) }

// Blocks returns the number of blocks of an I/O command, 1 to 65536 (dword 12
// bits 15:0 plus one).
func (c *Command) Blocks() uint32 { return uint32(binary.LittleEndian.Uint16(c[48:])) + 1 }

// SGL returns the command's SGL descriptor.
func (c *Command) SGL() SGL { return DecodeSGL(c[24:40]) }

// Init clears the command and sets opcode, namespace and the SGL form that
// Fabrics demands. The command id is SetCID's.
func (c *Command) Init(op Opcode, nsid uint32) {
	*c = Command{}
	c[0] = byte(op)
	c[1] = 1 << 6
	binary.LittleEndian.PutUint32(c[4:], nsid)
}

// SetCID sets the command id.
func (c *Command) SetCID(id uint16) { binary.LittleEndian.PutUint16(c[2:], id) }

// SetFused sets the fuse bits.
func (c *Command) SetFused(f uint8) { c[1] = c[1]&^3 | f&3 }

// SetCDW sets command dword n.
func (c *Command) SetCDW(n int, v uint32) { binary.LittleEndian.PutUint32(c[n*4:], v) }

// SetLBA sets start and length of an I/O command; blocks is 1 to 65536.
func (c *Command) SetLBA(slba uint64, blocks uint32) {
	binary.LittleEndian.PutUint64(c[40:], slba)
	binary.LittleEndian.PutUint16(c[48:], uint16(blocks-1))
}

// SetSGL sets the command's SGL descriptor.
func (c *Command) SetSGL(s SGL) { s.Put(c[24:40]) }

// SGL types and sub-types (base 2.0, figures 113 and 114), as they stand in
// byte 15 of a descriptor: type in bits 7:4, sub-type in bits 3:0.
const (
	SGLInCapsule uint8 = 0x01 // data block at an offset in the capsule
	SGLTransport uint8 = 0x5a // transport data block: data moves by the transport's own means
)

// SGL is a descriptor of a data block (base 2.0, section 4.1.2.1).
type SGL struct {
	Address uint64 // in-capsule: offset in bytes from the start of the data in the capsule
	Length  uint32 // bytes
	ID      uint8  // type and sub-type
}

// DecodeSGL reads a descriptor from b[:16]; the caller checks ID.
func DecodeSGL(b []byte) SGL {
	_ = b[15]
	return SGL{Address: binary.LittleEndian.Uint64(b), Length: binary.LittleEndian.Uint32(b[8:]), ID: b[15]}
}

// Put writes the descriptor into b[:16].
func (s SGL) Put(b []byte) {
	_ = b[15]
	binary.LittleEndian.PutUint64(b, s.Address)
	binary.LittleEndian.PutUint32(b[8:], s.Length)
	b[12], b[13], b[14], b[15] = 0, 0, 0, s.ID
}

// Completion is a completion queue entry (base 2.0, figure 92).
type Completion struct {
	DW0, DW1 uint32 // command specific; a property's value is DW1:DW0
	SQHead   uint16
	SQID     uint16 // reserved in NVMe over Fabrics
	CID      uint16
	Status   Status
}

// Value returns the 64-bit result in DW1:DW0.
func (c Completion) Value() uint64 { return uint64(c.DW1)<<32 | uint64(c.DW0) }

// DecodeCompletion reads an entry from b[:16].
func DecodeCompletion(b []byte) (Completion, error) {
	if len(b) < CompletionLen {
		return Completion{}, ErrShort
	}
	le := binary.LittleEndian
	return Completion{DW0: le.Uint32(b), DW1: le.Uint32(b[4:]), SQHead: le.Uint16(b[8:]), SQID: le.Uint16(b[10:]),
		CID: le.Uint16(b[12:]), Status: Status(le.Uint16(b[14:]) >> 1)}, nil
}

// PutCompletion writes the entry into b[:16].
func PutCompletion(b []byte, c Completion) {
	_ = b[15]
	le := binary.LittleEndian
	le.PutUint32(b, c.DW0)
	le.PutUint32(b[4:], c.DW1)
	le.PutUint16(b[8:], c.SQHead)
	le.PutUint16(b[10:], c.SQID)
	le.PutUint16(b[12:], c.CID)
	le.PutUint16(b[14:], uint16(c.Status)<<1)
}

// DSMRange is one range of Dataset Management (NVM command set 1.0, figure
// 46).
type DSMRange struct {
	Attributes uint32
	Blocks     uint32
	SLBA       uint64
}

// DSMRangeLen is the length in bytes of a range; at most DSMMaxRanges stand
// in a command.
const (
	DSMRangeLen  = 16
	DSMMaxRanges = 256
)

// DecodeDSMRange reads a range from b[:16].
func DecodeDSMRange(b []byte) (DSMRange, error) {
	if len(b) < DSMRangeLen {
		return DSMRange{}, ErrShort
	}
	le := binary.LittleEndian
	return DSMRange{Attributes: le.Uint32(b), Blocks: le.Uint32(b[4:]), SLBA: le.Uint64(b[8:])}, nil
}

// PutDSMRange writes a range into b[:16].
func PutDSMRange(b []byte, r DSMRange) {
	_ = b[15]
	le := binary.LittleEndian
	le.PutUint32(b, r.Attributes)
	le.PutUint32(b[4:], r.Blocks)
	le.PutUint64(b[8:], r.SLBA)
}
