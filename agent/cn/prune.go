package cn

import (
	"context"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
)

// owned are the names that units look after.
type owned struct {
	nqns, controllers, raids, mirrors map[string]bool
}

// passPrune un-exports and detaches what is ours by name and not desired, from
// the top down. It deletes nothing from media.
func (a *Agent) passPrune(ctx context.Context) (r agent.Result) {
	inv, err := a.Inventory(ctx)
	if err != nil {
		return r // the heartbeat says so
	}
	own, may := a.owned()
	a.forgetDials(own.controllers)
	if !may {
		return r
	}
	remove := func(what, name string, err error) {
		a.Log.Warn("something that is not desired is removed", "what", what, "name", name, "err", err)
		if err != nil {
			r.Fail(agent.PruneKey, err)
		}
	}
	stands := false // a subsystem does, and with it what is below
	for nqn := range inv.AllSubsystems() {
		ours := strings.HasPrefix(nqn, expNQN) || strings.HasPrefix(nqn, vda.HopNQNPrefix)
		if ours && !own.nqns[nqn] || a.Plane.StrayRaw(nqn) {
			if a.carries(inv, nqn) || !a.mayRemove(ctx, nqn) {
				stands = true
				continue
			}
			// Only now that no unit is at work under the name: a link may have been
			// made to it since the first lists.
			now, err := a.Inventory(ctx)
			if err == nil {
				err = a.unlinkAbove(ctx, now, nqn)
			}
			if err == nil {
				err = a.Plane.DropSubsystem(ctx, nqn)
			}
			remove("subsystem", nqn, err)
			a.turns.free([]string{nqnName + nqn})
			stands = stands || err != nil
		}
	}
	// SPDK stands still for ever when a namespace goes to which a link is connected, so
	// nothing goes from under a subsystem: a later pass finds what is left.
	if stands {
		return r
	}
	for _, prefix := range []string{daPrefix, grpPrefix} { // a concat stands on groups
		for name := range inv.AllRaids() {
			if strings.HasPrefix(name, prefix) && !own.raids[name] {
				remove("raid", name, agent.Drop(a.Plane.BdevRaidDelete(ctx, name)))
			}
		}
	}
	for name, b := range inv.AllBdevs() {
		if name != b.Name || !strings.HasPrefix(name, vda.MirrorPrefix) {
			continue
		}
		m := inv.Mirror(name)
		if m == nil {
			continue
		}
		if !own.mirrors[name] {
			remove("mirror", name, agent.Drop(a.Plane.VdaMirrorDelete(ctx, name)))
			continue
		}
		for _, l := range m.Legs { // its controller's pass detaches it when the mirror has let go of it
			own.controllers[strings.TrimSuffix(l.Bdev, "n1")] = true
		}
	}
	for name := range inv.AllControllers() {
		ours := strings.HasPrefix(name, vdPrefix) || strings.HasPrefix(name, pxPrefix) || strings.HasPrefix(name, linkPrefix) ||
			strings.HasPrefix(name, srcPrefix)
		if ours && !own.controllers[name] {
			remove("controller", name, agent.Drop(a.Plane.BdevNvmeDetachController(ctx, name)))
		}
	}
	return r
}

// owned returns the names that units look after, and whether others may be
// removed. Old carried-out tombstones are forgotten.
func (a *Agent) owned() (owned, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range a.set.gone.Expire() {
		delete(a.set.cntlrs, id)
		a.Loop.Forget(id)
	}
	own := owned{nqns: map[string]bool{}, controllers: map[string]bool{}, raids: map[string]bool{}, mirrors: map[string]bool{}}
	for id, c := range a.set.cntlrs {
		if a.set.gone.Has(id) {
			continue
		}
		own.raids[daPrefix+c.DaId] = true
		own.controllers[srcPrefix+c.DaId] = true
		for _, g := range c.Grps {
			own.raids[grpPrefix+g.Id] = true
		}
		for _, name := range mirrorNames(c) {
			own.mirrors[name] = true
		}
		for _, v := range vdsOf(c) {
			own.controllers[vdPrefix+v.VdId] = true
		}
		for _, e := range c.Exps {
			if a.set.goneEs[e.EsId] {
				continue
			}
			own.nqns[e.Nqn], own.controllers[pxPrefix+e.Id], own.controllers[linkPrefix+e.Id] = true, true, true
		}
	}
	return own, a.MayPrune(&a.set, a.set.allowEmpty)
}

// carries reports that a desired exporter stands on a subsystem. Its unit unlinks
// it first.
func (a *Agent) carries(inv *agent.Inventory, nqn string) bool {
	return slices.ContainsFunc(a.above(inv, nqn), func(at linked) bool {
		_, owned := a.elsewhere(nqnName+at.nqn, "")
		return owned
	})
}

// mayRemove takes the turn under a subsystem's NQN, for which it waits while somebody
// is at work under it, unless somebody has got it since the lists were made.
func (a *Agent) mayRemove(ctx context.Context, nqn string) bool {
	if _, err := a.turns.take(ctx, []string{nqnName + nqn}); err != nil {
		return false
	}
	if _, owned := a.elsewhere(nqnName+nqn, ""); owned {
		a.turns.free([]string{nqnName + nqn})
		return false
	}
	return true
}
