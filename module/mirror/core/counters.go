package core

import "time"

// Counters count what a core has done.
type Counters struct {
	Copied       uint64 // bytes that were repaired, copied or scrubbed
	IntentWrites uint64 // pages of maps that were written to legs
	Mismatches   uint64 // blocks that scrubs have found to differ
	Joins        uint64 // targets that have become members
	Drops        map[string]uint64
	Held         time.Duration // in which I/O of hosts waited for a leg or for labels
}

// Counters returns what the core has done so far.
func (c *Core) Counters() Counters {
	n := c.counters
	n.Drops = map[string]uint64{}
	for why, times := range c.counters.Drops {
		n.Drops[why] = times
	}
	return n
}

// Add adds what another core has done.
func (n *Counters) Add(o Counters) {
	n.Copied += o.Copied
	n.IntentWrites += o.IntentWrites
	n.Mismatches += o.Mismatches
	n.Joins += o.Joins
	n.Held += o.Held
	for why, times := range o.Drops {
		n.drop(why, times)
	}
}

func (n *Counters) drop(why string, times uint64) {
	if n.Drops == nil {
		n.Drops = map[string]uint64{}
	}
	n.Drops[why] += times
}

// Why a leg was lost, as Lost and status say, and as metrics do.
const (
	NotReached = "it was not reached"
	NotRead    = "a read was not answered"
	NotWritten = "a write was not answered"
	BadRead    = "a read failed on its disk"
	BadWrite   = "a write failed on its disk"
	NoMap      = "its map was not written"
	NoLabel    = "its label was not written"
	WentBack   = "its disk has gone back in time"
	LeftAlone  = "it may lack writes that only legs have which are no members any more; da recover goes on without those"
	Removed    = "its bdev was removed"
	Silent     = "it does not answer"
)

// Reasons are the words of Counters.Drops.
var Reasons = []string{"asked", "media", "path", "removed", "rolled_back", "other"}

// reason is the word for why a leg was lost that is dropped now.
func reason(why string) string {
	switch why {
	case "":
		return "asked"
	case BadRead, BadWrite:
		return "media"
	case NotReached, NotRead, NotWritten, NoMap, NoLabel, Silent:
		return "path"
	case Removed:
		return "removed"
	case WentBack:
		return "rolled_back"
	}
	return "other"
}
