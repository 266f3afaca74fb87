package dn

import (
	"context"
	"errors"
	"fmt"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/spdk"
)

// dropPD carries out a pd's tombstone: the disk is let go of, blank as it came.
// A disk that is not there any more, or is another by now, has nothing to wipe.
func (a *Agent) dropPD(ctx context.Context, spec *apiv1.PdSpec) error {
	c, err := parseConf(spec.ConfJson)
	if err := a.settleVDs(ctx, spec.Id, err == nil && c.Lost); err != nil {
		return err
	}
	if err != nil {
		return nil // it was never made: check refuses such a conf
	}
	inv, err := a.InventoryOf(ctx, agent.Names{Bdevs: []string{baseName(c, spec.Id)}})
	if err != nil {
		return err
	}
	base, own := baseName(c, spec.Id), a.stamp(spec.Id)
	made, err := a.State.Made(spec.Id)
	if err != nil {
		return err
	}
	begun, err := a.State.Kept(begunName(spec.Id), &begunNote{})
	if err != nil {
		return err
	}
	bdev := inv.Bdev(base)
	wipe := (made || begun || bdev != nil) && !c.Lost && c.Type != "malloc"
	if wipe && c.Type == "nvme" {
		if err := a.wipeBdev(ctx, spec, c, bdev, inv.LvstoreOn[base]); err != nil {
			return err
		}
	}
	if bdev != nil || c.Type == "nvme" && wipe {
		if err := a.detachBase(ctx, c.Type, spec.Id); err != nil {
			return err
		}
	}
	if !c.Lost && c.Type == "aio" {
		// Without a note of its making too: the state may have been lost.
		if err := a.wipePath(ctx, spec, c, own); err != nil && wipe {
			return err
		}
	}
	if c.Lost {
		a.Log.Warn("a pd is given up as lost; if its disk is somewhere, its stamp stays on it", "pd", spec.Name, "disk", c.where())
	}
	return errors.Join(a.State.SetMade(spec.Id, false), a.State.SetMade(spec.Id+"-begun", false),
		a.State.Forget(begunName(spec.Id)), a.State.Forget(diskName(spec.Id)))
}

// wipePath makes the disk of a deleted aio pd blank, as long as it carries the
// pd's stamp, which goes last. The data plane has let go of it.
func (a *Agent) wipePath(ctx context.Context, spec *apiv1.PdSpec, c conf, own string) error {
	if err := a.unhold(spec.Id); err != nil {
		return err
	}
	dev, err := a.Disks.Open(c.Filename)
	if errors.Is(err, disk.ErrInUse) {
		return fmt.Errorf("the disk of the deleted pd cannot be wiped: %w", err)
	}
	var store *disk.Store
	if err == nil {
		defer dev.Close()
		store, err = disk.Stamp(ctx, dev)
	}
	if err == nil && store != nil && store.Name == own {
		err = a.recognise(spec, c, dev.ID())
	}
	if err != nil || store == nil || store.Name != own {
		a.Log.Warn("the disk of a deleted pd is not found; if it is somewhere, its stamp stays on it",
			"pd", spec.Name, "disk", c.where(), "err", err)
		return nil
	}
	a.Log.Info("wiping the disk of a deleted pd", "pd", spec.Name, "disk", c.where())
	if err := dev.Wipe(ctx); err != nil {
		return fmt.Errorf("the disk of the deleted pd cannot be wiped: %w; if it is lost, pd delete --force gives it up", err)
	}
	return nil
}

// wipeBdev is wipePath for a disk that only the data plane reaches.
func (a *Agent) wipeBdev(ctx context.Context, spec *apiv1.PdSpec, c conf, bdev *spdk.Bdev, lvs *spdk.Lvstore) error {
	base, own := baseName(c, spec.Id), a.stamp(spec.Id)
	gone := func(err error) error {
		a.Log.Warn("the disk of a deleted pd is not found; if it is somewhere, its stamp stays on it",
			"pd", spec.Name, "disk", c.where(), "err", err)
		return nil
	}
	if bdev == nil {
		if _, err := a.attachBase(ctx, spec, c); err != nil {
			return gone(err)
		}
	}
	if lvs == nil {
		var err error
		if lvs, err = a.examine(ctx, base); err != nil {
			return err
		}
	}
	if lvs == nil || lvs.Name != own {
		return gone(nil)
	}
	if err := agent.Drop(a.Plane.BdevLvolDeleteLvstore(ctx, own)); err != nil {
		return err
	}
	return a.Plane.WithRaw(ctx, base, func(d agent.RawDisk) error { return (&attached{RawDisk: d}).Wipe(ctx) })
}

// settleVDs waits for the tombstones of vds on a pd, whose passes are begun
// again when the disk is lost: one may wait for it. It refuses while there
// are live ones.
func (a *Agent) settleVDs(ctx context.Context, pd string, lost bool) error {
	a.mu.Lock()
	var wait []string
	for id, v := range a.set.vds {
		if v.PdId != pd {
			continue
		}
		if !v.Deleted {
			a.mu.Unlock()
			return fmt.Errorf("vd %s is still on the disk", id)
		}
		wait = append(wait, id)
	}
	a.mu.Unlock()
	for _, id := range wait {
		if lost {
			a.Loop.Kick(vdKey+id, true)
		}
		if _, err := a.Loop.Settle(ctx, vdKey+id); err != nil {
			return err
		}
	}
	return nil
}
