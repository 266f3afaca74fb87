package monitor

import (
	"cmp"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
)

// CNView is what a monitor knows of one of its cns.
type CNView struct {
	ID       string
	Up, Down bool          // neither before the first heartbeats
	Lease    time.Duration // for which its primaries may go on still, whatever has become of it
	Moving   bool          // a failover is under way
	Offline  bool          // the administrator has taken it out
}

// PlanLeave says which cns primaries are to leave because they are down, and
// which because they are to be drained. Those of a cn that is down go when its
// lease has ended: again is when the first does, 0 for none. Pure.
func PlanLeave(cns []CNView) (down, draining []string, again time.Duration) {
	for _, c := range cns {
		switch {
		case c.Moving:
		case c.Down && c.Lease > 0:
			if again == 0 || c.Lease < again {
				again = c.Lease
			}
		case c.Down:
			down = append(down, c.ID)
		case c.Up && c.Offline:
			draining = append(draining, c.ID)
		}
	}
	slices.Sort(down)
	slices.Sort(draining)
	return down, draining, again
}

// ArrayView is an array whose primary is on a node that is down, or that is
// to be drained.
type ArrayView struct {
	ID          string
	Term        uint64
	Columns     [][]string // of each column of its stripe the dns that its members are on
	Secondaries []SecondaryView
}

// usable reports whether the array could be assembled from the dns for which
// there is true.
func (a *ArrayView) usable(there func(dn string) bool) bool {
	return vda.Usable(a.Columns, there)
}

// SecondaryView is a controller that can become primary.
type SecondaryView struct {
	ID, CN    string
	Primaries int  // on that cn
	Draining  bool // the cn is to have no primaries
}

// PlanMoves chooses new primaries. up says which nodes are known to answer.
// An array stays where it is when none of its secondaries is up, or it is not
// usable with the dns that are: it could not be assembled elsewhere either, and a
// monitor that is itself cut off moves nothing. Arrays spread over their secondaries' cns so
// that none gets more primaries than needed. planned says that the old primary
// is well; its arrays stay rather than move to another node that is drained.
// Pure.
func PlanMoves(arrays []ArrayView, up func(node string) bool, planned bool) []array.Move {
	load := map[string]int{}
	for _, a := range arrays {
		for _, s := range a.Secondaries {
			load[s.CN] = s.Primaries
		}
	}
	var moves []array.Move
	for _, a := range arrays {
		if !a.usable(up) {
			continue
		}
		live := slices.DeleteFunc(slices.Clone(a.Secondaries), func(s SecondaryView) bool { return !up(s.CN) })
		if len(live) == 0 {
			continue
		}
		to := slices.MinFunc(live, func(x, y SecondaryView) int {
			return cmp.Or(compareBool(x.Draining, y.Draining), cmp.Compare(load[x.CN], load[y.CN]), cmp.Compare(x.ID, y.ID))
		})
		if planned && to.Draining {
			continue // nowhere better
		}
		load[to.CN]++
		moves = append(moves, array.Move{DAID: a.ID, Term: a.Term, To: to.ID, Planned: planned})
	}
	return moves
}

// batch is how many arrays move together. The first ones needn't wait until
// the last of a thousand is recorded.
const batch = 128

// PlanBatches says which moves go together, one batch after the other. Arrays with a
// member on a dn that does not answer come last and by themselves: their new primary is
// told when that dn has had its time to fence it (syncer.Config.FenceTimeout), and so is
// every other in their batch. Pure.
func PlanBatches(moves []array.Move, arrays []ArrayView, up func(node string) bool) [][]array.Move {
	waits := map[string]bool{}
	for _, a := range arrays {
		waits[a.ID] = slices.ContainsFunc(a.Columns, func(dns []string) bool {
			return slices.ContainsFunc(dns, func(dn string) bool { return !up(dn) })
		})
	}
	late := slices.DeleteFunc(slices.Clone(moves), func(m array.Move) bool { return !waits[m.DAID] })
	first := slices.DeleteFunc(slices.Clone(moves), func(m array.Move) bool { return waits[m.DAID] })
	return slices.AppendSeq(slices.Collect(slices.Chunk(first, batch)), slices.Chunk(late, batch))
}

// compareBool orders false before true.
func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}
