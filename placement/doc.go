// Package placement decides where the pieces of a disk array go: its vds onto
// pds, its controllers onto cns. It is pure: a snapshot of candidates in, a
// choice and a report out. It knows no database and no clock, and the same
// snapshot gives the same choice whatever the order of its rows.
//
// # Vds
//
// The vds of one group are spread over distinct locations first, over distinct
// dns next, over distinct pds last; the same pd is used twice only when
// nothing else has room. Where there are fewer locations than vds, every
// location gets its share before one gets more. Among equals the pd with the
// most free bytes wins.
//
// # Legs
//
// The legs of a column of a mirrored array are on distinct dns, always: that is
// refused, not warned of. They are in distinct locations where all columns can be,
// and Strict refuses where they cannot. Within that, the columns are spread like
// vds. A place that another column cannot do without is left to it, so a choice is
// found whenever there is one. A leg that replaces another keeps both rules.
//
// # Controllers
//
// Two controllers of an array never share a cn: that is refused, not warned
// of. Locations are spread as far as possible, and among equals the cn with
// the fewest controllers wins. Indexes follow the names of the chosen cns, so
// that arrays on the same cns number their controllers alike; the primary goes
// to the chosen cn that has the fewest primaries.
//
// # Locations
//
// A location is a failure domain: a rack, a room, a power feed. A node with an
// empty location is a location of its own.
//
// # Cost
//
// A choice costs vds × pds, or controllers × cns, or legs × pds as long as there
// is room; near a full cluster up to as much for each dn that is passed over. The number of arrays in the
// cluster does not appear.
package placement

// Strictness says what to do when an array cannot be spread over as many
// locations as it has pieces.
type Strictness bool

const (
	// BestEffort spreads as far as the cluster allows and reports the rest.
	BestEffort Strictness = false
	// Strict refuses.
	Strict Strictness = true
)

// locationOf is the failure domain of a node: its location, or the node itself
// when it has none. The prefixes keep a location that happens to be named like
// a node's id apart from that node.
func locationOf(location, nodeID string) string {
	if location == "" {
		return "node " + nodeID
	}
	return "location " + location
}
