package cn

import (
	"context"
	"fmt"

	"github.com/virtual-disk-array/vda/spdk"
)

// limit has the volume keep the array's limits. All I/O of the array comes to it,
// that of secondaries' hosts too. The array serves without them rather than not at
// all: what is wrong is the controller's error, and the next pass tries again.
func (p *pass) limit(ctx context.Context) {
	l := p.c.Limits.Limits()
	want := spdk.RateLimits{RWIOsPerSec: l.RWIOs, RWMbytesPerSec: l.RWMB, RMbytesPerSec: l.RMB, WMbytesPerSec: l.WMB}
	have := spdk.RateLimits{} // of a volume that has just come up
	if b := p.inv.Bdev(p.volAlias()); b != nil {
		have = b.AssignedRateLimits
	}
	if have == want {
		return
	}
	if err := p.Plane.BdevSetQoSLimit(ctx, p.vol, want); err != nil {
		p.fail(p.c.Id, fmt.Errorf("the limits of disk array %s cannot be set: %w", p.c.DaName, err))
		return
	}
	p.Log.Info("limits of the disk array are set", "da", p.c.DaName, "limits", l)
}
