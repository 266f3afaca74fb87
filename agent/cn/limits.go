package cn

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// limit has the volume keep the array's limits, and each writable snapshot that is exported
// likewise, for itself. All I/O comes to them, that of secondaries' hosts too. The array serves
// without limits rather than not at all: what is wrong is the controller's error, and the next
// pass tries again.
func (p *pass) limit(ctx context.Context) (err error) {
	l := p.c.Limits.Limits()
	want := spdk.RateLimits{RWIOsPerSec: l.RWIOs, RWMbytesPerSec: l.RWMB, RMbytesPerSec: l.RMB, WMbytesPerSec: l.WMB}
	for _, name := range p.limited() {
		have := spdk.RateLimits{} // of what has just come up
		if b := p.inv.Bdev(name); b != nil {
			have = b.AssignedRateLimits
		}
		if have == want {
			continue
		}
		switch setErr := p.Plane.BdevSetQoSLimit(ctx, name, want); {
		case spdk.IsNoSuchDevice(setErr) && name != p.volAlias(): // the snapshot has an error that says so
			continue
		case setErr != nil:
			err = cmp.Or(err, setErr)
			continue
		}
		p.Log.Info("limits of the disk array are set", "da", p.c.DaName, "on", name, "limits", l)
	}
	return err
}

// limited are the aliases of what hosts may write to.
func (p *pass) limited() []string {
	names := []string{p.volAlias()}
	for _, s := range p.c.Snaps {
		exported := slices.ContainsFunc(p.c.Exps, func(e *apiv1.ExpSpec) bool { return !e.Deleted && e.SnapId == s.Id })
		if s.Clone != nil && s.Stage() == apiv1.SnapState_SNAP_STATE_TAKEN && exported {
			names = append(names, p.snapAlias(s.Id))
		}
	}
	return names
}

// limitAgain sets what could not be set before the array was exported, and says why it cannot be: SPDK
// changes the limits of a bdev only while that is open for I/O, as it is once it is exported.
func (p *pass) limitAgain(ctx context.Context, err error) {
	if spdk.IsTryAgain(err) {
		err = p.limit(ctx)
	}
	exported := slices.ContainsFunc(p.c.Exps, func(e *apiv1.ExpSpec) bool { return !e.Deleted && e.SnapName == "" })
	switch {
	case spdk.IsTryAgain(err) && !exported && !p.Plane.Driver().Mirrors():
		p.fail(p.c.Id, fmt.Errorf("the limits of disk array %s cannot be changed yet: its data plane, SPDK, does that only while the array is "+
			"exported; they are set when it has an exporter", p.c.DaName))
	case err != nil:
		p.fail(p.c.Id, fmt.Errorf("the limits of disk array %s cannot be set: %w", p.c.DaName, err))
	}
}
