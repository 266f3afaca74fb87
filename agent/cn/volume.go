package cn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/spdk"
)

// begun marks, in the agent's state, an array whose lvstore is being made.
const begun = "-begun"

// lvstore stands on the uppermost raid. It is made when the array has never been
// up, and else the data plane finds it there.
type lvstore struct{ *pass }

// have: its raid tells.
func (r lvstore) have() bool { return false }

func (r lvstore) want() string { return "" }

// make has the data plane look for the lvstore, and takes the volume if there is
// one in it.
func (r lvstore) make(ctx context.Context) error {
	top := r.top()
	// With auto examine on, the data plane has done it and refuses.
	if err := r.Plane.BdevExamine(ctx, top); err != nil && spdk.IsConnection(err) {
		return err
	}
	if err := r.Plane.BdevWaitForExamine(ctx); err != nil {
		return err
	}
	if b, err := r.Plane.BdevGet(ctx, r.volAlias(), 0); err == nil {
		return volume(r).accept(b)
	} else if !spdk.IsNoSuchDevice(err) {
		return err
	}
	lvs, err := r.on(ctx, top)
	switch want := daPrefix + r.c.DaId; {
	case err != nil:
		return err
	case lvs != nil && lvs.Name != want:
		return fmt.Errorf("its disks carry lvstore %s; this is disk array %s", lvs.Name, r.c.DaId)
	case lvs != nil:
		return nil
	case !r.mayCreate():
		err := r.missing(ctx, top)
		if n := r.wider(); n > 0 {
			err = fmt.Errorf("%w: it had %d groups of vds more than the database knows, which seems to have been restored from a backup of "+
				"before it grew; vda_cli orphan list has them (grp), and orphan adopt puts them back", err, n)
		}
		return err
	}
	return r.format(ctx, top)
}

// unmake: the data plane closes an lvstore whose raid goes.
func (r lvstore) unmake(context.Context) error { return nil }

// destroy deletes the lvstore of a deleted array, with its volume. What stands in
// the way is no reason to stop: the vds below are deleted as well, each by its
// own tombstone.
func (r lvstore) destroy(ctx context.Context) {
	if !r.isUp() {
		return
	}
	if err := agent.Drop(r.Plane.BdevLvolDeleteLvstore(ctx, daPrefix+r.c.DaId)); err != nil {
		r.Log.Warn("the lvstore of a deleted disk array is left to the deletion of its vds", "da", r.c.DaName, "err", err)
	}
}

// format makes the lvstore on bdev top.
func (r lvstore) format(ctx context.Context, top string) error {
	if err := r.mayFormat(ctx, top); err != nil {
		return err
	}
	if err := r.State.SetMade(r.c.DaId+begun, true); err != nil {
		return err
	}
	b, err := r.Plane.BdevGet(ctx, top, 0)
	if err != nil {
		return err
	}
	name := daPrefix + r.c.DaId
	r.Log.Info("making lvstore", "da", r.c.DaName, "lvstore", name)
	if _, err := r.Plane.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{
		BdevName: top, LvsName: name, ClusterSz: uint32(r.c.ClusterSize), ClearMethod: "none",
		NumMDPagesPerClusterRatio: format.MDRatio(b.Bytes(), r.c.ClusterSize),
	}); err != nil {
		return err
	}
	lvs, err := r.on(ctx, top)
	if err == nil && lvs == nil {
		err = fmt.Errorf("the lvstore just made on %s is not listed", top)
	}
	return err
}

// on returns the lvstore that is open on a bdev, which it then claims; nil when
// there is none.
func (r lvstore) on(ctx context.Context, base string) (*spdk.Lvstore, error) {
	lvs, err := r.Plane.BdevLvolGetLvstore(ctx, daPrefix+r.c.DaId)
	if err == nil && lvs.BaseBdev == base {
		return lvs, nil
	}
	if err := agent.Drop(err); err != nil {
		return nil, err
	}
	if b, err := r.Plane.BdevGet(ctx, base, 0); err != nil || !b.Claimed {
		return nil, err
	}
	return r.Plane.LvstoreOn(ctx, base)
}

// missing says of an array that was made before why the data plane has not found its lvstore:
// it is not there, or it is larger than the disks, or damaged. The data plane tells that to
// its log alone.
func (r lvstore) missing(ctx context.Context, top string) error {
	head, size := make([]byte, format.PageSize), uint64(0)
	err := r.Plane.WithRaw(ctx, top, func(d agent.RawDisk) error {
		size = d.Size()
		return d.ReadAt(ctx, head, 0)
	})
	sb, bad := format.DecodeSuperBlock(head, math.MaxUint64)
	switch {
	case err != nil:
		return fmt.Errorf("the metadata of disk array %s was made before and cannot be read; it is not made again: %w", r.c.DaName, err)
	case bad == nil && sb.Layout.DeviceBytes > size:
		return fmt.Errorf("the metadata of disk array %s is of %d bytes, its disks have %d; it is not made again", r.c.DaName,
			sb.Layout.DeviceBytes, size)
	case bytes.HasPrefix(head, []byte(format.Signature)):
		return fmt.Errorf("the metadata of disk array %s is on its disks and damaged; it is not made again; the data plane's log says "+
			"what of it cannot be read", r.c.DaName)
	}
	return fmt.Errorf("the metadata of disk array %s, made before, is not found on its disks; it is not made again", r.c.DaName)
}

// mayFormat makes sure that there is nothing on the array: its disks are new
// and zeroed. Only what a crash has left of an attempt of our own may be
// there.
func (r lvstore) mayFormat(ctx context.Context, top string) error {
	made, err := r.State.Made(r.c.DaId)
	if err != nil {
		return err
	}
	if made {
		return r.missing(ctx, top)
	}
	tried, err := r.State.Made(r.c.DaId + begun)
	if err != nil || tried {
		return err
	}
	return r.Plane.WithRaw(ctx, top, func(d agent.RawDisk) error {
		head := make([]byte, min(1<<20, d.Size()))
		if err := d.ReadAt(ctx, head, 0); err != nil {
			return fmt.Errorf("the array cannot be read: %w", err)
		}
		for _, b := range head {
			if b != 0 {
				return fmt.Errorf("the disks of new disk array %s are not blank", r.c.DaName)
			}
		}
		return nil
	})
}

// volume is an lvol in the lvstore, and what hosts see of the array.
type volume struct{ *pass }

func (r volume) have() bool { return r.inv.BdevName(r.volAlias()) != "" }

func (r volume) want() string { return "" }

// make makes the volume in an lvstore that has none.
func (r volume) make(ctx context.Context) error {
	if r.vol != "" {
		return nil // lvstore's make has found it
	}
	if resumed, err := snapshots(r).resume(ctx); err != nil || resumed && r.vol != "" {
		return err
	}
	if r.c.Source != nil && r.away != nil {
		return r.away
	}
	if r.c.Source != nil {
		if shown, err := source(r).show(ctx); shown || err != nil {
			return err
		}
	}
	if !r.mayCreate() {
		return fmt.Errorf("the volume of disk array %s is not found in its lvstore; it is not made again", r.c.DaName)
	}
	if r.c.Source != nil {
		name, err := source(r).clone(ctx)
		if err != nil {
			return err
		}
		r.vol = name
		return r.State.SetMade(r.c.DaId, true)
	}
	name, err := r.Plane.BdevLvolCreate(ctx, spdk.LvolCreate{
		LvsName: daPrefix + r.c.DaId, LvolName: volPrefix + r.c.DaId, SizeInMiB: r.c.Size >> 20, ThinProvision: r.c.Thin, ClearMethod: "none",
	})
	if err != nil {
		return err
	}
	r.vol = name
	return r.State.SetMade(r.c.DaId, true)
}

// mayCreate reports that the array has never been up.
func (p *pass) mayCreate() bool { return p.c.Create || p.c.Source.GetCreate() }

// unmake: it goes with its lvstore.
func (r volume) unmake(context.Context) error { return nil }

// accept takes a volume that was found. One that is smaller than it is to be grows
// while it serves, see grow; one that is larger stays so.
func (r volume) accept(b *spdk.Bdev) error {
	r.vol = b.Name
	return r.State.SetMade(r.c.DaId, true)
}

func (p *pass) volAlias() string { return volAlias(p.c.DaId) }

func volAlias(daID string) string {
	return daPrefix + daID + "/" + volPrefix + daID
}

func (p *pass) forgetMade() error {
	p.Agent.mu.Lock()
	delete(p.snapDoubts, p.c.DaId)
	delete(p.wide, p.c.DaId)
	p.Agent.mu.Unlock()
	return errors.Join(p.State.SetMade(p.c.DaId, false), p.State.SetMade(p.c.DaId+begun, false), p.State.SetMade(p.c.DaId+snapMark, false))
}
