package vda

import (
	"slices"
	"strconv"
)

// Redundancy is how many vds hold each block of an array: the legs of a column of
// its stripe.
type Redundancy uint8

// The redundancies.
const (
	Striped Redundancy = 1 // each vd has data that no other has: "none"
	Mirror2 Redundancy = 2
	Mirror3 Redundancy = 3
)

// ParseRedundancy reads what a user said; "" is Striped.
func ParseRedundancy(field, text string) (Redundancy, error) {
	for r := Striped; r <= Mirror3; r++ {
		if text == r.String() {
			return r, nil
		}
	}
	if text == "" {
		return Striped, nil
	}
	return 0, invalid("%s %q is unknown: it must be none, mirror:2 or mirror:3", field, Shorten(text, 40))
}

// String is the redundancy as ParseRedundancy reads it.
func (r Redundancy) String() string {
	if r <= Striped {
		return "none"
	}
	return "mirror:" + strconv.Itoa(int(r))
}

// Mirrored reports that columns stand on mirrors.
func (r Redundancy) Mirrored() bool { return r > Striped }

// Usable reports whether an array can be read and written: each of its columns,
// which are given by their members, needs one that is there. What an array
// tolerates is decided here and nowhere else.
func Usable[V any](columns [][]V, there func(V) bool) bool {
	for _, members := range columns {
		if left(members, there) == 0 {
			return false
		}
	}
	return true
}

func left[V any](members []V, there func(V) bool) (n int) {
	for _, v := range members {
		if there(v) {
			n++
		}
	}
	return n
}

// RedundancyState is how much of its redundancy an array has.
type RedundancyState string

// The states, the best first. An array has the worst of its columns'.
const (
	RedundancyFull RedundancyState = "full"
	Rebuilding     RedundancyState = "rebuilding" // a member is missing, and a target is copied to
	Degraded       RedundancyState = "degraded"   // a member is missing
	SingleLeg      RedundancyState = "single"     // one member is left
	RedundancyDown RedundancyState = "down"       // a column has no member that is well
)

var redundancyStates = []RedundancyState{RedundancyFull, Rebuilding, Degraded, SingleLeg, RedundancyDown}

// StateOf is the state of an array whose columns are these; "" of one that is
// striped.
func (r Redundancy) StateOf(columns []Column) RedundancyState {
	if !r.Mirrored() {
		return ""
	}
	worst := 0
	for i := range columns {
		worst = max(worst, r.rank(&columns[i]))
	}
	return redundancyStates[worst]
}

// rank is where the state of a column stands in redundancyStates.
func (r Redundancy) rank(c *Column) int {
	copied := slices.ContainsFunc(c.Legs, (*VD).Copied)
	switch well := left(c.Of(Member), func(v *VD) bool { return !v.Health.Error && !v.Copied() }); {
	case well == 0:
		return 4
	case well >= int(r):
		return 0
	case copied:
		return 1
	case well == 1:
		return 3
	}
	return 2
}
