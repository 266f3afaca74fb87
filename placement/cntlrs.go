package placement

import (
	"cmp"
	"slices"

	"github.com/virtual-disk-array/vda"
)

// CN is a controller node that may take controllers: online and healthy.
type CN struct {
	ID        string
	Name      string
	Location  string // "" is a location of its own
	Cntlrs    uint32 // controllers placed here
	Primaries uint32 // of them primary
}

// Cntlr is one chosen place; its index in the slice is the controller's.
type Cntlr struct {
	CNID    string
	Primary bool
}

// AnotherCntlr is the cn of free for one more controller of an array that has
// controllers on those of taken: in a location of which the array uses the
// fewest, then with the fewest controllers. "" when none is free.
func AnotherCntlr(free, taken []CN) string {
	used := map[string]int{}
	for _, c := range taken {
		used[locationOf(c.Location, c.ID)]++
	}
	if len(free) == 0 {
		return ""
	}
	return slices.MinFunc(free, func(a, b CN) int {
		return cmp.Or(cmp.Compare(used[locationOf(a.Location, a.ID)], used[locationOf(b.Location, b.ID)]),
			cmp.Compare(a.Cntlrs, b.Cntlrs), cmp.Compare(a.Primaries, b.Primaries), cmp.Compare(a.Name, b.Name))
	}).ID
}

// Cntlrs places n controllers on distinct cns. The strings are what could not
// be spread, one sentence each. The error is vda.ResourceExhausted.
func Cntlrs(cns []CN, n int, strict Strictness) ([]Cntlr, []string, error) {
	if n > len(cns) {
		return nil, nil, vda.Errorf(vda.ResourceExhausted,
			"%s asked for, each on a cn of its own, but the cluster has %s online and healthy", count(n, "controller"), count(len(cns), "cn"))
	}
	rest := slices.Clone(cns)
	slices.SortFunc(rest, func(a, b CN) int {
		return cmp.Or(cmp.Compare(a.Cntlrs, b.Cntlrs), cmp.Compare(a.Primaries, b.Primaries), cmp.Compare(a.Name, b.Name))
	})
	perLocation := map[string]int{}
	var chosen []CN
	for range n {
		// rest is in order of preference, so the first of the least used
		// location is the best.
		best := 0
		for i := range rest {
			if perLocation[locationOf(rest[i].Location, rest[i].ID)] < perLocation[locationOf(rest[best].Location, rest[best].ID)] {
				best = i
			}
		}
		chosen = append(chosen, rest[best])
		perLocation[locationOf(rest[best].Location, rest[best].ID)]++
		rest = slices.Delete(rest, best, best+1)
	}

	slices.SortFunc(chosen, func(a, b CN) int { return cmp.Compare(a.Name, b.Name) })
	primary := 0
	for i := range chosen {
		if c := cmp.Or(cmp.Compare(chosen[i].Primaries, chosen[primary].Primaries), cmp.Compare(chosen[i].Cntlrs,
			chosen[primary].Cntlrs)); c < 0 {
			primary = i
		}
	}
	out := make([]Cntlr, n)
	for i := range chosen {
		out[i] = Cntlr{CNID: chosen[i].ID, Primary: i == primary}
	}
	if len(perLocation) == n {
		return out, nil, nil
	}
	if strict {
		return nil, nil, vda.Errorf(vda.ResourceExhausted,
			"--strict asks for %d locations for %s, but online cns are in %s only", n, count(n, "controller"), count(len(perLocation), "location"))
	}
	return out, []string{"the " + count(n, "controller") + " lie in " + count(len(perLocation), "location") +
		": no other location has an online cn"}, nil
}
