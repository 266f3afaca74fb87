package monitor

import (
	"math/bits"
	"time"

	"github.com/virtual-disk-array/vda/store"
)

// A monitor whose machine has no processor to spare hears its nodes late, and others would
// hear them in time. It says so in its row, and has half of a share of the nodes then, or a
// quarter. It goes down and up by halves, and no faster than it can be seen what came of it.
// All monitors that are equally slow have equal shares.

// share is a monitor that shares the nodes, and by how many halvings it has fewer of them.
type share struct {
	id       string
	halvings int
}

const (
	// paceWindow is how long a monitor looks at itself before it changes its share.
	paceWindow = 30 * time.Second
	// slowPart and wellPart are parts of that time for which it was held up: from the one on
	// it gives nodes away, below the other it is well.
	slowPart, wellPart = 4, 20 // a quarter, a twentieth
	// paceWell is how many windows it has to be well until it takes nodes again.
	paceWell = 4
	// maxHalvings bounds what it gives away: the others may be busy as well.
	maxHalvings = 2
)

// pace is how a monitor judges itself. Its zero value has not begun.
type pace struct {
	halvings int
	began    time.Time     // the window
	held     time.Duration // for how long it had been held up then, in all
	well     int           // windows in a row
}

// look takes for how long the monitor has been held up until now, in all. It reports that
// halvings has changed.
func (p *pace) look(now time.Time, held time.Duration) (changed bool) {
	length := now.Sub(p.began)
	if p.began.IsZero() {
		length = 0
	} else if length < paceWindow {
		return false
	}
	part, was := held-p.held, p.halvings
	first := p.began.IsZero()
	p.began, p.held = now, held
	switch {
	case first:
	case part >= length/slowPart:
		p.halvings, p.well = min(p.halvings+1, maxHalvings), 0
	case part >= length/wellPart:
		p.well = 0
	default:
		if p.well++; p.well >= paceWell && p.halvings > 0 {
			p.halvings, p.well = p.halvings-1, 0
		}
	}
	return p.halvings != was
}

// weigh returns the shares of the monitors alive. Who is to give nodes away does so when the
// others have had time to read that: until then both watch them, and no node is
// nobody's. While a monitor of before shares the nodes, which knows of no halvings, all
// count the same.
func (r *roster) weigh(now time.Time, rows []store.Monitor, alive []string) []share {
	shares := make([]share, len(alive))
	for i, id := range alive {
		shares[i].id = id
	}
	said := map[string]int{}
	for i := range rows {
		said[rows[i].ID] = rows[i].Halvings
	}
	for _, id := range alive {
		if said[id] < 0 {
			return shares
		}
	}
	for i, id := range alive {
		s := r.last[id]
		says := said[id]
		takes := says < s.halvings
		switch {
		case !s.weighed || takes == (id == r.self):
			// A newcomer; we take nodes; or another gives some away, which are ours from now on.
			s.halvings, s.weighed, s.says = says, true, says
		case says != s.says:
			s.says, s.saidAt = says, now
		}
		if s.says != s.halvings && now.Sub(s.saidAt) > r.overlap {
			s.halvings = s.says
		}
		r.last[id] = s
		shares[i].halvings = s.halvings
	}
	return shares
}

// scaled is a hash of a monitor and a node, as the highest wins, of one with a smaller
// share: of two monitors, the one with half of a share wins a third of the nodes.
func scaled(hash uint64, halvings int) uint64 {
	for range halvings {
		hash, _ = bits.Mul64(hash, hash)
	}
	return hash
}
