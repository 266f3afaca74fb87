package label

import (
	"encoding/binary"
	"math/bits"
)

const (
	// PageRegions is how many regions a page of the map is about.
	PageRegions = (SlotSize - pageHead) * 8
	// MaxRegions is how many regions a leg can have.
	MaxRegions = 1 << 18
	// MaxPages is how many pages the map of a leg can have.
	MaxPages = (MaxRegions + PageRegions - 1) / PageRegions

	pageHead = 16

	// minRegion is the size of a region in bytes, of a leg of up to 1 TiB.
	minRegion = 4 << 20
)

// RegionSize returns the bytes per region of a leg with so many bytes of data:
// 4 MiB up to 1 TiB, and twice as much for each doubling above.
func RegionSize(data uint64) uint64 {
	size := uint64(minRegion)
	for Regions(data, size) > MaxRegions {
		size *= 2
	}
	return size
}

// Regions returns how many regions so many bytes of data have.
func Regions(data, region uint64) uint64 { return (data-1)/region + 1 }

// PageOffset returns the offset in the tail of a page of the map.
func PageOffset(page int) int64 { return 2*SlotSize + int64(page)*SlotSize }

// Pages returns how many pages a map of so many regions has.
func Pages(regions int) int { return (regions + PageRegions - 1) / PageRegions }

// PageOf returns the page that a region's bit is in.
func PageOf(region int) int { return region / PageRegions }

// Map is a bit per region. The zero Map is of no regions.
type Map struct {
	words   []uint64
	regions int
	ones    int
}

// NewMap returns a map of so many regions without a bit set.
func NewMap(regions int) *Map {
	return &Map{words: make([]uint64, (regions+63)/64), regions: regions}
}

// Len returns the number of regions.
func (m *Map) Len() int { return m.regions }

// Count returns how many bits are set.
func (m *Map) Count() int { return m.ones }

// Has reports whether a region's bit is set.
func (m *Map) Has(r int) bool { return m.words[r/64]>>(r%64)&1 != 0 }

// Set sets a region's bit.
func (m *Map) Set(r int) {
	if !m.Has(r) {
		m.words[r/64] |= 1 << (r % 64)
		m.ones++
	}
}

// Clear clears a region's bit.
func (m *Map) Clear(r int) {
	if m.Has(r) {
		m.words[r/64] &^= 1 << (r % 64)
		m.ones--
	}
}

// SetAll sets all bits.
func (m *Map) SetAll() {
	for r := range m.regions {
		m.Set(r)
	}
}

// Or sets the bits that other has; both are of the same regions.
func (m *Map) Or(other *Map) {
	m.ones = 0
	for i, w := range other.words {
		m.words[i] |= w
		m.ones += bits.OnesCount64(m.words[i])
	}
}

// Next returns the first region from r on whose bit is set, -1 for none.
func (m *Map) Next(r int) int {
	for i := r / 64; i < len(m.words); i++ {
		w := m.words[i]
		if i == r/64 {
			w &= ^uint64(0) << (r % 64)
		}
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// EncodePage writes a page of a mirror's map to b, which has SlotSize bytes.
func (m *Map) EncodePage(b []byte, mirror ID, page int) {
	clear(b[:SlotSize])
	le := binary.LittleEndian
	le.PutUint32(b[4:], uint32(page))
	copy(b[8:16], mirror[:8])
	from := page * PageRegions
	for r := m.Next(from); r >= 0 && r < from+PageRegions; r = m.Next(r + 1) {
		b[pageHead+(r-from)/8] |= 1 << ((r - from) % 8)
	}
	le.PutUint32(b, sum(b[:SlotSize], 0))
}

// DecodePage sets the bits of a page as it stands on a leg. A page that is not
// whole, or of another mirror, counts as all ones, and DecodePage returns false.
func (m *Map) DecodePage(b []byte, mirror ID, page int) bool {
	le := binary.LittleEndian
	whole := len(b) == SlotSize && le.Uint32(b) == sum(b, 0) && le.Uint32(b[4:]) == uint32(page) && string(b[8:16]) == string(mirror[:8])
	from := page * PageRegions
	for r := from; r < min(from+PageRegions, m.regions); r++ {
		if !whole || b[pageHead+(r-from)/8]>>((r-from)%8)&1 != 0 {
			m.Set(r)
		}
	}
	return whole
}
