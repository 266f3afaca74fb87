package cn

import (
	"context"
	"time"

	"vda/spdk"
)

// watchInterval is how often connections are looked at. It must be well below
// proxyFastIOFailSec: a path has to be made inaccessible before the I/O that
// waits for a lost primary fails, or hosts would meet an error on a path that
// looks well.
const watchInterval = 200 * time.Millisecond

// maxWatchPause bounds the pause after a look that took long: a data plane that
// was hung for a while is looked at again at once.
const maxWatchPause = time.Second

// watch kicks a controller's unit when one of its connections, to a vd or to
// the primary, is lost or comes back, and stops primaries without a lease that
// have lost a vd, until ctx ends. On a data plane with many connections it
// takes no more than a twentieth of the time, up to maxWatchPause.
func (a *Agent) watch(ctx context.Context) {
	well := map[string]bool{}
	pause := watchInterval
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = watchInterval
		if a.Plane.Ready() != nil || !a.connects() {
			continue
		}
		begin := time.Now()
		l, err := a.Plane.BdevNvmeGetControllers(ctx)
		pause = max(pause, min(20*time.Since(begin), maxWatchPause))
		if err != nil {
			continue // the heartbeat says so
		}
		now := make(map[string]bool, len(l))
		changed := map[string]bool{}
		for i := range l {
			name := l[i].Name
			now[name] = enabled(&l[i])
			if was, known := well[name]; known && was != now[name] || !known && !now[name] {
				changed[name] = true
			}
		}
		well = now
		a.guard(ctx, well)
		if len(changed) > 0 {
			for _, id := range a.owners(changed) {
				a.Loop.Kick(id, false)
			}
		}
	}
}

// enabled reports that every path of a controller is connected.
func enabled(c *spdk.NvmeController) bool {
	for _, p := range c.Ctrlrs {
		if !connected(p.State) {
			return false
		}
	}
	return true
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
		for _, g := range c.Grps {
			for _, v := range g.Vds {
				hit = hit || names[vdPrefix+v.VdId]
			}
		}
		if hit {
			ids = append(ids, id)
		}
	}
	return ids
}
