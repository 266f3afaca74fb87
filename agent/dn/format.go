package dn

import (
	"context"
	"errors"
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/spdk"
)

// format makes the lvstore of a disk that has none. made says that the bdev
// has just been made.
func (a *Agent) format(ctx context.Context, spec *apiv1.PdSpec, c conf, bdev *spdk.Bdev, made bool) (*spdk.Lvstore, error) {
	if c.Type != "malloc" {
		fresh, err := a.mayFormat(spec)
		switch {
		case err != nil:
			return nil, err
		case !fresh:
			return nil, fmt.Errorf("the lvstore of pd %s does not load from %s; it has been formatted before, and that is not done again",
				spec.Id, c.where())
		case bdev.Claimed:
			return nil, fmt.Errorf("%s is in use in the data plane and is not formatted", c.where())
		}
	}
	err := a.losesWrites(ctx, c, spec.Id)
	switch {
	case err != nil && c.VolatileCache != vda.CacheAccepted: // refused
	case c.Type == "malloc" && made:
		err = bigEnough(c, bdev.Bytes())
	case c.Type != "nvme": // whose look was this one
		err = a.Plane.WithRaw(ctx, bdev.Name, func(d agent.RawDisk) error { return a.stillBlank(ctx, spec, c, d) })
	default:
		err = nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is not formatted: %w", c.where(), err), a.letGo(ctx, c, spec.Id))
	}
	name := a.stamp(spec.Id)
	a.Log.Info("formatting", "pd", spec.Name, "disk", c.where(), "lvstore", name)
	if _, err := a.Plane.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{
		BdevName: bdev.Name, LvsName: name, ClusterSz: c.cluster(bdev.Bytes()), ClearMethod: "none",
		NumMDPagesPerClusterRatio: format.MDRatio(bdev.Bytes(), uint64(c.cluster(bdev.Bytes()))),
	}); err != nil {
		return nil, err
	}
	err = errors.Join(a.State.SetMade(spec.Id, true), a.State.Forget(begunName(spec.Id)), a.State.SetMade(spec.Id+"-begun", false))
	if err != nil {
		return nil, err
	}
	lvs, err := a.Plane.LvstoreOn(ctx, bdev.Name)
	if err == nil && lvs == nil {
		err = fmt.Errorf("the lvstore just made on %s is not listed", bdev.Name)
	}
	return lvs, err
}

// stillBlank looks once more, at the very disk that will be written to, and
// refuses one on which there is more than what admit let pass.
func (a *Agent) stillBlank(ctx context.Context, spec *apiv1.PdSpec, c conf, d agent.RawDisk) error {
	content, err := disk.Glance(ctx, d)
	if err != nil || content.Blank() {
		return err
	}
	var note begunNote
	begun, err := a.State.Kept(begunName(spec.Id), &note)
	if err != nil {
		return err
	}
	if content.CutOff() && (begun && note.Disk != "" || c.Type == "malloc") {
		return nil
	}
	return fmt.Errorf("to the data plane it %v", content)
}

// bigEnough refuses a disk on which an lvstore has no room for a vd.
func bigEnough(c conf, size uint64) error {
	cluster := c.cluster(size)
	if need := format.DeviceBytes(1, uint64(cluster)); size < need {
		return fmt.Errorf("it has %d bytes; a pd with clusters of %d bytes needs %d at least", size, cluster, need)
	}
	return nil
}
