package nvme

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// PDUType is the first byte of every NVMe/TCP PDU (transport 1.0, section
// 3.6.1).
type PDUType uint8

// The PDU types.
const (
	PDUICReq       PDUType = 0x00
	PDUICResp      PDUType = 0x01
	PDUH2CTermReq  PDUType = 0x02
	PDUC2HTermReq  PDUType = 0x03
	PDUCapsuleCmd  PDUType = 0x04
	PDUCapsuleResp PDUType = 0x05
	PDUH2CData     PDUType = 0x06
	PDUC2HData     PDUType = 0x07
	PDUR2T         PDUType = 0x09
)

// Flags of the common header.
const (
	FlagHDGST   uint8 = 1 << 0 // a header digest follows the header
	FlagDDGST   uint8 = 1 << 1 // a data digest follows the data
	FlagLast    uint8 = 1 << 2 // last data PDU of a transfer
	FlagSuccess uint8 = 1 << 3 // C2HData: the command succeeded, no capsule follows
)

// Lengths in bytes of PDU headers without digests.
const (
	HeaderLen      = 8 // common header
	ICLen          = 128
	TermReqLen     = 24
	CapsuleCmdLen  = HeaderLen + CommandLen
	CapsuleRespLen = HeaderLen + CompletionLen
	DataLen        = 24
	R2TLen         = 24
	DigestLen      = 4
	TermReqMax     = 152 // header and the longest permitted copy of the offending header
)

var pduHeaderLens = [...]uint8{
	PDUICReq: ICLen, PDUICResp: ICLen, PDUH2CTermReq: TermReqLen, PDUC2HTermReq: TermReqLen,
	PDUCapsuleCmd: CapsuleCmdLen, PDUCapsuleResp: CapsuleRespLen,
	PDUH2CData: DataLen, PDUC2HData: DataLen, PDUR2T: R2TLen,
}

var pduNames = [...]string{
	PDUICReq: "ICReq", PDUICResp: "ICResp", PDUH2CTermReq: "H2CTermReq", PDUC2HTermReq: "C2HTermReq",
	PDUCapsuleCmd: "CapsuleCmd", PDUCapsuleResp: "CapsuleResp", PDUH2CData: "H2CData", PDUC2HData: "C2HData", PDUR2T: "R2T",
}

func (t PDUType) String() string {
	if int(t) < len(pduNames) && pduNames[t] != "" {
		return pduNames[t]
	}
	return fmt.Sprintf("PDU type 0x%02x", uint8(t))
}

// HeaderLen returns the length in bytes of the PDU's header without a digest,
// or 0 for an unknown type.
func (t PDUType) HeaderLen() int {
	if int(t) >= len(pduHeaderLens) {
		return 0
	}
	return int(pduHeaderLens[t])
}

// Errors of DecodeHeader. A connection that meets one must be ended with a
// termination request that carries FatalInvalidHeader.
var (
	ErrShort        = errors.New("nvme: input too short")
	ErrPDUType      = errors.New("nvme: unknown PDU type")
	ErrPDUHeaderLen = errors.New("nvme: PDU header length does not fit its type")
	ErrPDULen       = errors.New("nvme: PDU length does not fit its header")
	ErrPDUOffset    = errors.New("nvme: PDU data offset outside the PDU")
	ErrPDUFlags     = errors.New("nvme: PDU flags that its type does not have")
)

// Header is the common header of a PDU (transport 1.0, section 3.6.1):
//
//	byte 0 type, 1 flags, 2 header length, 3 data offset, 7:4 PDU length
type Header struct {
	Type  PDUType
	Flags uint8
	HLen  uint8  // bytes of the header, digest not counted
	PDO   uint8  // bytes from the PDU's start to its data; 0 without data
	PLen  uint32 // bytes of the whole PDU
}

// DecodeHeader reads a common header and checks that lengths, offset and
// flags fit the type: afterwards HLen, the digest and DataLen bytes of data
// lie inside PLen without overlap. It does not know the negotiated limits;
// the caller still compares PLen and digest flags with those.
func DecodeHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, ErrShort
	}
	h := Header{Type: PDUType(b[0]), Flags: b[1], HLen: b[2], PDO: b[3], PLen: binary.LittleEndian.Uint32(b[4:])}
	want := h.Type.HeaderLen()
	if want == 0 {
		return h, ErrPDUType
	}
	if int(h.HLen) != want {
		return h, ErrPDUHeaderLen
	}
	fixed := uint32(want)
	if h.Flags&FlagHDGST != 0 {
		fixed += DigestLen
	}
	if h.PLen < fixed {
		return h, ErrPDULen
	}
	switch h.Type {
	case PDUICReq, PDUICResp:
		if h.Flags != 0 {
			return h, ErrPDUFlags
		}
		if h.PLen != ICLen {
			return h, ErrPDULen
		}
	case PDUH2CTermReq, PDUC2HTermReq:
		if h.Flags != 0 {
			return h, ErrPDUFlags
		}
		if h.PLen > TermReqMax {
			return h, ErrPDULen
		}
	case PDUCapsuleResp, PDUR2T:
		if h.Flags&^FlagHDGST != 0 {
			return h, ErrPDUFlags
		}
		if h.PLen != fixed {
			return h, ErrPDULen
		}
	case PDUCapsuleCmd:
		if h.Flags&^(FlagHDGST|FlagDDGST) != 0 {
			return h, ErrPDUFlags
		}
		return h, h.checkData(fixed)
	case PDUH2CData:
		if h.Flags&^(FlagHDGST|FlagDDGST|FlagLast) != 0 {
			return h, ErrPDUFlags
		}
		return h, h.checkData(fixed)
	case PDUC2HData:
		if h.Flags&^(FlagHDGST|FlagDDGST|FlagLast|FlagSuccess) != 0 {
			return h, ErrPDUFlags
		}
		return h, h.checkData(fixed)
	}
	return h, nil
}

// checkData checks the data part behind fixed bytes of header and digest.
func (h Header) checkData(fixed uint32) error {
	if h.PLen == fixed { // no data; the offset then says nothing
		return nil
	}
	end := h.PLen
	if h.Flags&FlagDDGST != 0 {
		if end < fixed+DigestLen {
			return ErrPDULen
		}
		end -= DigestLen
	}
	if uint32(h.PDO) < fixed || uint32(h.PDO) > end {
		return ErrPDUOffset
	}
	return nil
}

// DataLen returns the bytes of data a CapsuleCmd, H2CData or C2HData carries,
// digests and padding not counted; 0 for other types. h came from
// DecodeHeader.
func (h Header) DataLen() uint32 {
	switch h.Type {
	case PDUCapsuleCmd, PDUH2CData, PDUC2HData:
	default: // their data offset is not looked at
		return 0
	}
	n := uint32(h.HLen)
	if h.Flags&FlagHDGST != 0 {
		n += DigestLen
	}
	if h.PLen == n {
		return 0
	}
	n = h.PLen - uint32(h.PDO)
	if h.Flags&FlagDDGST != 0 {
		n -= DigestLen
	}
	return n
}

// PutHeader writes h into b[:8].
func PutHeader(b []byte, h Header) {
	_ = b[7]
	b[0], b[1], b[2], b[3] = byte(h.Type), h.Flags, h.HLen, h.PDO
	binary.LittleEndian.PutUint32(b[4:], h.PLen)
}

// DataPDU is the header of H2CData and C2HData behind the common header
// (transport 1.0, sections 3.6.2.6 and 3.6.2.7).
type DataPDU struct {
	CID    uint16 // command the data belongs to
	TTag   uint16 // H2CData: the R2T's transfer tag
	Offset uint32 // bytes from the start of the command's data
	Length uint32 // bytes of data in this PDU
}

// DecodeData reads the header of an H2CData or C2HData PDU from its first 24
// bytes.
func DecodeData(b []byte) (DataPDU, error) {
	if len(b) < DataLen {
		return DataPDU{}, ErrShort
	}
	le := binary.LittleEndian
	return DataPDU{CID: le.Uint16(b[8:]), TTag: le.Uint16(b[10:]), Offset: le.Uint32(b[12:]), Length: le.Uint32(b[16:])}, nil
}

// PutData writes d behind the common header into b[8:24].
func PutData(b []byte, d DataPDU) {
	_ = b[23]
	le := binary.LittleEndian
	le.PutUint16(b[8:], d.CID)
	le.PutUint16(b[10:], d.TTag)
	le.PutUint32(b[12:], d.Offset)
	le.PutUint32(b[16:], d.Length)
	le.PutUint32(b[20:], 0)
}

// R2T asks the host for data (transport 1.0, section 3.6.2.8).
type R2T struct {
	CID    uint16
	TTag   uint16
	Offset uint32 // bytes
	Length uint32 // bytes
}

// DecodeR2T reads an R2T PDU from its first 24 bytes.
func DecodeR2T(b []byte) (R2T, error) {
	d, err := DecodeData(b)
	return R2T(d), err
}

// PutR2T writes r behind the common header into b[8:24].
func PutR2T(b []byte, r R2T) { PutData(b, DataPDU(r)) }
