package nvme

import (
	"encoding/binary"
	"fmt"
)

// ANAGroup is a group descriptor of the ANA log (base 2.0, figure 220).
type ANAGroup struct {
	ID      uint32
	Changes uint64
	State   uint8 // 1 optimized, 2 non-optimized, 3 inaccessible, 4 persistent loss, 15 change
	NSIDs   []uint32
}

// ANAOnlyGroups (LSP bit 0) asks for the ANA log without namespace ids.
const ANAOnlyGroups = 1

// AppendANALog appends the ANA log to b.
func AppendANALog(b []byte, changes uint64, groups []ANAGroup, onlyGroups bool) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, changes)
	b = le.AppendUint16(b, uint16(len(groups)))
	b = append(b, 0, 0, 0, 0, 0, 0)
	for _, g := range groups {
		n := len(g.NSIDs)
		if onlyGroups {
			n = 0
		}
		b = le.AppendUint32(b, g.ID)
		b = le.AppendUint32(b, uint32(n))
		b = le.AppendUint64(b, g.Changes)
		b = append(b, g.State, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		for _, id := range g.NSIDs[:n] {
			b = le.AppendUint32(b, id)
		}
	}
	return b
}

// DecodeANALog reads an ANA log.
func DecodeANALog(b []byte) (changes uint64, groups []ANAGroup, err error) {
	if len(b) < 16 {
		return 0, nil, ErrShort
	}
	le := binary.LittleEndian
	changes = le.Uint64(b)
	n := int(le.Uint16(b[8:]))
	b = b[16:]
	for i := range n {
		if len(b) < 32 {
			return changes, groups, fmt.Errorf("nvme: ANA log ends in group %d of %d: %w", i+1, n, ErrShort)
		}
		g := ANAGroup{ID: le.Uint32(b), Changes: le.Uint64(b[8:]), State: b[16] & 15}
		ids := le.Uint32(b[4:])
		b = b[32:]
		if uint64(len(b)) < 4*uint64(ids) {
			return changes, groups, fmt.Errorf("nvme: ANA log ends in the namespaces of group %d: %w", g.ID, ErrShort)
		}
		for range ids {
			g.NSIDs = append(g.NSIDs, le.Uint32(b))
			b = b[4:]
		}
		groups = append(groups, g)
	}
	return changes, groups, nil
}
