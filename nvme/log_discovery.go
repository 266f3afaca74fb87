package nvme

import "encoding/binary"

// Values of discovery log entries (base 2.0, figure 264).
const (
	TrtypeTCP        = 3
	AdrfamIPv4       = 1
	AdrfamIPv6       = 2
	SubtypeReferral  = 1
	SubtypeNVM       = 2
	SubtypeDiscovery = 3 // this discovery subsystem itself
	TREQNone         = 0 // no word on secure channels; older hosts take 2, "not required", for a wish for TLS
)

// Bits of an entry's EFLAGS, for a discovery subsystem.
const (
	EFlagsDuplicate  uint16 = 1 << 0 // DUPRETINFO: through all entries of the subsystem the log is the same
	EFlagsPersistent uint16 = 1 << 1 // EPCSD: hosts may stay connected
)

// DiscoveryEntry is an entry of the discovery log.
type DiscoveryEntry struct {
	Trtype, Adrfam, Subtype, TREQ uint8
	PortID, CNTLID                uint16
	ASQSZ                         uint16 // largest admin queue
	EFlags                        uint16
	Trsvcid, SubNQN, Traddr       string
}

// DiscoveryEntryLen is the length in bytes of an entry and of the log's
// header.
const DiscoveryEntryLen = 1024

// AppendDiscoveryLog appends the discovery log to b.
func AppendDiscoveryLog(b []byte, generation uint64, entries []DiscoveryEntry) []byte {
	at := len(b)
	b = append(b, make([]byte, DiscoveryEntryLen*(1+len(entries)))...)
	PutDiscoveryHeader(b[at:], generation, uint64(len(entries)))
	for _, e := range entries {
		at += DiscoveryEntryLen
		PutDiscoveryEntry(b[at:], e)
	}
	return b
}

// PutDiscoveryHeader writes what comes before the log's entries into b[:1024].
func PutDiscoveryHeader(b []byte, generation, entries uint64) {
	clear(b[:DiscoveryEntryLen])
	binary.LittleEndian.PutUint64(b, generation)
	binary.LittleEndian.PutUint64(b[8:], entries)
}

// PutDiscoveryEntry writes an entry into b[:1024].
func PutDiscoveryEntry(b []byte, e DiscoveryEntry) {
	b = b[:DiscoveryEntryLen]
	clear(b)
	le := binary.LittleEndian
	b[0], b[1], b[2], b[3] = e.Trtype, e.Adrfam, e.Subtype, e.TREQ
	le.PutUint16(b[4:], e.PortID)
	le.PutUint16(b[6:], e.CNTLID)
	le.PutUint16(b[8:], e.ASQSZ)
	le.PutUint16(b[10:], e.EFlags)
	putPadded(b[32:64], e.Trsvcid)
	copy(b[256:511], e.SubNQN)
	putPadded(b[512:768], e.Traddr)
}

// DecodeDiscoveryLog reads the log as far as b reaches; total is the number
// of entries it has.
func DecodeDiscoveryLog(b []byte) (generation, total uint64, entries []DiscoveryEntry, err error) {
	if len(b) < 16 {
		return 0, 0, nil, ErrShort
	}
	le := binary.LittleEndian
	generation, total = le.Uint64(b), le.Uint64(b[8:])
	for i := uint64(0); i < total && len(b) >= 2*DiscoveryEntryLen; i++ {
		b = b[DiscoveryEntryLen:]
		entries = append(entries, DiscoveryEntry{
			Trtype: b[0], Adrfam: b[1], Subtype: b[2], TREQ: b[3],
			PortID: le.Uint16(b[4:]), CNTLID: le.Uint16(b[6:]), ASQSZ: le.Uint16(b[8:]), EFlags: le.Uint16(b[10:]),
			Trsvcid: trimmed(b[32:64]), SubNQN: trimmed(b[256:512]), Traddr: trimmed(b[512:768]),
		})
	}
	return generation, total, entries, nil
}
