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
	TREQNotRequired  = 2 // no secure channel required
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
	le := binary.LittleEndian
	at := len(b)
	b = append(b, make([]byte, DiscoveryEntryLen*(1+len(entries)))...)
	le.PutUint64(b[at:], generation)
	le.PutUint64(b[at+8:], uint64(len(entries)))
	for _, e := range entries {
		at += DiscoveryEntryLen
		p := b[at:]
		p[0], p[1], p[2], p[3] = e.Trtype, e.Adrfam, e.Subtype, e.TREQ
		le.PutUint16(p[4:], e.PortID)
		le.PutUint16(p[6:], e.CNTLID)
		le.PutUint16(p[8:], e.ASQSZ)
		le.PutUint16(p[10:], e.EFlags)
		putPadded(p[32:64], e.Trsvcid)
		copy(p[256:511], e.SubNQN)
		putPadded(p[512:768], e.Traddr)
	}
	return b
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
