package nvme

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// FabricsType is byte 4 of a command with opcode OpFabrics (base 2.0, figure
// 380).
type FabricsType uint8

// The Fabrics command types.
const (
	FabricsPropertySet FabricsType = 0x00
	FabricsConnect     FabricsType = 0x01
	FabricsPropertyGet FabricsType = 0x04
	FabricsAuthSend    FabricsType = 0x05
	FabricsAuthReceive FabricsType = 0x06
	FabricsDisconnect  FabricsType = 0x08
)

// FabricsType returns the type of a Fabrics command.
func (c *Command) FabricsType() FabricsType { return FabricsType(c[4]) }

// InitFabrics clears the command and makes it a Fabrics command.
func (c *Command) InitFabrics(t FabricsType) { c.Init(OpFabrics, uint32(t)) }

// Well-known names and numbers of NVMe over Fabrics.
const (
	DiscoveryNQN       = "nqn.2014-08.org.nvmexpress.discovery"
	NQNMax             = 223    // bytes of a name
	CNTLIDDynamic      = 0xffff // Connect: the controller chooses
	MaxCNTLID          = 0xffef // the highest controller id (base 2.0, section 3.1.1)
	ConnectDataLen     = 1024   // bytes
	ConnectDisableFlow = 1 << 2 // CATTR: submission queue flow control disabled
)

// Connect is the part of the Connect command that stands in the submission
// queue entry (base 2.0, section 6.3).
type Connect struct {
	RecordFormat uint16 // 0
	QID          uint16 // 0 is the admin queue
	SQSize       uint16 // entries minus one
	Attributes   uint8  // CATTR
	KeepAlive    uint32 // KATO in milliseconds; admin queue only
}

// Connect reads the fields of a Connect command.
func (c *Command) Connect() Connect {
	le := binary.LittleEndian
	return Connect{RecordFormat: le.Uint16(c[40:]), QID: le.Uint16(c[42:]), SQSize: le.Uint16(c[44:]), Attributes: c[46],
		KeepAlive: le.Uint32(c[48:])}
}

// SetConnect makes the command a Connect whose data is in the capsule.
func (c *Command) SetConnect(v Connect) {
	c.InitFabrics(FabricsConnect)
	le := binary.LittleEndian
	le.PutUint16(c[40:], v.RecordFormat)
	le.PutUint16(c[42:], v.QID)
	le.PutUint16(c[44:], v.SQSize)
	c[46] = v.Attributes
	le.PutUint32(c[48:], v.KeepAlive)
	c.SetSGL(SGL{Length: ConnectDataLen, ID: SGLInCapsule})
}

// What a completed Connect's DW0 demands above the controller id (base 2.0,
// section 6.3): that the queue authenticates, and that it then becomes secure.
const (
	ConnectAuthRequired          uint32 = 1 << 17 // AUTHREQ.ATR
	ConnectSecureChannelRequired uint32 = 1 << 18 // AUTHREQ.ASCR
)

// Auth is the part of Authentication Send and Receive in the submission queue
// entry (base 2.0, sections 6.1 and 6.2).
type Auth struct {
	Protocol uint8  // SECP
	Specific uint16 // SPSP1 and SPSP0
	Length   uint32 // TL or AL, bytes
}

// What NVMe's own authentication has in these fields.
const (
	AuthProtocol uint8  = 0xe9
	AuthSpecific uint16 = 0x0101
)

// Auth reads the fields of Authentication Send or Receive.
func (c *Command) Auth() Auth {
	return Auth{Protocol: c[43], Specific: binary.LittleEndian.Uint16(c[41:]), Length: binary.LittleEndian.Uint32(c[44:])}
}

// SetAuthSend makes the command an Authentication Send of length bytes.
func (c *Command) SetAuthSend(length uint32) { c.setAuth(FabricsAuthSend, length) }

// SetAuthReceive makes the command an Authentication Receive of at most length
// bytes.
func (c *Command) SetAuthReceive(length uint32) { c.setAuth(FabricsAuthReceive, length) }

func (c *Command) setAuth(t FabricsType, length uint32) {
	c.InitFabrics(t)
	binary.LittleEndian.PutUint16(c[41:], AuthSpecific)
	c[43] = AuthProtocol
	binary.LittleEndian.PutUint32(c[44:], length)
}

// ConnectData is the data of a Connect command.
type ConnectData struct {
	HostID  [16]byte
	CNTLID  uint16
	SubNQN  string
	HostNQN string
}

// Offsets in bytes of ConnectData's fields; a refused Connect names one in
// its completion, see ConnectError.
const (
	ConnectOffHostID  = 0
	ConnectOffCNTLID  = 16
	ConnectOffSubNQN  = 256
	ConnectOffHostNQN = 512
)

// ErrNQN is a name that is empty, unterminated, too long or not printable.
var ErrNQN = errors.New("nvme: NQN is not a terminated printable string of 1 to 223 bytes")

// PutConnectData writes d into b[:1024]. Names longer than NQNMax are cut;
// check them first.
func PutConnectData(b []byte, d ConnectData) {
	clear(b[:ConnectDataLen])
	copy(b, d.HostID[:])
	binary.LittleEndian.PutUint16(b[ConnectOffCNTLID:], d.CNTLID)
	copy(b[ConnectOffSubNQN:ConnectOffSubNQN+NQNMax], d.SubNQN)
	copy(b[ConnectOffHostNQN:ConnectOffHostNQN+NQNMax], d.HostNQN)
}

// DecodeConnectData reads the data of a Connect command. On a bad name the
// other fields are set and the error wraps ErrNQN.
func DecodeConnectData(b []byte) (ConnectData, error) {
	if len(b) < ConnectDataLen {
		return ConnectData{}, ErrShort
	}
	var d ConnectData
	copy(d.HostID[:], b)
	d.CNTLID = binary.LittleEndian.Uint16(b[ConnectOffCNTLID:])
	var subErr, hostErr error
	d.SubNQN, subErr = decodeNQN(b[ConnectOffSubNQN : ConnectOffSubNQN+256])
	d.HostNQN, hostErr = decodeNQN(b[ConnectOffHostNQN : ConnectOffHostNQN+256])
	if subErr != nil {
		return d, fmt.Errorf("subsystem name: %w", subErr)
	}
	if hostErr != nil {
		return d, fmt.Errorf("host name: %w", hostErr)
	}
	return d, nil
}

func decodeNQN(b []byte) (string, error) {
	n := bytes.IndexByte(b, 0)
	if n <= 0 || n > NQNMax {
		return "", ErrNQN
	}
	for _, c := range b[:n] {
		if c < 0x20 || c == 0x7f {
			return "", ErrNQN
		}
	}
	return string(b[:n]), nil
}

// CheckNQN reports what is wrong with a name that is to be sent, or nil.
func CheckNQN(nqn string) error {
	switch {
	case nqn == "":
		return fmt.Errorf("NQN is empty")
	case len(nqn) > NQNMax:
		return fmt.Errorf("NQN of %d bytes; at most %d are allowed", len(nqn), NQNMax)
	case !strings.HasPrefix(nqn, "nqn."):
		return fmt.Errorf("NQN %q does not start with \"nqn.\"", nqn)
	}
	for _, c := range []byte(nqn) {
		if c < 0x20 || c == 0x7f {
			return fmt.Errorf("NQN %q has a control character", nqn)
		}
	}
	return nil
}

// ConnectParam makes DW0 of a Connect completion with status
// ConnectInvalidParam: the offset in bytes of the bad field, in the data or
// in the submission queue entry.
func ConnectParam(offset uint16, inData bool) uint32 {
	v := uint32(offset)
	if inData {
		v |= 1 << 16
	}
	return v
}

// Offsets of controller properties (base 2.0, section 3.1.3).
const (
	PropCAP  uint32 = 0x00 // 8 bytes
	PropVS   uint32 = 0x08
	PropCC   uint32 = 0x14
	PropCSTS uint32 = 0x1c
	PropNSSR uint32 = 0x20
	PropCRTO uint32 = 0x68 // time-outs until ready: with media in bits 15:0, without in 31:16, units of 500 ms
)

// Property is the part of Property Get and Set in the submission queue entry
// (base 2.0, sections 6.6 and 6.7).
type Property struct {
	Eight  bool   // 8 bytes; else 4
	Offset uint32 // bytes
	Value  uint64 // Set only
}

// Property reads the fields of Property Get or Set. Sizes other than 4 and 8
// bytes are refused.
func (c *Command) Property() (Property, error) {
	if c[40]&7 > 1 {
		return Property{}, fmt.Errorf("nvme: property size code %d is neither 0 nor 1", c[40]&7)
	}
	le := binary.LittleEndian
	p := Property{Eight: c[40]&7 == 1, Offset: le.Uint32(c[44:]), Value: le.Uint64(c[48:])}
	if !p.Eight {
		p.Value &= 0xffffffff
	}
	return p, nil
}

// SetPropertyGet makes the command a Property Get.
func (c *Command) SetPropertyGet(offset uint32, eight bool) {
	c.InitFabrics(FabricsPropertyGet)
	c.setProperty(Property{Eight: eight, Offset: offset})
}

// SetPropertySet makes the command a Property Set.
func (c *Command) SetPropertySet(p Property) {
	c.InitFabrics(FabricsPropertySet)
	c.setProperty(p)
}

func (c *Command) setProperty(p Property) {
	if p.Eight {
		c[40] = 1
	}
	binary.LittleEndian.PutUint32(c[44:], p.Offset)
	binary.LittleEndian.PutUint64(c[48:], p.Value)
}

// Capabilities is the CAP property (base 2.0, figure 36).
type Capabilities struct {
	MaxQueueEntries uint32 // MQES + 1
	Contiguous      bool   // CQR, always set for Fabrics
	ReadyTimeout    uint8  // TO, units of 500 ms
	Stride          uint8  // DSTRD
	NVMCommandSet   bool   // CSS bit 0
	MinPage         uint8  // MPSMIN, page of 2^(12+n) bytes
	MaxPage         uint8  // MPSMAX
	ReadyWithMedia  bool   // CRMS bit 0: the time until ready is CRTO's
}

// Encode returns the property's value.
func (c Capabilities) Encode() uint64 {
	v := uint64(c.MaxQueueEntries-1)&0xffff | uint64(c.ReadyTimeout)<<24 | uint64(c.Stride&15)<<32 |
		uint64(c.MinPage&15)<<48 | uint64(c.MaxPage&15)<<52
	if c.Contiguous {
		v |= 1 << 16
	}
	if c.NVMCommandSet {
		v |= 1 << 37
	}
	if c.ReadyWithMedia {
		v |= 1 << 59
	}
	return v
}

// DecodeCapabilities splits the property's value.
func DecodeCapabilities(v uint64) Capabilities {
	return Capabilities{MaxQueueEntries: uint32(v&0xffff) + 1, Contiguous: v>>16&1 != 0, ReadyTimeout: uint8(v >> 24),
		Stride: uint8(v>>32) & 15, NVMCommandSet: v>>37&1 != 0, MinPage: uint8(v>>48) & 15, MaxPage: uint8(v>>52) & 15,
		ReadyWithMedia: v>>59&1 != 0}
}

// Version makes the VS property: major in bits 31:16, minor in 15:8, tertiary
// in 7:0.
func Version(major uint16, minor, tertiary uint8) uint32 {
	return uint32(major)<<16 | uint32(minor)<<8 | uint32(tertiary)
}

// Values in the CC and CSTS properties (base 2.0, figures 46 and 47).
const (
	CCEnable           uint32 = 1 << 0
	CCCommandSetMask   uint32 = 7 << 4  // CSS: 0 is NVM
	CCPageMask         uint32 = 15 << 7 // MPS: memory pages of 2^(12+n) bytes
	CCArbitrationMask  uint32 = 7 << 11 // AMS: 0 is round robin
	CCShutdownMask     uint32 = 3 << 14
	CCShutdownNormal   uint32 = 1 << 14
	CCShutdownAbrupt   uint32 = 2 << 14
	CCEntrySizes       uint32 = 6<<16 | 4<<20 // IOSQES 64 bytes, IOCQES 16 bytes
	CCEntrySizesMask   uint32 = 0xff << 16
	CCReadyNoMedia     uint32 = 1 << 24 // CRIME: ready before the media are
	CSTSReady          uint32 = 1 << 0
	CSTSFatal          uint32 = 1 << 1
	CSTSShutdownMask   uint32 = 3 << 2
	CSTSShutdownActive uint32 = 1 << 2
	CSTSShutdownDone   uint32 = 2 << 2
)
