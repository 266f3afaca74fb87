package planetest

import (
	"context"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
)

// rawDisk implements agent.RawDisk.
type rawDisk struct {
	c *Cluster
	b *bdev
}

// OpenRaw is for agent.Plane.
func (c *Cluster) OpenRaw(_ context.Context, at spdk.TransportID, subNQN, hostNQN string) (agent.RawDisk, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.reach(at.TrAddr+":"+at.TrSvcID, subNQN, hostNQN)
	if err != nil || b == nil {
		return nil, fmt.Errorf("raw disk: %w", err)
	}
	return &rawDisk{c, b}, nil
}

func (d *rawDisk) Size() uint64 { return d.b.blocks * 4096 }

func (d *rawDisk) Zero(_ context.Context, progress func(uint64)) error {
	time.Sleep(5 * time.Millisecond)
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	under := d.b.medium.under
	if under != nil && under.Full {
		return nvme.CapacityExceeded | nvme.DNR
	}
	*d.b.medium = Medium{Zero: true, under: under}
	if progress != nil {
		progress(d.Size())
	}
	return nil
}

func (d *rawDisk) Clear(ctx context.Context, progress func(uint64)) error {
	d.c.mu.Lock()
	under := d.b.medium.under
	stalled := chan struct{}(nil)
	if under != nil {
		stalled = under.stalled
	}
	d.c.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	*d.b.medium = Medium{Zero: true, under: under}
	if under != nil {
		under.Cleared++
	}
	if progress != nil {
		progress(d.Size())
	}
	return nil
}
