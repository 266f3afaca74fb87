package dn

import (
	"context"
	"fmt"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/reason"
)

// What a host has written and flushed outlives a power cut where its flush reaches the disk, or where the
// disk loses nothing that it has acknowledged. A data plane that passes no flush on has to have disks of
// the second kind.

// losesWrites returns why a disk may lose what a host has written and flushed, nil when it does not. A file is
// left to who makes a pd of it: it loses some, and write_cache of the pd says so. pd is "" when there is none yet.
func (a *Agent) losesWrites(ctx context.Context, c conf, pd string) error {
	if a.Plane.Driver().Flushes() {
		return nil
	}
	var off string
	switch c.Type {
	case "aio":
		if id, err := a.Disks.Identify(c.Filename); err != nil || !id.WriteCache {
			return nil
		}
		off = "turn the cache off (hdparm -W 0, sdparm --clear WCE, or nvme set-feature -f 6 -V 0 with \"write through\" into the device's " +
			"queue/write_cache in /sys/block after it)"
	case "nvme":
		switch on, err := a.nvmeCache(ctx, pd); {
		case err != nil:
			return fmt.Errorf("whether it has a volatile write cache, which this node's data plane, SPDK, does not flush, cannot be told: %s; "+
				"that is tried again, and \"volatile_cache\":%q in the pd's conf has it used in any case", reason.Of(err), vda.CacheAccepted)
		case !on:
			return nil
		}
		off = "turn the cache off for good before SPDK gets the device (nvme set-feature -f 6 -V 0 --save, if the device can save it)"
	default:
		return nil
	}
	return fmt.Errorf("it has a volatile write cache, and this node's data plane, SPDK, passes no flush on to it: a power cut may lose "+
		"writes that were acknowledged and flushed; %s, run vda_tgt on this node, or create the pd with \"volatile_cache\":%q in its conf",
		off, vda.CacheAccepted)
}

// warnOfCache tells the log of a disk that is used though it loses writes: it was formatted before that was refused, or by
// a data plane that flushes.
func (a *Agent) warnOfCache(ctx context.Context, spec *apiv1.PdSpec, c conf) {
	if c.VolatileCache == vda.CacheAccepted {
		return
	}
	if why := a.losesWrites(ctx, c, spec.Id); why != nil {
		a.Log.Warn("this disk may lose acknowledged writes", "pd", spec.Name, "disk", c.where(), "why", why)
	}
}

// cacheOf says what a power cut does to writes to a pd's disk that were acknowledged; "" when that cannot be told.
func (a *Agent) cacheOf(ctx context.Context, spec *apiv1.PdSpec) vda.WriteCache {
	c, err := parseConf(spec.ConfJson)
	if err != nil {
		return ""
	}
	var volatile bool
	switch c.Type {
	case "malloc":
		return vda.CacheMemory
	case "aio":
		id, err := a.Disks.Identify(c.Filename)
		if err != nil {
			return ""
		}
		volatile = id.WriteCache || id.File
	case "nvme":
		if volatile, err = a.nvmeCache(ctx, spec.Id); err != nil {
			a.Log.Warn("whether a disk has a volatile write cache cannot be told", "pd", spec.Name, "disk", c.where(), "err", err)
			return ""
		}
	}
	switch {
	case !volatile:
		return vda.CacheNone
	case a.Plane.Driver().Flushes():
		return vda.CacheFlushed
	}
	return vda.CacheNotFlushed
}

// nvmeCache reports that the NVMe controller of a pd, which the data plane drives, has a volatile write cache
// (VWC of Identify Controller) and that it is on (Get Features).
func (a *Agent) nvmeCache(ctx context.Context, pd string) (bool, error) {
	read := func(op nvme.Opcode, cdw10 uint32) (nvme.Completion, []byte, error) {
		var sqe nvme.Command
		sqe[0] = byte(op)
		sqe.SetCDW(10, cdw10)
		cqe, data, err := a.Plane.BdevNvmeAdminRead(ctx, pdPrefix+pd, sqe, nvme.IdentifyLen)
		if err != nil {
			return nvme.Completion{}, nil, err
		}
		c, err := nvme.DecodeCompletion(cqe[:])
		if err == nil && c.Status != nvme.Success {
			err = c.Status
		}
		return c, data, err
	}
	_, data, err := read(nvme.AdminIdentify, uint32(nvme.CNSController))
	if err != nil {
		return false, fmt.Errorf("it does not identify itself: %w", err)
	}
	if data[vwcAt]&nvme.VWCPresent == 0 {
		return false, nil
	}
	c, _, err := read(nvme.AdminGetFeatures, uint32(nvme.FeatureWriteCache))
	if err != nil {
		return false, fmt.Errorf("it has one and does not say whether it is on: %w", err)
	}
	return c.DW0&1 != 0, nil
}

// vwcAt is the byte of Identify Controller that says whether there is a volatile write cache.
const vwcAt = 525
