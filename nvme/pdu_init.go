package nvme

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrPDUVersion is an initialization PDU of a format other than 0.
var ErrPDUVersion = errors.New("nvme: PDU format version is not 0")

// ICReq opens a connection (transport 1.0, section 3.6.2.1).
type ICReq struct {
	HPDA         uint8 // data alignment the host asks for, (HPDA+1)*4 bytes
	HeaderDigest bool
	DataDigest   bool
	MaxR2T       uint32 // R2Ts the host takes at once for a command, minus one
}

// ICResp answers ICReq (transport 1.0, section 3.6.2.2).
type ICResp struct {
	CPDA         uint8 // data alignment the controller asks for, (CPDA+1)*4 bytes
	HeaderDigest bool
	DataDigest   bool
	MaxH2CData   uint32 // bytes of data the controller takes in one H2CData PDU, at least 4096
}

func digestBits(hdr, data bool) (v uint8) {
	if hdr {
		v |= 1
	}
	if data {
		v |= 2
	}
	return v
}

func putIC(b []byte, t PDUType, pda, digests uint8, v uint32) {
	clear(b[:ICLen])
	PutHeader(b, Header{Type: t, HLen: ICLen, PLen: ICLen})
	b[10], b[11] = pda, digests
	binary.LittleEndian.PutUint32(b[12:], v)
}

func decodeIC(b []byte, t PDUType) error {
	if len(b) < ICLen {
		return ErrShort
	}
	h, err := DecodeHeader(b)
	if err != nil {
		return err
	}
	if h.Type != t {
		return fmt.Errorf("nvme: %v where %v was expected", h.Type, t)
	}
	if binary.LittleEndian.Uint16(b[8:]) != 0 {
		return ErrPDUVersion
	}
	return nil
}

// PutICReq writes the whole PDU into b[:128].
func PutICReq(b []byte, r ICReq) {
	putIC(b, PDUICReq, r.HPDA, digestBits(r.HeaderDigest, r.DataDigest), r.MaxR2T)
}

// DecodeICReq reads the whole PDU. HPDA above 31 is the caller's to refuse.
func DecodeICReq(b []byte) (ICReq, error) {
	if err := decodeIC(b, PDUICReq); err != nil {
		return ICReq{}, err
	}
	return ICReq{HPDA: b[10], HeaderDigest: b[11]&1 != 0, DataDigest: b[11]&2 != 0, MaxR2T: binary.LittleEndian.Uint32(b[12:])}, nil
}

// PutICResp writes the whole PDU into b[:128].
func PutICResp(b []byte, r ICResp) {
	putIC(b, PDUICResp, r.CPDA, digestBits(r.HeaderDigest, r.DataDigest), r.MaxH2CData)
}

// DecodeICResp reads the whole PDU.
func DecodeICResp(b []byte) (ICResp, error) {
	if err := decodeIC(b, PDUICResp); err != nil {
		return ICResp{}, err
	}
	return ICResp{CPDA: b[10], HeaderDigest: b[11]&1 != 0, DataDigest: b[11]&2 != 0, MaxH2CData: binary.LittleEndian.Uint32(b[12:])}, nil
}

// FatalStatus says why a connection is terminated (transport 1.0, figures 29
// and 31).
type FatalStatus uint16

// The fatal error statuses.
const (
	FatalInvalidHeader  FatalStatus = 1 // FEI: offset in bytes of the bad header field
	FatalSequence       FatalStatus = 2
	FatalHeaderDigest   FatalStatus = 3 // FEI: the digest received
	FatalDataRange      FatalStatus = 4 // data outside the command's or the R2T's range
	FatalLimitExceeded  FatalStatus = 5 // host: too many R2Ts; controller: data above MAXH2CDATA
	FatalUnsupportedPar FatalStatus = 6 // FEI: offset in bytes of the parameter
)

func (f FatalStatus) String() string {
	switch f {
	case FatalInvalidHeader:
		return "invalid PDU header field"
	case FatalSequence:
		return "PDU sequence error"
	case FatalHeaderDigest:
		return "header digest error"
	case FatalDataRange:
		return "data transfer out of range"
	case FatalLimitExceeded:
		return "limit exceeded"
	case FatalUnsupportedPar:
		return "unsupported parameter"
	}
	return fmt.Sprintf("fatal error status 0x%x", uint16(f))
}

// TermReq ends a connection (transport 1.0, sections 3.6.2.3 and 3.6.2.4).
type TermReq struct {
	Status FatalStatus
	Info   uint32 // FEI
	Header []byte // header of the offending PDU as received, at most 128 bytes
}

// PutTermReq writes an H2CTermReq or C2HTermReq into b, which holds at least
// TermReqMax bytes, and returns its length. Header is cut to 128 bytes.
func PutTermReq(b []byte, t PDUType, r TermReq) int {
	clear(b[:TermReqLen])
	n := TermReqLen + copy(b[TermReqLen:TermReqMax], r.Header)
	PutHeader(b, Header{Type: t, HLen: TermReqLen, PLen: uint32(n)})
	binary.LittleEndian.PutUint16(b[8:], uint16(r.Status))
	binary.LittleEndian.PutUint32(b[10:], r.Info)
	return n
}

// DecodeTermReq reads a whole termination request of either direction. Header
// is a part of b.
func DecodeTermReq(b []byte) (TermReq, error) {
	h, err := DecodeHeader(b)
	if err != nil {
		return TermReq{}, err
	}
	if h.Type != PDUH2CTermReq && h.Type != PDUC2HTermReq {
		return TermReq{}, ErrPDUType
	}
	if int(h.PLen) > len(b) {
		return TermReq{}, ErrShort
	}
	le := binary.LittleEndian
	return TermReq{Status: FatalStatus(le.Uint16(b[8:])), Info: le.Uint32(b[10:]), Header: b[TermReqLen:h.PLen]}, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UpdateDigest adds data to a running digest that starts at 0. The result is
// the value of a header or data digest (transport 1.0, section 3.3.1.1).
func UpdateDigest(d uint32, data []byte) uint32 { return crc32.Update(d, castagnoli, data) }

// PutDigest writes the digest d into b[:4].
func PutDigest(b []byte, d uint32) { binary.LittleEndian.PutUint32(b, d) }

// Digest reads a digest as received from b[:4].
func Digest(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
