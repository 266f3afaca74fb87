package cn

import (
	"context"
	"slices"
	"strings"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// spaceInterval is how often it is looked at how full arrays are.
const spaceInterval = 2 * time.Second

// watchSpace looks at how full the lvstores of this node's primaries are, which
// heartbeats say, until ctx ends.
func (a *Agent) watchSpace(ctx context.Context) {
	for sleep(ctx, spaceInterval) == nil {
		if a.Plane.Ready() != nil || !a.serves() {
			continue
		}
		if l, err := a.Plane.BdevLvolGetLvstores(ctx); err == nil { // or else the heartbeat says so
			a.noteSpace(l)
		}
	}
}

// serves reports that this node has a primary.
func (a *Agent) serves() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.standings) > 0
}

// noteSpace keeps what the data plane says of lvstores of arrays.
func (a *Agent) noteSpace(l []spdk.Lvstore) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.space = make(map[string]spdk.Lvstore, len(l))
	for i := range l {
		if id, ours := strings.CutPrefix(l[i].Name, daPrefix); ours {
			a.space[id] = l[i]
		}
	}
}

// spaces is what a heartbeat says of them, in the order of arrays.
func (a *Agent) spaces() (all []*apiv1.SpaceState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.standings {
		c := a.set.cntlrs[id]
		if s, known := a.space[c.DaId]; known && !c.Deleted {
			all = append(all, &apiv1.SpaceState{DaId: c.DaId, Term: c.Term, TotalBytes: s.TotalDataClusters * s.ClusterSize,
				FreeBytes: s.FreeClusters * s.ClusterSize})
		}
	}
	slices.SortFunc(all, func(x, y *apiv1.SpaceState) int { return strings.Compare(x.DaId, y.DaId) })
	return all
}
