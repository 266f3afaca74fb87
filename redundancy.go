package vda

// Redundancy is how the vds of a group hold its data, and so which of them the
// group can lose and still be read and written. What an array tolerates is
// decided here and nowhere else.
type Redundancy uint8

// The redundancies.
const (
	Striped Redundancy = iota // raid0: each vd has data that no other has
)

// Tolerates reports whether a group of n vds keeps all its data without those
// that are lost, by their Idx.
func (r Redundancy) Tolerates(n int, lost func(idx int) bool) bool {
	for idx := range n {
		if lost(idx) {
			return false
		}
	}
	return true
}

// Usable reports whether an array can be read and written: it can when each of
// its groups tolerates the loss of the vds that are not there. The vds of a
// group are in the order of Idx.
func Usable[V any](r Redundancy, groups [][]V, there func(V) bool) bool {
	for _, vds := range groups {
		if !r.Tolerates(len(vds), func(idx int) bool { return !there(vds[idx]) }) {
			return false
		}
	}
	return true
}
