package disk

import "slices"

const (
	piece   = 64 << 10  // bytes that are read at once
	edge    = 1 << 20   // bytes at either end that are read in full
	small   = 16 << 20  // bytes of a disk that is read as a whole
	fullRun = 256 << 20 // bytes of data of a file that are read in full

	// Samples is the number of places between the ends.
	Samples = 256
	// maxMarks bounds the marks of extents: a file with that many places that
	// hold data is not blank.
	maxMarks = 512
)

// place is a part of a disk to read, bytes.
type place struct{ off, n uint64 }

// edges are the places at both ends of a disk.
func edges(size uint64) []place {
	all := places(size)
	return slices.DeleteFunc(all, func(p place) bool { return p.off >= edge && p.off+edge+4096 < size })
}

// places returns where to look on a disk of that many bytes, in order and
// without overlaps.
func places(size uint64) []place {
	var all []place
	next := uint64(0) // what lies before is covered
	add := func(from, to uint64) {
		for off := max(from, next); off < min(to, size); off = next {
			next = min(off+piece, to, size)
			all = append(all, place{off, next - off})
		}
	}
	if size <= small {
		add(0, size)
		return all
	}
	add(0, edge)
	tail := (size - edge) &^ (4096 - 1)
	power := uint64(edge)
	for i := uint64(1); i < Samples; i++ {
		at := size / Samples * i &^ (piece - 1)
		for ; power <= at; power *= 2 {
			if power < tail {
				add(power, power+piece)
			}
		}
		if at < tail {
			add(at, at+piece)
		}
	}
	for ; power < tail; power *= 2 {
		add(power, power+piece)
	}
	add(tail, size)
	return all
}
