package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
)

// Mirrors places the legs of n columns, each of so many legs with data bytes of
// data and vda.LegTail behind it. The strings are what could not be spread, one
// sentence each. The error is vda.ResourceExhausted.
func Mirrors(pds []PD, n, legs int, data uint64, strict Strictness) ([]Column, []string, error) {
	size := data + vda.LegTail
	byLocation := newColumns(pds, size, n, legs, func(s *slot) string { return s.location })
	if byLocation.feasible(n) {
		return byLocation.place(data), nil, nil
	}
	byDN := newColumns(pds, size, n, legs, func(s *slot) string { return s.pd.DNID })
	if !byDN.feasible(n) {
		return nil, nil, byDN.noRoom(size)
	}
	missing := fmt.Sprintf("the %d legs of a column are not all in distinct locations: %s", legs, byLocation.rooms("location", size))
	if strict {
		return nil, nil, vda.Errorf(vda.ResourceExhausted, "--strict asks for %d locations for the legs of each column, but %s", legs,
			byLocation.rooms("location", size))
	}
	return byDN.place(data), []string{missing}, nil
}

// columns are the columns of a mirrored array while they are being placed. No two
// legs of a column get into one unit, which is a dn or a location.
type columns struct {
	n, legs int
	slots   []slot // in the order of names
	unit    []string
	room    map[string]int // how many legs a unit has room for still

	perLocation, perDN map[string]int // legs of all columns
}

func newColumns(pds []PD, size uint64, n, legs int, unit func(*slot) string) *columns {
	c := &columns{n: n, legs: legs, slots: newSlots(pds, size), room: map[string]int{}, perLocation: map[string]int{}, perDN: map[string]int{}}
	for i := range c.slots {
		s := &c.slots[i]
		u := unit(s)
		c.unit = append(c.unit, u)
		if fit := s.free / s.need; fit > 0 { // no more than matters: it is counted in an int
			c.room[u] += int(min(fit, uint64(n)))
		}
	}
	return c
}

// feasible reports whether k whole columns still have room. A unit takes a leg of
// each column at most; as long as what the units take adds up to all legs, the
// columns that take the roomiest units first come out.
func (c *columns) feasible(k int) bool {
	total := 0
	for _, r := range c.room {
		total += min(r, k)
	}
	return total >= k*c.legs
}

// rest reports whether the open column, which is in the units of taken, and k whole
// ones can be placed still.
func (c *columns) rest(taken map[string]bool, k int) bool {
	open := c.legs - len(taken)
	var free []int
	total := 0
	for u, r := range c.room {
		total += min(r, k)
		if r > 0 && !taken[u] {
			free = append(free, r)
		}
	}
	if len(free) < open {
		return false
	}
	slices.SortFunc(free, func(a, b int) int { return cmp.Compare(b, a) })
	for _, r := range free[:open] {
		total -= min(r, k) - min(r-1, k)
	}
	return total >= k*c.legs
}

// place places all columns, which is feasible.
func (c *columns) place(data uint64) []Column {
	out := make([]Column, c.n)
	for i := range out {
		taken, here := map[string]bool{}, map[string]int{} // units and locations of this column
		out[i].Data = data
		for range c.legs {
			s, u := c.next(taken, here, c.n-i-1)
			taken[u] = true
			here[s.location]++
			out[i].Legs = append(out[i].Legs, VD{PDID: s.pd.ID, DNID: s.pd.DNID, Clusters: s.need, Size: s.need * s.pd.ClusterSize})
		}
	}
	return out
}

// next takes the best place for a leg of the open column that leaves room for the
// rest of it and for k more columns.
func (c *columns) next(taken map[string]bool, here map[string]int, k int) (*slot, string) {
	blocked := map[string]bool{} // units that have to be kept for other columns
	for {
		best := -1
		for i := range c.slots {
			s := &c.slots[i]
			if s.free < s.need || taken[c.unit[i]] || blocked[c.unit[i]] {
				continue
			}
			if best < 0 || c.better(s, &c.slots[best], here) {
				best = i
			}
		}
		s, u := &c.slots[best], c.unit[best]
		c.room[u]--
		taken[u] = true
		if c.rest(taken, k) {
			s.free -= s.need
			s.used++
			c.perLocation[s.location]++
			c.perDN[s.pd.DNID]++
			c.recount(u)
			return s, u
		}
		c.room[u]++
		delete(taken, u)
		blocked[u] = true
	}
}

// recount counts what a unit has room for after a leg went there.
func (c *columns) recount(unit string) {
	c.room[unit] = 0
	for i := range c.slots {
		if c.unit[i] == unit {
			c.room[unit] += int(min(c.slots[i].free/c.slots[i].need, uint64(c.n)))
		}
	}
}

// better reports whether a is a better place for a leg than b: in a location that
// the column, whose legs are here, is not in yet, then as with vds.
func (c *columns) better(a, b *slot, here map[string]int) bool {
	if x, y := here[a.location], here[b.location]; x != y {
		return x < y
	}
	return preferred(a, b, c.perLocation, c.perDN)
}

// rooms says how many units have room for a leg, and when those are enough for one
// column, for how many of all they are.
func (c *columns) rooms(noun string, size uint64) string {
	with := 0
	for _, r := range c.room {
		if r > 0 {
			with++
		}
	}
	text := fmt.Sprintf("%s an online pd with %d bytes free", has(with, noun), size)
	if with < c.legs {
		return text
	}
	most := c.n - 1
	for most > 0 && !c.feasible(most) {
		most--
	}
	return fmt.Sprintf("%s, which is room for %d of %s", text, most, count(c.n, "column"))
}

func (c *columns) noRoom(size uint64) error {
	if len(c.slots) == 0 {
		return noRoom(c.slots, c.n*c.legs, size, 0)
	}
	return vda.Errorf(vda.ResourceExhausted, "%s of %d bytes asked for, the %d of a column on %d dns, but %s", count(c.n*c.legs, "leg"), size,
		c.legs, c.legs, c.rooms("dn", size))
}

// has is "1 dn has", "2 dns have".
func has(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " has"
	}
	return fmt.Sprintf("%d %ss have", n, noun)
}

// Leg is where a leg of a column is.
type Leg struct {
	DNID     string
	Location string // of the dn
	Leaving  bool   // the new leg is to replace it
}

// AnotherLeg places one more leg of a column with data bytes of data: on a dn that
// has none of the column's legs, not even the one that leaves, and in a location
// that none of those which stay is in, as long as there is one with room. The
// string is what could not be spread, "" when all was. The error is
// vda.ResourceExhausted.
func AnotherLeg(pds []PD, column []Leg, data uint64) (VD, string, error) {
	size := data + vda.LegTail
	dns, here := map[string]bool{}, map[string]int{}
	for _, l := range column {
		dns[l.DNID] = true
		if !l.Leaving {
			here[locationOf(l.Location, l.DNID)]++
		}
	}
	others := slices.DeleteFunc(slices.Clone(pds), func(p PD) bool { return dns[p.DNID] })
	c := newColumns(others, size, 1, 1, func(s *slot) string { return s.pd.DNID })
	if !c.feasible(1) {
		return VD{}, "", vda.Errorf(vda.ResourceExhausted, "a leg of %d bytes asked for, on another dn than the %d that have legs of its "+
			"column, but none has an online pd with so much free", size, len(dns))
	}
	s, _ := c.next(map[string]bool{}, here, 0)
	vd := VD{PDID: s.pd.ID, DNID: s.pd.DNID, Clusters: s.need, Size: s.need * s.pd.ClusterSize}
	if here[s.location] == 0 {
		return vd, "", nil
	}
	return vd, fmt.Sprintf("the new leg is in a location that another leg of its column is in: no other location has an online pd "+
		"with %d bytes free", size), nil
}
