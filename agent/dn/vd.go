package dn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
)

const (
	vdPrefix  = vda.VDPrefix
	newSuffix = "-new" // of an lvol that is still to be zeroed
	vdNQN     = vda.VDNQNPrefix

	fullFor = time.Minute // a disk that had no space is not asked for more
)

func (a *Agent) passVD(ctx context.Context, id string) (r agent.Result) {
	spec := a.vd(id)
	if spec == nil {
		return r
	}
	if spec.Deleted {
		if err := a.dropVD(ctx, spec); err != nil {
			r.Fail(id, err)
		} else {
			r.Gone = []string{id}
		}
		return r
	}
	if err := a.ensureVD(ctx, spec); err != nil {
		r.Fail(id, err)
	} else if err := a.sickPD(spec.PdId); err != nil {
		r.Ail(id, err)
	}
	return r
}

// lookVD returns what there is of all that a vd's pass looks at.
func (a *Agent) lookVD(ctx context.Context, spec *apiv1.VdSpec) (*agent.Inventory, error) {
	lvol := a.stamp(spec.PdId) + "/" + vdPrefix + spec.Id
	n := agent.Names{Bdevs: []string{lvol, lvol + newSuffix}, NQNs: []string{vdNQN + spec.Id}}
	if spec.Nqn != "" {
		n.NQNs = append(n.NQNs, spec.Nqn)
	}
	return a.InventoryOf(ctx, n)
}

// store returns an inventory in which the pd's lvstore is, and the lvstore's name.
// That is have, unless it is nil or lacks the vd's lvol: then store waits for the pd's
// pass and looks again.
func (a *Agent) store(ctx context.Context, vd *apiv1.VdSpec, have *agent.Inventory) (*agent.Inventory, string, error) {
	pd := vd.PdId
	spec := a.pd(pd)
	if spec == nil {
		return nil, "", fmt.Errorf("its pd %s is unknown to this node", pd)
	}
	if have != nil {
		lvs := a.stamp(pd)
		if own, err := a.ownStore(have, spec); err == nil && own != nil && have.Bdev(lvs+"/"+vdPrefix+vd.Id) != nil {
			return have, lvs, nil
		}
	}
	res, err := a.Loop.Settle(ctx, pdKey+pd)
	if err != nil {
		return nil, "", err
	}
	inv, err := a.lookVD(ctx, vd)
	if err != nil {
		return nil, "", err
	}
	a.mu.Lock()
	lvs := stamp(a.set.cluster, pd)
	a.mu.Unlock()
	own, err := a.ownStore(inv, spec)
	if err != nil {
		a.Loop.Kick(pdKey+pd, false)
		return inv, "", fmt.Errorf("its pd is not ready: %w", err)
	}
	if own == nil {
		if msg := res.Errs[pd]; msg != "" {
			return nil, "", fmt.Errorf("its pd is not ready: %s", msg)
		}
		a.Loop.Kick(pdKey+pd, false)
		return nil, "", fmt.Errorf("its pd %s is not ready", pd)
	}
	return inv, lvs, nil
}

func (a *Agent) ensureVD(ctx context.Context, spec *apiv1.VdSpec) error {
	if spec.Size == 0 || spec.Size%(1<<20) != 0 || spec.Nqn == "" {
		return fmt.Errorf("size %d must be a multiple of 1 MiB, and nqn %q not empty", spec.Size, spec.Nqn)
	}
	inv, err := a.fence(ctx, spec)
	if err != nil {
		return err
	}
	inv, lvs, err := a.store(ctx, spec, inv)
	if err != nil {
		return errors.Join(err, a.unexport(ctx, inv, spec))
	}
	bdev := inv.Bdev(lvs + "/" + vdPrefix + spec.Id)
	name := ""
	if bdev != nil {
		name = bdev.Name
		if bdev.Bytes() < spec.Size {
			if err := a.growVD(ctx, inv, lvs, bdev, spec); err != nil {
				return err
			}
		}
	} else if name, err = a.makeVD(ctx, inv, lvs, spec); err != nil {
		return err
	}
	if err := a.State.SetMade(spec.Id, true); err != nil {
		return err
	}
	e := agent.Export{NQN: spec.Nqn, Serial: spec.Id[:min(20, len(spec.Id))], Model: "VDA_VD", Bdev: name, UUID: spec.Uuid,
		Single: true}
	if spec.HostNqn != "" {
		e.Hosts, e.Keys = []string{spec.HostNqn}, map[string]agent.HopKey{spec.HostNqn: spec.HopKey}
	}
	if err := a.Plane.Ensure(ctx, inv, e); err != nil {
		return err
	}
	a.admitted(spec)
	return nil
}

// unexport takes back what is exported of a vd on a copy of its pd's disk.
func (a *Agent) unexport(ctx context.Context, inv *agent.Inventory, spec *apiv1.VdSpec) error {
	pd := a.pd(spec.PdId)
	if inv == nil || pd == nil || inv.Subsystem(spec.Nqn) == nil {
		return nil
	}
	c, err := parseConf(pd.ConfJson)
	if err != nil {
		return err
	}
	if elsewhere(inv.Lvstores[a.stamp(pd.Id)], baseName(c, pd.Id)) == nil {
		return nil
	}
	a.Log.Error("a vd is not exported any more: it is not on its pd's disk", "vd", spec.Id, "pd", pd.Name)
	return a.Plane.DropSubsystem(ctx, spec.Nqn)
}

// fence shuts out the hosts that the present term and epoch do not admit,
// whatever the state of the pd. It returns what there is, nil when that has changed
// since.
func (a *Agent) fence(ctx context.Context, spec *apiv1.VdSpec) (*agent.Inventory, error) {
	inv, err := a.lookVD(ctx, spec)
	if err != nil {
		return nil, err
	}
	sub := inv.Subsystem(spec.Nqn)
	if sub == nil || !slices.ContainsFunc(sub.Hosts, func(h spdk.NvmfHost) bool { return h.NQN != spec.HostNqn }) {
		return inv, nil
	}
	return nil, a.Plane.ShutOut(ctx, sub, []string{spec.HostNqn})
}

// makeVD makes the lvol, zeroes it and gives it its name. It returns the
// bdev's name.
func (a *Agent) makeVD(ctx context.Context, inv *agent.Inventory, lvs string, spec *apiv1.VdSpec) (string, error) {
	made, err := a.State.Made(spec.Id)
	if err != nil {
		return "", err
	}
	if err := a.fullLately(spec.PdId); err != nil && !made {
		return "", err
	}
	if made {
		// A host that was admitted to what is left of it has no business here.
		if inv.Subsystem(spec.Nqn) != nil {
			if err := a.Plane.DropSubsystem(ctx, spec.Nqn); err != nil {
				return "", err
			}
		}
		return "", fmt.Errorf(vda.DataLost+"lvol %s%s is not on pd %s any more (a malloc pd keeps nothing over a restart "+
			"of the data plane)",
			vdPrefix, spec.Id, spec.PdId)
	}
	name := inv.BdevName(lvs + "/" + vdPrefix + spec.Id + newSuffix)
	if name == "" {
		name, err = a.Plane.BdevLvolCreate(ctx, spdk.LvolCreate{
			LvsName: lvs, LvolName: vdPrefix + spec.Id + newSuffix, SizeInMiB: spec.Size >> 20, ClearMethod: "none",
		})
		if spdk.IsNoSpace(err) {
			return "", a.taken(inv, lvs, spec)
		}
		if err != nil {
			return "", err
		}
	}
	if err := a.zero(ctx, name, spec); err != nil {
		if s := nvme.Status(0); errors.As(err, &s) && s&^nvme.DNR == nvme.CapacityExceeded {
			return "", a.noSpace(ctx, name, spec)
		}
		return "", fmt.Errorf("zeroing: %w", err)
	}
	return name, a.Plane.BdevLvolRename(ctx, name, vdPrefix+spec.Id)
}

// growVD makes a vd larger that is in use, as one that gets room for a label. What is
// added is not zeroed: nobody reads it but a mirror, which knows its own labels.
func (a *Agent) growVD(ctx context.Context, inv *agent.Inventory, lvs string, bdev *spdk.Bdev, spec *apiv1.VdSpec) error {
	err := a.Plane.BdevLvolResize(ctx, bdev.Name, spec.Size>>20)
	if spdk.IsNoSpace(err) {
		return fmt.Errorf("the lvol has %d bytes and cannot grow: %w", bdev.Bytes(), a.taken(inv, lvs, spec))
	}
	if err == nil {
		a.Log.Info("a vd has grown", "vd", spec.Id, "from", bdev.Bytes(), "to", spec.Size)
		a.Loop.KickAlike(ctx, pdKey+spec.PdId) // for the capacity it reports
	}
	return err
}

// zero overwrites a new lvol, a few at a time.
func (a *Agent) zero(ctx context.Context, bdev string, spec *apiv1.VdSpec) error {
	return a.overwrite(ctx, a.zeroing, "zeroed", bdev, spec, agent.RawDisk.Zero)
}

// clear gives the blocks of an lvol that is to be deleted back and leaves
// zeros, fewer at a time. A disk that cannot do it does not keep the lvol from
// going: what is made of its clusters next is zeroed then.
func (a *Agent) clear(ctx context.Context, bdev string, spec *apiv1.VdSpec) error {
	err := a.overwrite(ctx, a.clearing, "cleared", bdev, spec, agent.RawDisk.Clear)
	if s := nvme.Status(0); errors.As(err, &s) && !s.IsPath() && ctx.Err() == nil {
		a.Log.Warn("a vd is deleted without being cleared: its blocks stay allocated and readable on the disk",
			"vd", spec.Id, "pd", spec.PdId, "err", err)
		return nil
	}
	return err
}

// taken says that less of a pd is free than its cluster's database believes.
func (a *Agent) taken(inv *agent.Inventory, lvs string, spec *apiv1.VdSpec) error {
	a.Loop.Kick(pdKey+spec.PdId, false) // for the capacity it reports
	name, free := spec.PdId, ""
	if p := a.pd(spec.PdId); p != nil {
		name = p.Name
	}
	if l := inv.Lvstores[lvs]; l != nil {
		free = fmt.Sprintf(" of the %d that are free", l.FreeClusters*l.ClusterSize)
	}
	return fmt.Errorf(vda.NoSpace+"the vd takes %d bytes%s on pd %s; what the database does not know of takes the rest (vda_cli orphan list)",
		spec.Size, free, name)
}

// noSpace deletes an lvol that there was no space for after all, with what of
// it has been zeroed, and keeps others off the disk for a while. It returns
// what to say.
func (a *Agent) noSpace(ctx context.Context, bdev string, spec *apiv1.VdSpec) error {
	err := a.clear(ctx, bdev, spec)
	if err == nil {
		err = agent.Drop(a.Plane.BdevLvolDelete(ctx, bdev))
	}
	a.mu.Lock()
	a.full[spec.PdId] = time.Now()
	a.mu.Unlock()
	a.Loop.Kick(pdKey+spec.PdId, false)
	a.Log.Error("there is no space below a pd for what it has promised", "pd", spec.PdId, "vd", spec.Id)
	return errors.Join(a.fullLately(spec.PdId), err)
}

// fullLately returns an error while a disk is left in peace because there was
// no space below it.
func (a *Agent) fullLately(pd string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, full := a.full[pd]
	if !full {
		return nil
	}
	if time.Since(at) > fullFor {
		delete(a.full, pd)
		return nil
	}
	name, where := pd, "its disk"
	if p := a.set.pds[pd]; p != nil {
		name = p.Name
		if c, err := parseConf(p.ConfJson); err == nil {
			where = c.where()
		}
	}
	return fmt.Errorf(vda.NoSpace+"%s of pd %s could not hold what was written at %s: its file system, or the thin disk that it is, is full; "+
		"make room there; new vds are tried again after %v", where, name, at.UTC().Format(time.RFC3339), fullFor)
}

// overwrite does what takes long to an lvol that nobody uses, when there is a
// place for it in turns.
func (a *Agent) overwrite(ctx context.Context, turns chan struct{}, what, bdev string, spec *apiv1.VdSpec,
	how func(agent.RawDisk, context.Context, func(uint64)) error) error {
	note := func(msg string) {
		a.Loop.Note(vdKey+spec.Id, agent.Result{Errs: map[string]string{spec.Id: msg}})
	}
	select {
	case turns <- struct{}{}:
	default:
		note("waits for its turn to be " + what)
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	a.noteRewriting(spec.PdId, 1)
	defer func() {
		a.noteRewriting(spec.PdId, -1)
		<-turns
	}()
	note("is being " + what)
	return a.Plane.WithRaw(ctx, bdev, func(d agent.RawDisk) error {
		return how(d, ctx, func(done uint64) {
			note(fmt.Sprintf("is being %s: %d of %d MiB", what, done>>20, d.Size()>>20))
		})
	})
}

func (a *Agent) noteRewriting(pd string, by int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rewriting[pd] += by; a.rewriting[pd] == 0 {
		delete(a.rewriting, pd)
	}
}

// dropVD carries out a vd's tombstone.
func (a *Agent) dropVD(ctx context.Context, spec *apiv1.VdSpec) error {
	inv, err := a.lookVD(ctx, spec)
	if err != nil {
		return err
	}
	nqn := spec.Nqn
	if nqn == "" {
		nqn = vdNQN + spec.Id
	}
	if inv.Subsystem(nqn) != nil {
		if err := a.Plane.DropSubsystem(ctx, nqn); err != nil {
			return err
		}
	}
	a.mu.Lock()
	pd, lvs := a.set.pds[spec.PdId], stamp(a.set.cluster, spec.PdId)
	a.mu.Unlock()
	if pd.GetDeleted() {
		if c, err := parseConf(pd.ConfJson); err == nil && c.Lost {
			return a.State.SetMade(spec.Id, false) // nothing on a lost disk is waited for
		}
	}
	if pd != nil && !pd.Deleted {
		if inv, lvs, err = a.store(ctx, spec, nil); err != nil {
			a.mu.Lock()
			unstamped := a.unstamped[spec.PdId]
			a.mu.Unlock()
			if !unstamped {
				return err
			}
			a.Log.Warn("a vd is deleted whose pd's disk is another by now", "vd", spec.Id, "pd", pd.Name)
			return a.State.SetMade(spec.Id, false)
		}
	}
	if pd != nil && inv.Lvstores[lvs] != nil {
		if own, err := a.ownStore(inv, pd); own == nil {
			return errors.Join(fmt.Errorf("lvstore %s is not on the disk of pd %s", lvs, pd.Name), err)
		}
	}
	for _, suffix := range []string{"", newSuffix} {
		if lvol := inv.BdevName(lvs + "/" + vdPrefix + spec.Id + suffix); lvol != "" {
			if err := a.clear(ctx, lvol, spec); err != nil {
				return fmt.Errorf("clearing: %w", err)
			}
			if err := agent.Drop(a.Plane.BdevLvolDelete(ctx, lvol)); err != nil {
				return err
			}
		}
	}
	if pd != nil && !pd.Deleted {
		a.Loop.KickAlike(ctx, pdKey+spec.PdId) // for the capacity it reports
	}
	return a.State.SetMade(spec.Id, false)
}
