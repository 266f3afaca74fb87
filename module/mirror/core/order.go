package core

import "slices"

// access is how an I/O uses its range.
type access uint8

const (
	shares  access = iota // a read of a member
	copies                // a read of a member, and a write of a target, which nobody reads
	changes               // a write, or a read that repairs
)

// beside reports that two I/Os of one range may run at the same time.
func (a access) beside(b access) bool {
	return a != changes && b != changes && (a == shares || b == shares)
}

// order keeps, by region, the I/Os that run or wait, in the order of their
// submission. An I/O starts when nothing before it in its regions is in its way,
// so overlapping I/Os have one order, and none waits for ever.
type order struct {
	lists map[int][]*IO
}

func (o *order) enter(io *IO) {
	for r := io.first; r <= io.last; r++ {
		o.lists[r] = append(o.lists[r], io)
	}
}

func (o *order) leave(io *IO) {
	for r := io.first; r <= io.last; r++ {
		l := o.lists[r]
		if i := slices.Index(l, io); i >= 0 {
			l = slices.Delete(l, i, i+1)
		}
		if len(l) == 0 {
			delete(o.lists, r)
		} else {
			o.lists[r] = l
		}
	}
}

// free reports that nothing is in io's way.
func (o *order) free(io *IO) bool {
	for r := io.first; r <= io.last; r++ {
		for _, before := range o.lists[r] {
			if before == io {
				break
			}
			if before.overlaps(io) && !before.access.beside(io.access) {
				return false
			}
		}
	}
	return true
}

// busy reports that something runs or waits in a region.
func (o *order) busy(region int) bool { return len(o.lists[region]) > 0 }
