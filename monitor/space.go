package monitor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// How often the database learns how full arrays are: at once of one that has moved by
// a hundredth of its size, from time to time of others.
const (
	spacePeriod = 30 * time.Second
	spaceBatch  = 128 // arrays per transaction
)

// spaceNoted is what was recorded of an array, and when.
type spaceNoted struct {
	report array.SpaceReport
	at     time.Time
}

// spaceReports are what a reply says, in the order of arrays.
func spaceReports(spaces []*apiv1.SpaceState) []array.SpaceReport {
	var all []array.SpaceReport
	for _, s := range spaces {
		all = append(all, array.SpaceReport{DAID: s.DaId, Term: s.Term,
			Space: vda.Space{Total: s.TotalBytes, Used: s.TotalBytes - min(s.FreeBytes, s.TotalBytes)}})
	}
	slices.SortFunc(all, func(x, y array.SpaceReport) int { return strings.Compare(x.DAID, y.DAID) })
	return slices.CompactFunc(all, func(x, y array.SpaceReport) bool { return x.DAID == y.DAID })
}

// news reports that the database has to hear of a report now.
func (was spaceNoted) news(r array.SpaceReport, now time.Time) bool {
	old := was.report
	switch {
	case old.Term != r.Term, old.Space.Total != r.Space.Total:
		return true
	case old == r:
		return false
	}
	moved := max(old.Space.Used, r.Space.Used) - min(old.Space.Used, r.Space.Used)
	return moved*100 >= r.Space.Total || r.Space.Free() == 0 || now.Sub(was.at) >= spacePeriod
}

// startNotingSpace records what the last reply said of how full arrays are, where that
// is news.
func (n *node) startNotingSpace(ctx context.Context, running *sync.WaitGroup) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down || n.notingSpace || !n.m.Ready() {
		return
	}
	now := time.Now()
	var news []array.SpaceReport
	for _, r := range n.spaces {
		if n.spaceNoted[r.DAID].news(r, now) {
			news = append(news, r)
		}
	}
	if len(news) == 0 {
		return
	}
	n.notingSpace = true
	running.Go(func() {
		noted := n.noteSpace(ctx, news)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.notingSpace = false
		kept := map[string]spaceNoted{}
		for _, r := range n.spaces { // of those that have left, nothing is kept
			if was, known := n.spaceNoted[r.DAID]; known {
				kept[r.DAID] = was
			}
		}
		for _, r := range noted {
			kept[r.DAID] = spaceNoted{r, now}
		}
		n.spaceNoted = kept
	})
}

// noteSpace records reports and returns those that were.
func (n *node) noteSpace(ctx context.Context, news []array.SpaceReport) (noted []array.SpaceReport) {
	for batch := range slices.Chunk(news, spaceBatch) {
		if err := n.m.cfg.Store.Update(ctx, func(tx store.Tx) error { return array.NoteSpace(tx, batch) }); err != nil {
			if ctx.Err() == nil {
				n.m.metrics.storeErrors.Inc()
				n.m.log.Warn("how full arrays are is not recorded", "node", n.at.Name, "err", err)
			}
			return noted
		}
		noted = append(noted, batch...)
	}
	return noted
}
