package dn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"

	"vda/agent"
	apiv1 "vda/api/v1"
	"vda/spdk"
)

// pdPrefix starts the names of pds' bdevs and NVMe controllers.
const pdPrefix = "vda-pd-"

// begun marks, in the agent's state, a disk that is being formatted: what a
// crash has left of that may be overwritten.
const begun = "-begun"

// stamp is the name of a pd's lvstore.
func stamp(cluster, pd string) string {
	return fmt.Sprintf("vda-%s-%s", short(cluster), pd)
}

func short(cluster string) string { return strings.ReplaceAll(cluster, "-", "")[:16] }

func (a *Agent) passPD(ctx context.Context, id string) (r agent.Result) {
	spec := a.pd(id)
	if spec == nil {
		return r
	}
	if spec.Deleted {
		if err := a.dropPD(ctx, spec); err != nil {
			r.Fail(id, err)
		} else {
			r.Gone = []string{id}
		}
		return r
	}
	if err := a.settleFormer(ctx, spec); err != nil {
		r.Fail(id, err)
		return r
	}
	lvs, err := a.ensurePD(ctx, spec)
	if err != nil {
		r.Fail(id, err)
		return r
	}
	if err := a.fullLately(id); err != nil {
		r.Fail(id, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.caps[id] = &apiv1.PdCapacity{PdId: id, ClusterSize: lvs.ClusterSize, TotalClusters: lvs.TotalDataClusters, FreeClusters: lvs.FreeClusters}
	return r
}

// ensurePD returns the pd's lvstore.
func (a *Agent) ensurePD(ctx context.Context, spec *apiv1.PdSpec) (*spdk.Lvstore, error) {
	c, err := parseConf(spec.ConfJson)
	if err != nil {
		return nil, err
	}
	inv, err := a.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	base := baseName(c, spec.Id)
	bdev := inv.Bdevs[base]
	if bdev == nil {
		if err := a.attachBase(ctx, c, spec.Id); err != nil {
			return nil, err
		}
		if bdev, err = a.Plane.BdevGet(ctx, base, 0); err != nil {
			return nil, err
		}
	}
	lvs := inv.LvstoreOn[base]
	if lvs == nil {
		if lvs, err = a.examine(ctx, base); err != nil {
			return nil, err
		}
	}
	if lvs == nil {
		if lvs, err = a.format(ctx, spec, c, bdev); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	want := stamp(a.set.cluster, spec.Id)
	a.mu.Unlock()
	if lvs.Name != want {
		return nil, foreign(lvs.Name, want)
	}
	return lvs, nil
}

// foreign says whose disk this is.
func foreign(have, want string) error {
	var cluster, pd string
	parts := strings.SplitN(have, "-", 3)
	if len(parts) == 3 && parts[0] == "vda" && len(parts[1]) == 16 {
		cluster, pd = parts[1], parts[2]
	}
	own := strings.SplitN(want, "-", 3)
	switch {
	case cluster == "":
		return fmt.Errorf("the disk carries lvstore %q, which VDA has not made; it is left alone", have)
	case cluster != own[1]:
		return fmt.Errorf("the disk belongs to pd %s of cluster %s; this is pd %s of cluster %s", pd, cluster, own[2], own[1])
	}
	return fmt.Errorf("the disk belongs to pd %s of this cluster; this is pd %s", pd, own[2])
}

func baseName(c conf, id string) string {
	if c.Type == "nvme" {
		return pdPrefix + id + "n1"
	}
	return pdPrefix + id
}

// attachBase makes the pd's bdev.
func (a *Agent) attachBase(ctx context.Context, c conf, id string) error {
	var err error
	switch name := pdPrefix + id; c.Type {
	case "malloc":
		if made, madeErr := a.State.Made(id); madeErr != nil {
			return madeErr
		} else if made {
			a.Log.Warn("a malloc pd is made anew; what was on it is lost", "pd", id)
		}
		params := spdk.MallocCreate{Name: name, BlockSize: blockSize, NumBlocks: c.Size / blockSize}
		if u, parseErr := uuid.Parse(id); parseErr == nil {
			params.UUID = u.String()
		}
		_, err = a.Plane.BdevMallocCreate(ctx, params)
	case "aio":
		if err := ensureFile(c); err != nil {
			return err
		}
		_, err = a.Plane.BdevAioCreate(ctx, spdk.AioCreate{Name: name, Filename: c.Filename, BlockSize: blockSize})
	case "nvme":
		_, err = a.Plane.BdevNvmeAttachController(ctx, spdk.NvmeAttach{Name: name, TrType: "PCIe", TrAddr: c.TrAddr})
	}
	if err != nil && !spdk.IsExists(err) {
		return fmt.Errorf("disk %s: %w", c.where(), err)
	}
	return nil
}

func (c *conf) where() string {
	switch c.Type {
	case "aio":
		return c.Filename
	case "nvme":
		return c.TrAddr
	}
	return fmt.Sprintf("of %d bytes of memory", c.Size)
}

// ensureFile makes the file of an aio pd when the conf gives a size for it and
// nothing has its name.
func ensureFile(c conf) error {
	_, err := os.Stat(c.Filename)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if c.Size == 0 {
		return fmt.Errorf("%s does not exist, and no size is given to make a file of", c.Filename)
	}
	f, err := os.OpenFile(c.Filename, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(c.Size)), f.Sync(), f.Close())
}

// examine has the data plane look for an lvstore on a bdev; nil when there is
// none.
func (a *Agent) examine(ctx context.Context, base string) (*spdk.Lvstore, error) {
	// With auto examine on, the data plane has done it and refuses.
	if err := a.Plane.BdevExamine(ctx, base); err != nil && spdk.IsConnection(err) {
		return nil, err
	}
	if err := a.Plane.BdevWaitForExamine(ctx); err != nil {
		return nil, err
	}
	return a.lvstoreOn(ctx, base)
}

func (a *Agent) lvstoreOn(ctx context.Context, base string) (*spdk.Lvstore, error) {
	l, err := a.Plane.BdevLvolGetLvstores(ctx)
	for i := range l {
		if l[i].BaseBdev == base {
			return &l[i], nil
		}
	}
	return nil, err
}

// format makes the lvstore of a disk that has none.
func (a *Agent) format(ctx context.Context, spec *apiv1.PdSpec, c conf, bdev *spdk.Bdev) (*spdk.Lvstore, error) {
	tried, err := a.State.Made(spec.Id + begun)
	if err != nil {
		return nil, err
	}
	if c.Type != "malloc" {
		made, err := a.State.Made(spec.Id)
		switch {
		case err != nil:
			return nil, err
		case made || !spec.Format:
			return nil, fmt.Errorf("the stamp of pd %s is not found on %s; it has been formatted before, and that is not done again", spec.Id, c.where())
		case bdev.Claimed:
			return nil, fmt.Errorf("%s is in use in the data plane and is not formatted", c.where())
		}
		if !tried {
			if err := a.Plane.WithRaw(ctx, bdev.Name, func(d agent.RawDisk) error { return blank(ctx, d) }); err != nil {
				return nil, fmt.Errorf("%s is not formatted: %w", c.where(), err)
			}
		}
		if err := a.State.SetMade(spec.Id+begun, true); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	name := stamp(a.set.cluster, spec.Id)
	a.mu.Unlock()
	a.Log.Info("formatting", "pd", spec.Name, "disk", c.where(), "lvstore", name)
	if _, err := a.Plane.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{
		BdevName: bdev.Name, LvsName: name, ClusterSz: c.cluster(bdev.Bytes()), ClearMethod: "none",
	}); err != nil {
		return nil, err
	}
	if err := errors.Join(a.State.SetMade(spec.Id, true), a.State.SetMade(spec.Id+begun, false)); err != nil {
		return nil, err
	}
	lvs, err := a.lvstoreOn(ctx, bdev.Name)
	if err == nil && lvs == nil {
		err = fmt.Errorf("the lvstore just made on %s is not listed", bdev.Name)
	}
	return lvs, err
}

// dropPD carries out a pd's tombstone: the lvstore is destroyed, the disk let
// go of. A disk that is not there any more has nothing to destroy.
func (a *Agent) dropPD(ctx context.Context, spec *apiv1.PdSpec) error {
	if err := a.settleVDs(ctx, spec.Id); err != nil {
		return err
	}
	c, err := parseConf(spec.ConfJson)
	if err != nil {
		return nil // it was never made: check refuses such a conf
	}
	inv, err := a.Inventory(ctx)
	if err != nil {
		return err
	}
	base := baseName(c, spec.Id)
	made, err := a.State.Made(spec.Id)
	if err != nil {
		return err
	}
	if inv.Bdevs[base] == nil {
		_, statErr := os.Stat(c.Filename)
		if !made || c.Type == "malloc" || c.Type == "aio" && statErr != nil {
			return a.State.SetMade(spec.Id, false)
		}
		if err := a.attachBase(ctx, c, spec.Id); err != nil {
			a.Log.Warn("a deleted pd cannot be reached; its stamp stays on it", "pd", spec.Name, "disk", c.where(), "err", err)
			return a.State.SetMade(spec.Id, false)
		}
	}
	lvs := inv.LvstoreOn[base]
	if lvs == nil {
		if lvs, err = a.examine(ctx, base); err != nil {
			return err
		}
	}
	a.mu.Lock()
	own := stamp(a.set.cluster, spec.Id)
	a.mu.Unlock()
	if lvs != nil && lvs.Name == own {
		if err := agent.Drop(a.Plane.BdevLvolDeleteLvstore(ctx, own)); err != nil {
			return err
		}
	}
	if err := a.detachBase(ctx, c.Type, spec.Id); err != nil {
		return err
	}
	return a.State.SetMade(spec.Id, false)
}

func (a *Agent) detachBase(ctx context.Context, kind, id string) error {
	name := pdPrefix + id
	switch kind {
	case "malloc":
		return agent.Drop(a.Plane.BdevMallocDelete(ctx, name))
	case "aio":
		return agent.Drop(a.Plane.BdevAioDelete(ctx, name))
	}
	return agent.Drop(a.Plane.BdevNvmeDetachController(ctx, name))
}

// settleVDs waits for the tombstones of vds on a pd, and refuses while there
// are live ones.
func (a *Agent) settleVDs(ctx context.Context, pd string) error {
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
		if _, err := a.Loop.Settle(ctx, vdKey+id); err != nil {
			return err
		}
	}
	return nil
}
