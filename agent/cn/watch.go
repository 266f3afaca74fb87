package cn

import (
	"context"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// watchInterval is how often connections are looked at. It must be well below
// plane.ProxyFastIOFail: a path has to be made inaccessible before the I/O that
// waits for a lost primary fails, or hosts would meet an error on a path that
// looks well.
const watchInterval = 200 * time.Millisecond

// maxWatchPause bounds the pause after a look that took long. A data plane that
// was hung for longer is looked at again at once: what SPDK holds is tried
// within a second.
const maxWatchPause = 500 * time.Millisecond

// watch kicks a controller's unit when one of its connections, to a vd or to
// the primary, is lost or comes back, and stops primaries without a lease that
// have lost a vd, until ctx ends. On a data plane with many connections it
// takes no more than a twentieth of the time, up to maxWatchPause.
func (a *Agent) watch(ctx context.Context) {
	well, closed := map[string]bool{}, map[string]bool{}
	pause := watchInterval
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = watchInterval
		a.endStandBys()
		if a.Plane.Ready() != nil || !a.connects() {
			continue
		}
		begin := time.Now()
		l, err := a.Plane.BdevNvmeGetControllers(ctx)
		if err == nil {
			closed, err = a.closedPaths(ctx, closed)
		}
		if took := time.Since(begin); took < time.Second {
			pause = max(pause, min(20*took, maxWatchPause))
		} else {
			pause = 0 // it was hung
		}
		if err != nil {
			continue // the heartbeat says so
		}
		now := make(map[string]bool, len(l))
		changed := map[string]bool{}
		for i := range l {
			name := l[i].Name
			now[name] = l[i].Connected() && !closed[name+"n1"]
			was, known := well[name]
			// One that was lost or closed between two looks seems unchanged.
			missed := a.mayHold(&l[i], now[name]) && now[name]
			if missed || known && was != now[name] || !known && !now[name] {
				changed[name] = true
			}
		}
		well = now
		a.guard(ctx, well)
		if len(changed) > 0 {
			for _, id := range a.owners(changed) {
				a.Loop.KickNamed(id, false)
			}
		}
	}
}

// closedPaths are the bdevs whose paths are closed; was, those that were a moment ago, while the
// data plane cannot be asked, as long as it takes down a connection.
func (a *Agent) closedPaths(ctx context.Context, was map[string]bool) (map[string]bool, error) {
	turn, cancel := context.WithTimeout(ctx, maxWatchPause) // the call itself has its own time
	defer cancel()
	now, err := a.Plane.Driver().ClosedPaths(turn)
	if err != nil && turn.Err() != nil && ctx.Err() == nil {
		return was, nil
	}
	return now, err
}

// mayHold reports that something may be held on a connection to a vd or to
// the primary, or that a path waits for it. Links (chain.go) are no concern: a
// path that leads to one is opened when nothing is held.
func (a *Agent) mayHold(c *spdk.NvmeController, well bool) bool {
	if !strings.HasPrefix(c.Name, pxPrefix) && !strings.HasPrefix(c.Name, vdPrefix) {
		return false
	}
	return a.Plane.Driver().MayHold(c, well) || a.Plane.Driver().Released(c.Name)
}

// connects reports that there are controllers at all.
func (a *Agent) connects() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.set.cntlrs) > 0
}

// owners returns the ids of the controllers that connections belong to.
func (a *Agent) owners(names map[string]bool) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for id, c := range a.set.cntlrs {
		hit := false
		for _, e := range c.Exps {
			hit = hit || names[pxPrefix+e.Id] || names[linkPrefix+e.Id]
		}
		for _, v := range vdsOf(c) {
			hit = hit || names[vdPrefix+v.VdId]
		}
		if hit {
			ids = append(ids, id)
		}
	}
	return ids
}
