package vda

// How far a version or a term may lie ahead of the one that a node holds. A
// leap beyond is no cluster's doing, and would lock the node out for ever: no
// portal could give a higher one.
const (
	// MaxVersionAhead is 256 times what accepting a restored database adds.
	MaxVersionAhead = 1 << 40
	// MaxTermAhead is 4,294 times that.
	MaxTermAhead = 1 << 32
	// FirstVersionMax is above all first versions of nodes, which are clocks in
	// milliseconds: it is reached in the year 2109.
	FirstVersionMax = 1 << 42
)

// TooFar reports that a version or term is more than ahead above held.
func TooFar(next, held, ahead uint64) bool { return next > held && next-held > ahead }
