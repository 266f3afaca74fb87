package dn

import (
	"context"
	"strings"

	"github.com/virtual-disk-array/vda/agent"
)

// passPrune un-exports and detaches what is ours by name and not desired. It
// deletes nothing from media: lvols stay, and so do malloc disks, which would
// lose theirs.
func (a *Agent) passPrune(ctx context.Context) (r agent.Result) {
	inv, err := a.Inventory(ctx)
	if err != nil {
		return r // the heartbeat says so
	}
	nqns, bases, may := a.owned()
	if !may {
		return r
	}
	for nqn := range inv.AllSubsystems() {
		if strings.HasPrefix(nqn, vdNQN) && !nqns[nqn] || a.Plane.StrayRaw(nqn) {
			a.Log.Warn("a subsystem that is not desired is removed", "nqn", nqn)
			if err := a.Plane.DropSubsystem(ctx, nqn); err != nil {
				r.Fail(agent.PruneKey, err)
			}
		}
	}
	for name, b := range inv.AllBdevs() {
		id, ours := strings.CutPrefix(name, pdPrefix)
		if !ours || bases[name] || b.Name != name || b.ProductName != "AIO disk" {
			continue
		}
		a.Log.Warn("a disk that is not desired is let go of; it keeps its data", "bdev", name)
		if err := a.detachBase(ctx, "aio", id); err != nil {
			r.Fail(agent.PruneKey, err)
		}
	}
	for name := range inv.AllControllers() {
		id, ours := strings.CutPrefix(name, pdPrefix)
		if !ours || bases[name+"n1"] {
			continue
		}
		a.Log.Warn("a disk that is not desired is let go of; it keeps its data", "controller", name)
		if err := a.detachBase(ctx, "nvme", id); err != nil {
			r.Fail(agent.PruneKey, err)
		}
	}
	return r
}

// owned returns the subsystems and base bdevs that units look after, and
// whether others may be removed. Old carried-out tombstones are forgotten.
func (a *Agent) owned() (nqns, bases map[string]bool, may bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	nqns, bases = map[string]bool{}, map[string]bool{}
	for _, id := range a.set.gone.Expire() {
		delete(a.set.pds, id)
		delete(a.set.vds, id)
		a.Loop.Forget(pdKey + id)
		a.Loop.Forget(vdKey + id)
	}
	for id, v := range a.set.vds {
		if !a.set.gone.Has(id) {
			nqns[vdNQN+v.Id] = true
		}
	}
	for id := range a.set.pds {
		if !a.set.gone.Has(id) {
			bases[pdPrefix+id], bases[pdPrefix+id+"n1"] = true, true
		}
	}
	return nqns, bases, a.MayPrune(&a.set, a.set.allowEmpty)
}
