package cn

import (
	"context"
	"fmt"
	"slices"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// limit has the volume keep the array's limits. All I/O of the array comes to it,
// that of secondaries' hosts too. The array serves without them rather than not at
// all: what is wrong is the controller's error, and the next pass tries again.
func (p *pass) limit(ctx context.Context) error {
	l := p.c.Limits.Limits()
	want := spdk.RateLimits{RWIOsPerSec: l.RWIOs, RWMbytesPerSec: l.RWMB, RMbytesPerSec: l.RMB, WMbytesPerSec: l.WMB}
	have := spdk.RateLimits{} // of a volume that has just come up
	if b := p.inv.Bdev(p.volAlias()); b != nil {
		have = b.AssignedRateLimits
	}
	if have == want {
		return nil
	}
	if err := p.Plane.BdevSetQoSLimit(ctx, p.vol, want); err != nil {
		return err
	}
	p.Log.Info("limits of the disk array are set", "da", p.c.DaName, "limits", l)
	return nil
}

// limitAgain sets what could not be set before the array was exported, and says why it cannot be: SPDK
// changes the limits of a bdev only while that is open for I/O, as it is once it is exported.
func (p *pass) limitAgain(ctx context.Context, err error) {
	if spdk.IsTryAgain(err) {
		err = p.limit(ctx)
	}
	exported := slices.ContainsFunc(p.c.Exps, func(e *apiv1.ExpSpec) bool { return !e.Deleted })
	switch {
	case spdk.IsTryAgain(err) && !exported && !p.Plane.Driver().Mirrors():
		p.fail(p.c.Id, fmt.Errorf("the limits of disk array %s cannot be changed yet: its data plane, SPDK, does that only while the array is "+
			"exported; they are set when it has an exporter", p.c.DaName))
	case err != nil:
		p.fail(p.c.Id, fmt.Errorf("the limits of disk array %s cannot be set: %w", p.c.DaName, err))
	}
}
