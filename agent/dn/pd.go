package dn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/spdk"
)

// pdPrefix starts the names of pds' bdevs and NVMe controllers.
const pdPrefix = vda.PDPrefix

// stamp is the name of a pd's lvstore.
func stamp(cluster, pd string) string {
	return fmt.Sprintf("vda-%s-%s", short(cluster), pd)
}

func short(cluster string) string {
	digits := strings.ReplaceAll(cluster, "-", "")
	return digits[:min(16, len(digits))]
}

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
	if c, err := parseConf(spec.ConfJson); err == nil {
		if err := a.examineHealth(ctx, spec, c); err != nil {
			r.Ail(id, err)
		}
	}
	kind := a.cacheOf(ctx, spec)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.caps[id] = &apiv1.PdCapacity{
		PdId: id, ClusterSize: lvs.ClusterSize, TotalClusters: lvs.TotalDataClusters, FreeClusters: lvs.FreeClusters, WriteCache: string(kind),
	}
	return r
}

// stamp is the name of the lvstore of one of this cluster's pds.
func (a *Agent) stamp(pd string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return stamp(a.set.cluster, pd)
}

// ensurePD returns the pd's lvstore.
func (a *Agent) ensurePD(ctx context.Context, spec *apiv1.PdSpec) (*spdk.Lvstore, error) {
	c, err := parseConf(spec.ConfJson)
	if err != nil {
		return nil, err
	}
	inv, err := a.InventoryOf(ctx, agent.Names{Bdevs: []string{baseName(c, spec.Id)}})
	if err != nil {
		return nil, err
	}
	base, want := baseName(c, spec.Id), a.stamp(spec.Id)
	bdev, lvs := inv.Bdev(base), inv.LvstoreOn[base]
	if bdev != nil && lvs == nil && c.Type == "aio" && !bdev.Claimed {
		// It was let in and its lvstore is not there. What is at its place may
		// be another disk by now.
		if err := a.detachBase(ctx, c.Type, spec.Id); err != nil {
			return nil, err
		}
		bdev = nil
	}
	load := true // what is on the disk may be loaded
	if bdev == nil {
		if load, err = a.attachBase(ctx, spec, c); err != nil {
			return nil, err
		}
		if bdev, err = a.Plane.BdevGet(ctx, base, 0); err != nil {
			return nil, err
		}
	}
	if lvs == nil && c.Type == "nvme" && !bdev.Claimed {
		if load, err = a.admitBdev(ctx, spec, c, bdev); err != nil {
			return nil, err
		}
	}
	if lvs == nil && load {
		if lvs, err = a.examine(ctx, base); err != nil {
			return nil, err
		}
	}
	if lvs == nil {
		if err := a.inTheWay(ctx, spec, base); err != nil {
			return nil, err
		}
		if lvs, err = a.format(ctx, spec, c, bdev, inv.Bdev(base) == nil); err != nil {
			return nil, err
		}
	}
	a.noteStamp(spec.Id, lvs.Name == want)
	if lvs.Name != want {
		return nil, a.release(ctx, c, spec, lvs.Name, want)
	}
	if lvs.Failed != "" {
		return nil, givenUp(c, lvs)
	}
	return lvs, errors.Join(a.remember(spec, c), a.hold(spec, c, nil))
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

// attachBase makes the pd's bdev. load says that an lvstore may be on it; it
// is false for a disk that has been found blank and is to be formatted.
func (a *Agent) attachBase(ctx context.Context, spec *apiv1.PdSpec, c conf) (load bool, err error) {
	a.mu.Lock()
	delete(a.unstamped, spec.Id)
	a.mu.Unlock()
	load = true
	switch name := pdPrefix + spec.Id; c.Type {
	case "malloc":
		if made, madeErr := a.State.Made(spec.Id); madeErr != nil {
			return false, madeErr
		} else if made {
			a.Log.Warn("a malloc pd is made again; what was on it is lost", "pd", spec.Id)
		}
		params := spdk.MallocCreate{Name: name, BlockSize: vda.SectorSize, NumBlocks: c.Size / vda.SectorSize}
		if u, parseErr := uuid.Parse(spec.Id); parseErr == nil {
			params.UUID = u.String()
		}
		_, err = a.Plane.BdevMallocCreate(ctx, params)
	case "aio":
		if load, err = a.attachPath(ctx, spec, c, name); err != nil {
			return false, err
		}
	case "nvme":
		_, err = a.Plane.BdevNvmeAttachController(ctx, spdk.NvmeAttach{Name: name, TrType: "PCIe", TrAddr: c.TrAddr})
	}
	if err != nil && !spdk.IsExists(err) {
		return false, fmt.Errorf("disk %s: %w", c.where(), err)
	}
	return load, nil
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

// attachPath looks at the file or block device of an aio pd, which it makes
// when a new pd gives a size for a file that is not there, and gives it to the
// data plane by its name without symbolic links. ours says that it carries the
// pd's stamp.
func (a *Agent) attachPath(ctx context.Context, spec *apiv1.PdSpec, c conf, name string) (ours bool, err error) {
	if err := a.unhold(spec.Id); err != nil {
		return false, err
	}
	id, err := a.Disks.Identify(c.Filename)
	if err == nil {
		err = a.otherName(spec, c, id)
	}
	if errors.Is(err, disk.ErrNotFound) {
		err = a.makeFile(spec, c)
	}
	if err != nil {
		return false, err
	}
	a.settleGlances(ctx, id)
	dev, err := a.Disks.Open(c.Filename)
	if err != nil {
		return false, err
	}
	if ours, err = a.admit(ctx, spec, c, dev); err != nil {
		return false, errors.Join(err, dev.Close())
	}
	if ours {
		a.warnOfCache(ctx, spec, c)
	}
	path := dev.Path()
	if err = a.hold(spec, c, dev); err == nil {
		_, err = a.Plane.BdevAioCreate(ctx, spdk.AioCreate{Name: name, Filename: path, BlockSize: vda.SectorSize})
	}
	if err != nil && !spdk.IsExists(err) {
		return false, errors.Join(fmt.Errorf("disk %s: %w", c.where(), err), a.unhold(spec.Id))
	}
	return ours, nil
}

// makeFile makes the file of an aio pd that has never been formatted. One that
// has been had a file, which is somewhere.
func (a *Agent) makeFile(spec *apiv1.PdSpec, c conf) error {
	fresh, err := a.mayFormat(spec)
	switch {
	case err != nil:
		return err
	case !fresh:
		return fmt.Errorf("%s is not there; this pd has been formatted before, so no new file is made in its place; "+
			"the pd comes back by itself once the file is there again: is its file system mounted?", c.Filename)
	case c.Size == 0:
		return fmt.Errorf("%s does not exist, and no size is given to make a file of", c.Filename)
	}
	return a.Disks.Make(c.Filename, c.Size)
}

// admitBdev is admit for a bdev that the data plane has and nobody uses.
func (a *Agent) admitBdev(ctx context.Context, spec *apiv1.PdSpec, c conf, bdev *spdk.Bdev) (ours bool, err error) {
	id := disk.ID{
		Now:     bdev.Name + " " + bdev.UUID,
		Lasting: fmt.Sprintf("%s of %d bytes", bdev.UUID, bdev.Bytes()),
		Traits:  nvmeTraits(bdev.DriverSpecific),
	}
	if err := a.refusedLately(spec, id); err != nil {
		return false, err
	}
	err = a.Plane.WithRaw(ctx, bdev.Name, func(d agent.RawDisk) error {
		var err error
		ours, err = a.admit(ctx, spec, c, &attached{d, c.where(), id})
		return err
	})
	if ours && err == nil {
		a.warnOfCache(ctx, spec, c)
	}
	return ours, err
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
	return a.Plane.LvstoreOn(ctx, base)
}

// letGo detaches a disk that is not to be used, so that its owner can. An NVMe
// device is the data plane's in any case.
func (a *Agent) letGo(ctx context.Context, c conf, id string) error {
	if c.Type == "nvme" {
		return nil
	}
	return a.detachBase(ctx, c.Type, id)
}

func (a *Agent) detachBase(ctx context.Context, kind, id string) error {
	name := pdPrefix + id
	switch kind {
	case "malloc":
		return agent.Drop(a.Plane.BdevMallocDelete(ctx, name))
	case "aio":
		if err := agent.Drop(a.Plane.BdevAioDelete(ctx, name)); err != nil {
			return err
		}
		return a.unhold(id)
	}
	return agent.Drop(a.Plane.BdevNvmeDetachController(ctx, name))
}
