package raid

import "github.com/virtual-disk-array/vda/bdev"

// Level is the way bases are joined, by SPDK's names.
type Level string

// The levels.
const (
	Raid0  Level = "raid0"
	Concat Level = "concat"
)

// geometry maps array blocks to base blocks. It never changes; a resize makes
// a new one.
type geometry struct {
	level Level
	n     uint64   // bases
	shift uint     // log2 of blocks a strip
	sizes []uint64 // blocks that each base contributes
	total uint64   // blocks of the array
}

// newGeometry computes the layout for bases of the given numbers of blocks.
func newGeometry(level Level, stripShift uint, bases []uint64) *geometry {
	g := &geometry{level: level, n: uint64(len(bases)), shift: stripShift, sizes: make([]uint64, len(bases))}
	smallest := ^uint64(0)
	for i, b := range bases {
		g.sizes[i] = b >> stripShift << stripShift
		smallest = min(smallest, g.sizes[i])
	}
	for i := range g.sizes {
		if level == Raid0 {
			g.sizes[i] = smallest
		}
		g.total += g.sizes[i]
	}
	return g
}

// extent is the part of a request that one base serves.
type extent struct {
	base           int
	offset, blocks uint64 // in blocks of the base
}

// extents appends to dst the parts of a range, at most one for a base, in the
// order in which the range first touches them.
func (g *geometry) extents(dst []extent, offset, blocks uint64) []extent {
	if blocks == 0 {
		return dst
	}
	if g.level == Concat {
		return g.concatExtents(dst, offset, blocks)
	}
	mask := uint64(1)<<g.shift - 1
	last := offset + blocks - 1
	firstStrip, lastStrip := offset>>g.shift, last>>g.shift
	for s := firstStrip; s <= lastStrip && s < firstStrip+g.n; s++ {
		// The last strip of the range on the base that holds s.
		e := lastStrip - (lastStrip-s)%g.n
		from := s / g.n << g.shift
		if s == firstStrip {
			from += offset & mask
		}
		to := e/g.n<<g.shift + mask
		if e == lastStrip {
			to = e/g.n<<g.shift + last&mask
		}
		dst = append(dst, extent{base: int(s % g.n), offset: from, blocks: to - from + 1})
	}
	return dst
}

func (g *geometry) concatExtents(dst []extent, offset, blocks uint64) []extent {
	for i := 0; blocks > 0; i++ {
		if offset >= g.sizes[i] {
			offset -= g.sizes[i]
			continue
		}
		n := min(blocks, g.sizes[i]-offset)
		dst = append(dst, extent{base: i, offset: offset, blocks: n})
		offset, blocks = 0, blocks-n
	}
	return dst
}

// run returns how many blocks from offset on lie side by side on one base,
// which base, and where.
func (g *geometry) run(offset uint64) (base int, at, blocks uint64) {
	if g.level == Concat {
		for i, size := range g.sizes {
			if offset < size {
				return i, offset, size - offset
			}
			offset -= size
		}
		return 0, 0, 0
	}
	strip := offset >> g.shift
	in := offset & (1<<g.shift - 1)
	return int(strip % g.n), strip/g.n<<g.shift + in, 1<<g.shift - in
}

// info fills in what the array's description takes from the bases'.
func (g *geometry) info(i *bdev.Info, bases []*bdev.Info) {
	i.BlockSize = bases[0].BlockSize
	i.Blocks = g.total
	i.UnmapZeroes = true
	i.Ops = bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpReset)
	i.Align, i.MaxIO, i.WriteCache, i.OptimalIO, i.UnmapUnit = 0, 0, false, 0, 0
	for _, b := range bases {
		i.Align = max(i.Align, b.Align)
		i.WriteCache = i.WriteCache || b.WriteCache
		i.UnmapZeroes = i.UnmapZeroes && b.UnmapZeroes
		i.UnmapUnit = max(i.UnmapUnit, b.UnmapUnit)
		if b.MaxIO != 0 && (i.MaxIO == 0 || b.MaxIO < i.MaxIO) {
			i.MaxIO = b.MaxIO
		}
		for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite, bdev.OpUnmap, bdev.OpWriteZeroes} {
			if !b.Ops.Has(op) {
				i.Ops &^= bdev.Ops(op)
			}
		}
	}
	if g.level == Raid0 && g.n > 1 {
		i.OptimalIO = 1 << g.shift
		if i.UnmapUnit > i.OptimalIO { // more than a strip: a unit of each base, side by side
			i.UnmapUnit *= uint32(g.n)
		}
	}
}
