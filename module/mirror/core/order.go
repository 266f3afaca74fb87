package core

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
// submission. An I/O starts when nothing before it in its range is in its way,
// so overlapping I/Os have one order, and none waits for ever. Regions share
// lists, which costs a look at I/Os of others.
type order struct {
	lists [lists]struct{ first, last *link }
}

const lists = 256

// link is the place of an I/O in one list.
type link struct {
	io         *IO
	prev, next *link
}

// links is where an I/O stands in the lists of its regions; most have one or two.
type links struct {
	few  [2]link
	many []link
}

// of returns the links of an I/O, as many as it has regions, or lists if there are
// more regions.
func (s *links) of(io *IO) []link {
	n := min(io.last-io.first+1, lists)
	if n <= len(s.few) {
		return s.few[:n]
	}
	if s.many == nil {
		s.many = make([]link, n)
	}
	return s.many
}

func (o *order) enter(io *IO) {
	of := io.links.of(io)
	for i := range of {
		l, list := &of[i], &o.lists[(io.first+i)%lists]
		l.io, l.prev = io, list.last
		if l.prev == nil {
			list.first = l
		} else {
			l.prev.next = l
		}
		list.last = l
	}
}

func (o *order) leave(io *IO) {
	of := io.links.of(io)
	for i := range of {
		l, list := &of[i], &o.lists[(io.first+i)%lists]
		if l.prev == nil {
			list.first = l.next
		} else {
			l.prev.next = l.next
		}
		if l.next == nil {
			list.last = l.prev
		} else {
			l.next.prev = l.prev
		}
	}
	io.links = links{}
}

// free reports that nothing is in io's way.
func (o *order) free(io *IO) bool {
	of := io.links.of(io)
	for i := range of {
		for l := of[i].prev; l != nil; l = l.prev {
			if l.io.overlaps(io) && !l.io.access.beside(io.access) {
				return false
			}
		}
	}
	return true
}

// busy reports that something runs or waits in a region.
func (o *order) busy(region int) bool {
	for l := o.lists[region%lists].first; l != nil; l = l.next {
		if l.io.first <= region && region <= l.io.last {
			return true
		}
	}
	return false
}
