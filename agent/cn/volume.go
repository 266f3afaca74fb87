package cn

import (
	"context"
	"errors"
	"fmt"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/spdk"
)

// begun marks, in the agent's state, an array whose lvstore is being made.
const begun = "-begun"

// load has the data plane look for the array's lvstore on bdev top and returns
// the volume's bdev; both are made when the array has never been up.
func (p *pass) load(ctx context.Context, top string) (string, error) {
	// With auto examine on, the data plane has done it and refuses.
	if err := p.Plane.BdevExamine(ctx, top); err != nil && spdk.IsConnection(err) {
		return "", err
	}
	if err := p.Plane.BdevWaitForExamine(ctx); err != nil {
		return "", err
	}
	if b, err := p.Plane.BdevGet(ctx, p.volAlias(), 0); err == nil {
		return p.accept(b)
	} else if !spdk.IsNoSuchDevice(err) {
		return "", err
	}
	lvs, err := p.lvstore(ctx, top)
	if err != nil {
		return "", err
	}
	return p.lvol(ctx, lvs)
}

// accept checks the volume that was found.
func (p *pass) accept(b *spdk.Bdev) (string, error) {
	if b.Bytes() < p.c.Size {
		return "", fmt.Errorf("the volume of disk array %s has %d bytes, not %d", p.c.DaName, b.Bytes(), p.c.Size)
	}
	return b.Name, p.State.SetMade(p.c.DaId, true)
}

// lvstore returns the lvstore found on bdev top, or makes it when the array
// has never been up.
func (p *pass) lvstore(ctx context.Context, top string) (*spdk.Lvstore, error) {
	want := daPrefix + p.c.DaId
	lvs, err := p.lvstoreOn(ctx, top)
	switch {
	case err != nil:
		return nil, err
	case lvs != nil && lvs.Name != want:
		return nil, fmt.Errorf("its disks carry lvstore %s; this is disk array %s", lvs.Name, p.c.DaId)
	case lvs != nil:
		return lvs, nil
	case !p.c.Create:
		return nil, fmt.Errorf("the metadata of disk array %s is not found on its disks; it is not made anew", p.c.DaName)
	}
	if err := p.mayFormat(ctx, top); err != nil {
		return nil, err
	}
	if err := p.State.SetMade(p.c.DaId+begun, true); err != nil {
		return nil, err
	}
	b, err := p.Plane.BdevGet(ctx, top, 0)
	if err != nil {
		return nil, err
	}
	p.Log.Info("making lvstore", "da", p.c.DaName, "lvstore", want)
	if _, err := p.Plane.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: top, LvsName: want, ClusterSz: uint32(p.c.ClusterSize), ClearMethod: "none",
		NumMDPagesPerClusterRatio: format.MDRatio(b.Bytes(), p.c.ClusterSize)}); err != nil {
		return nil, err
	}
	lvs, err = p.lvstoreOn(ctx, top)
	if err == nil && lvs == nil {
		err = fmt.Errorf("the lvstore just made on %s is not listed", top)
	}
	return lvs, err
}

// lvstoreOn returns the lvstore that is open on a bdev, which it then claims.
func (p *pass) lvstoreOn(ctx context.Context, base string) (*spdk.Lvstore, error) {
	lvs, err := p.Plane.BdevLvolGetLvstore(ctx, daPrefix+p.c.DaId)
	if err == nil && lvs.BaseBdev == base {
		return lvs, nil
	}
	if err := agent.Drop(err); err != nil {
		return nil, err
	}
	if b, err := p.Plane.BdevGet(ctx, base, 0); err != nil || !b.Claimed {
		return nil, err
	}
	return p.Plane.LvstoreOn(ctx, base)
}

// mayFormat makes sure that there is nothing on the array: its disks are new
// and zeroed. Only what a crash has left of an attempt of our own may be
// there.
func (p *pass) mayFormat(ctx context.Context, top string) error {
	made, err := p.State.Made(p.c.DaId)
	if err != nil {
		return err
	}
	if made {
		return fmt.Errorf("the metadata of disk array %s, made before, is not found on its disks; it is not made anew", p.c.DaName)
	}
	tried, err := p.State.Made(p.c.DaId + begun)
	if err != nil || tried {
		return err
	}
	return p.Plane.WithRaw(ctx, top, func(d agent.RawDisk) error {
		head := make([]byte, min(1<<20, d.Size()))
		if err := d.ReadAt(ctx, head, 0); err != nil {
			return fmt.Errorf("the array cannot be read: %w", err)
		}
		for _, b := range head {
			if b != 0 {
				return fmt.Errorf("the disks of new disk array %s are not blank", p.c.DaName)
			}
		}
		return nil
	})
}

// lvol makes the array's volume in an lvstore that has none.
func (p *pass) lvol(ctx context.Context, lvs *spdk.Lvstore) (string, error) {
	if !p.c.Create {
		return "", fmt.Errorf("the volume of disk array %s is not found in its lvstore; it is not made anew", p.c.DaName)
	}
	name, err := p.Plane.BdevLvolCreate(ctx, spdk.LvolCreate{
		LvsName: lvs.Name, LvolName: volPrefix + p.c.DaId, SizeInMiB: p.c.Size >> 20, ThinProvision: p.c.Thin, ClearMethod: "none",
	})
	if err != nil {
		return "", err
	}
	return name, p.State.SetMade(p.c.DaId, true)
}

func (p *pass) forgetMade() error {
	return errors.Join(p.State.SetMade(p.c.DaId, false), p.State.SetMade(p.c.DaId+begun, false))
}

// attached reports that the data plane holds something of the array's own,
// which only a primary has.
func (p *pass) attached() bool {
	for _, g := range p.c.Grps {
		if p.inv.Raid(grpPrefix+g.Id) != nil {
			return true
		}
	}
	for _, v := range p.vds() {
		if p.inv.Controller(vdPrefix+v.VdId) != nil {
			return true
		}
	}
	for _, e := range p.c.Exps {
		if p.inv.Controller(linkPrefix+e.Id) != nil {
			return true
		}
	}
	return p.inv.Raid(daPrefix+p.c.DaId) != nil
}

// detach takes the array down and deletes nothing from media: without its
// raid the data plane closes the lvstore.
func (p *pass) detach(ctx context.Context) error {
	var raids []string
	raids = append(raids, daPrefix+p.c.DaId)
	for _, g := range p.c.Grps {
		raids = append(raids, grpPrefix+g.Id)
	}
	for _, name := range raids {
		if p.inv.Raid(name) == nil {
			continue
		}
		if err := agent.Drop(p.Plane.BdevRaidDelete(ctx, name)); err != nil {
			return err
		}
	}
	vds := p.vds()
	return agent.Parallel(len(vds), func(i int) error {
		name := vdPrefix + vds[i].VdId
		if p.inv.Controller(name) == nil {
			return nil
		}
		return agent.Drop(p.Plane.BdevNvmeDetachController(ctx, name))
	})
}
