package monitor

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/virtual-disk-array/vda/store"
)

// roster is what a monitor knows of the others. No clock is compared with
// another machine's: a monitor is alive while its beat in SQL changes, and
// takes itself for dead when it could not change its own for StaleAfter, which
// is less than the Lease after which the others do.
type roster struct {
	self  string
	lease time.Duration
	// overlap is how much longer than the lease the nodes of a newcomer stay
	// where they are: it looks once a Refresh, and so do we.
	overlap time.Duration

	joined time.Time // when our row was made
	acting bool      // since then
	last   map[string]sighting
}

type sighting struct {
	beat  uint64
	at    time.Time // when it changed, by our clock
	since time.Time // when the row was new; zero: it was there before us

	weighed  bool // halvings holds what counts now
	halvings int
	says     int // what its row says
	saidAt   time.Time
}

func newRoster(self string, lease, overlap time.Duration) *roster {
	return &roster{self: self, lease: lease, overlap: overlap, last: map[string]sighting{}}
}

// observe takes the rows as they were read at now, and returns the ids of the
// monitors that share the nodes, and those of rows so old that they can go. One
// that has just joined shares them from when it acts, a lease later, so that
// no node is nobody's.
func (r *roster) observe(now time.Time, rows []store.Monitor) (alive, dead []string) {
	here := map[string]bool{}
	first := len(r.last) == 0
	for _, m := range rows {
		here[m.ID] = true
		s, known := r.last[m.ID]
		if !known && !first && m.ID != r.self {
			s.since = now
		}
		if !known || s.beat != m.Beat {
			s.beat, s.at = m.Beat, now
			r.last[m.ID] = s
		}
		switch age := now.Sub(s.at); {
		case age <= r.lease && now.Sub(s.since) <= r.lease+r.overlap:
		case age <= r.lease:
			alive = append(alive, m.ID)
		case age > 10*r.lease && m.ID != r.self:
			dead = append(dead, m.ID)
		}
	}
	for id := range r.last {
		if !here[id] {
			delete(r.last, id)
		}
	}
	return alive, dead
}

// join notes that our row is new.
func (r *roster) join(now time.Time) { r.joined, r.acting = now, false }

// mayAct reports whether a monitor that joined has waited long enough: the
// others share with it by then, and those that do not beat any more are told
// apart. One that is alone needn't wait.
func (r *roster) mayAct(now time.Time, rows int) bool {
	r.acting = r.acting || rows <= 1 || now.Sub(r.joined) > r.lease
	return r.acting
}

// owner is the monitor that a node belongs to: the one of the highest hash of
// both (rendezvous hashing), scaled by shares. When a monitor goes, only its nodes
// move, and when its share becomes another, only nodes from it or to it. Pure.
func owner(monitors []share, node string) string {
	best, at := uint64(0), ""
	for _, m := range monitors {
		sum := sha256.Sum256([]byte(m.id + "/" + node))
		if h := scaled(binary.BigEndian.Uint64(sum[:8]), m.halvings); at == "" || h > best || h == best && m.id < at {
			best, at = h, m.id
		}
	}
	return at
}
