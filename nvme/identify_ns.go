package nvme

import "encoding/binary"

// Bits of NamespaceData's fields.
const (
	NSFEATThin       uint8 = 1 << 0
	NSFEATOptimal    uint8 = 1 << 4 // OPTPERF: the preferred granularities are defined
	NMICShared       uint8 = 1 << 0
	DLFEATZeroes     uint8 = 1      // bits 2:0: deallocated blocks read as zeros
	DLFEATWriteZero  uint8 = 1 << 3 // Write Zeroes may deallocate
	FPISupported     uint8 = 1 << 7
	NSTATReady       uint8 = 1 << 0
	NSATTRProtected  uint8 = 1 << 0 // takes no writes
	RESCAPAll        uint8 = 0xfe   // all reservation types, and "ignore existing key" as of 1.3
	RESCAPPersistent uint8 = 1 << 0 // reservations can be kept over a loss of power
)

// NamespaceData is the Identify Namespace data structure of the NVM command
// set (NVM command set 1.0, figure 97) with its first LBA format.
type NamespaceData struct {
	Size, Capacity, Used uint64 // blocks
	NSFEAT               uint8
	NMIC                 uint8
	RESCAP               uint8
	FPI                  uint8
	DLFEAT               uint8
	NAWUN, NAWUPF, NACWU uint16 // blocks minus one
	NOIOB                uint16 // optimal I/O boundary, blocks
	NPWG, NPWA           uint16 // preferred granularity and alignment of writes, blocks minus one
	NPDG, NPDA           uint16 // of deallocation
	NOWS                 uint16 // optimal size of a write, blocks minus one
	ANAGroup             uint32
	NSATTR               uint8
	NGUID                [16]byte
	EUI64                [8]byte
	BlockShift           uint8  // LBADS: a block has 2^n bytes
	Metadata             uint16 // bytes of metadata per block
	// Epoch is another once the namespace may have lost what it had acknowledged and
	// not flushed; zero: it does not say. It is vendor specific, and vda_tgt's alone:
	// the characters "VDAEPOCH" at byte 384 and the epoch behind them.
	Epoch [16]byte
}

// epochMark stands before the epoch of a namespace.
const epochMark = "VDAEPOCH"

// PutNamespaceData writes d into b[:4096].
func PutNamespaceData(b []byte, d *NamespaceData) {
	b = b[:IdentifyLen]
	clear(b)
	le := binary.LittleEndian
	le.PutUint64(b[0:], d.Size)
	le.PutUint64(b[8:], d.Capacity)
	le.PutUint64(b[16:], d.Used)
	b[24] = d.NSFEAT
	b[30], b[31], b[32], b[33] = d.NMIC, d.RESCAP, d.FPI, d.DLFEAT
	le.PutUint16(b[34:], d.NAWUN)
	le.PutUint16(b[36:], d.NAWUPF)
	le.PutUint16(b[38:], d.NACWU)
	le.PutUint16(b[46:], d.NOIOB)
	le.PutUint16(b[64:], d.NPWG)
	le.PutUint16(b[66:], d.NPWA)
	le.PutUint16(b[68:], d.NPDG)
	le.PutUint16(b[70:], d.NPDA)
	le.PutUint16(b[72:], d.NOWS)
	le.PutUint32(b[92:], d.ANAGroup)
	b[99] = d.NSATTR
	copy(b[104:], d.NGUID[:])
	copy(b[120:], d.EUI64[:])
	le.PutUint32(b[128:], uint32(d.Metadata)|uint32(d.BlockShift)<<16)
	if d.Epoch != ([16]byte{}) {
		copy(b[copy(b[384:], epochMark)+384:], d.Epoch[:])
	}
}

// DecodeNamespaceData reads an Identify Namespace data structure; block size
// and metadata are those of the format in use. A namespace that is not active
// is all zeros.
func DecodeNamespaceData(b []byte) (NamespaceData, error) {
	if len(b) < IdentifyLen {
		return NamespaceData{}, ErrShort
	}
	le := binary.LittleEndian
	format := int(b[26]&15) | int(b[26]>>5&3)<<4
	lbaf := le.Uint32(b[128+4*format:])
	d := NamespaceData{
		Size: le.Uint64(b[0:]), Capacity: le.Uint64(b[8:]), Used: le.Uint64(b[16:]), NSFEAT: b[24],
		NMIC: b[30], RESCAP: b[31], FPI: b[32], DLFEAT: b[33],
		NAWUN: le.Uint16(b[34:]), NAWUPF: le.Uint16(b[36:]), NACWU: le.Uint16(b[38:]), NOIOB: le.Uint16(b[46:]),
		NPWG: le.Uint16(b[64:]), NPWA: le.Uint16(b[66:]), NPDG: le.Uint16(b[68:]), NPDA: le.Uint16(b[70:]), NOWS: le.Uint16(b[72:]),
		ANAGroup: le.Uint32(b[92:]), NSATTR: b[99], NGUID: [16]byte(b[104:120]), EUI64: [8]byte(b[120:128]),
		BlockShift: uint8(lbaf >> 16), Metadata: uint16(lbaf),
	}
	if string(b[384:384+len(epochMark)]) == epochMark {
		d.Epoch = [16]byte(b[384+len(epochMark):])
	}
	return d, nil
}

// NamespaceIndepData is the command set independent Identify Namespace data
// structure (base 2.0, figure 280).
type NamespaceIndepData struct {
	NSFEAT, NMIC, RESCAP, FPI uint8
	ANAGroup                  uint32
	NSATTR                    uint8
	NSTAT                     uint8
}

// PutNamespaceIndepData writes d into b[:4096].
func PutNamespaceIndepData(b []byte, d NamespaceIndepData) {
	clear(b[:IdentifyLen])
	b[0], b[1], b[2], b[3] = d.NSFEAT, d.NMIC, d.RESCAP, d.FPI
	binary.LittleEndian.PutUint32(b[4:], d.ANAGroup)
	b[8], b[14] = d.NSATTR, d.NSTAT
}

// DecodeNamespaceIndepData reads the structure.
func DecodeNamespaceIndepData(b []byte) (NamespaceIndepData, error) {
	if len(b) < IdentifyLen {
		return NamespaceIndepData{}, ErrShort
	}
	return NamespaceIndepData{NSFEAT: b[0], NMIC: b[1], RESCAP: b[2], FPI: b[3],
		ANAGroup: binary.LittleEndian.Uint32(b[4:]), NSATTR: b[8], NSTAT: b[14]}, nil
}

// NamespaceIDs are the names of a namespace in the identification descriptor
// list (base 2.0, figure 277). A zero EUI64, NGUID or UUID is left out.
type NamespaceIDs struct {
	EUI64  [8]byte
	NGUID  [16]byte
	UUID   [16]byte
	CSI    uint8
	HasCSI bool
}

// Descriptor types (NIDT).
const (
	nidtEUI64 = 1
	nidtNGUID = 2
	nidtUUID  = 3
	nidtCSI   = 4
)

// PutNamespaceIDs writes the list into b[:4096].
func PutNamespaceIDs(b []byte, d NamespaceIDs) {
	b = b[:IdentifyLen]
	clear(b)
	put := func(t byte, id ...byte) {
		b[0], b[1] = t, byte(len(id))
		copy(b[4:], id)
		b = b[4+len(id):]
	}
	if d.EUI64 != [8]byte{} {
		put(nidtEUI64, d.EUI64[:]...)
	}
	if d.NGUID != [16]byte{} {
		put(nidtNGUID, d.NGUID[:]...)
	}
	if d.UUID != [16]byte{} {
		put(nidtUUID, d.UUID[:]...)
	}
	if d.HasCSI {
		put(nidtCSI, d.CSI)
	}
}

// DecodeNamespaceIDs reads the list; unknown descriptors are skipped.
func DecodeNamespaceIDs(b []byte) (NamespaceIDs, error) {
	var d NamespaceIDs
	for len(b) >= 4 && b[1] != 0 {
		n := int(b[1])
		if len(b) < 4+n {
			return d, ErrShort
		}
		id := b[4 : 4+n]
		switch {
		case b[0] == nidtEUI64 && n == 8:
			d.EUI64 = [8]byte(id)
		case b[0] == nidtNGUID && n == 16:
			d.NGUID = [16]byte(id)
		case b[0] == nidtUUID && n == 16:
			d.UUID = [16]byte(id)
		case b[0] == nidtCSI && n == 1:
			d.CSI, d.HasCSI = id[0], true
		}
		b = b[4+n:]
	}
	return d, nil
}

// DecodeNSList reads an active namespace list: up to 1024 ids, ended by 0.
func DecodeNSList(b []byte) []uint32 {
	var out []uint32
	for len(b) >= 4 && len(out) < 1024 {
		id := binary.LittleEndian.Uint32(b)
		if id == 0 {
			break
		}
		out = append(out, id)
		b = b[4:]
	}
	return out
}
