package cn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/spdk"
)

// A growCall makes a volume, or an lvstore, larger. The data plane zeroes what it adds to one that is
// not thin, which may take as long as the disks need to be written, and may wait for
// what only another pass can do, as for a mirror to be told which leg it goes on
// without. So the call outlives the pass that began it.
//
// It also outlives its agent, and may be repeated by the next one, or by another
// primary later: it never makes a volume smaller, so that one which is late does no
// harm. The data plane adds all or nothing.
type growCall struct {
	done chan struct{}
	err  error // once done is closed
	left bool  // a pass has given up waiting for it; guarded by Agent.mu
}

// growWait is how long a pass waits for a volume to grow.
const growWait = 5 * time.Second

// grow has the volume grow to the size that the array is to have, which hosts and
// secondaries are told by an event. The array serves meanwhile, and when that cannot
// be done: what is wrong is the controller's error, and the next pass tries again.
func (p *pass) grow(ctx context.Context) {
	if p.vol == "" {
		return
	}
	b := p.inv.Bdev(p.volAlias())
	if b != nil && b.Bytes() >= p.c.Size {
		return
	}
	b, err := p.Plane.BdevGet(ctx, p.vol, 0) // the inventory may be older than a call
	if err == nil && b.Bytes() >= p.c.Size {
		return
	}
	had := uint64(0)
	if err == nil {
		had = b.Bytes()
		err = p.growFrom(ctx, b)
	}
	if err != nil {
		p.fail(p.c.Id, fmt.Errorf("disk array %s is to grow to %d bytes, has %d, and serves meanwhile: %w", p.c.DaName, p.c.Size, had, err))
		return
	}
	p.Log.Info("the disk array has grown", "da", p.c.DaName, "from", had, "to", p.c.Size)
}

// growFrom has a volume that is too small grow, and waits for it.
func (p *pass) growFrom(ctx context.Context, b *spdk.Bdev) error {
	if !p.outlives(p.c.DaId) {
		if err := p.roomToGrow(ctx, b); err != nil {
			return err
		}
	}
	vol, size := p.vol, p.c.Size
	if err := p.outlive(ctx, p.c.DaId, func() error { return p.Plane.Driver().GrowLvol(p.life, vol, size>>20) }); err != nil {
		return err
	}
	// The call may have been that of an earlier order, to a smaller size.
	if b, err := p.Plane.BdevGet(ctx, p.vol, 0); err != nil {
		return err
	} else if b.Bytes() < p.c.Size {
		p.Loop.KickNamed(p.c.Id, false)
		return fmt.Errorf("it has %d bytes by now", b.Bytes())
	}
	return nil
}

// outlives reports that a call is under way.
func (p *pass) outlives(key string) bool {
	p.Agent.mu.Lock()
	defer p.Agent.mu.Unlock()
	return p.growCalls[key] != nil
}

// outlive waits for a call that may outlive the pass, and begins it when none of its key
// is under way.
func (p *pass) outlive(ctx context.Context, key string, do func() error) error {
	p.Agent.mu.Lock()
	call := p.growCalls[key]
	if call == nil {
		call = p.begin(do)
		p.growCalls[key] = call
	}
	p.Agent.mu.Unlock()
	leave := func(err error) error {
		p.Agent.mu.Lock()
		defer p.Agent.mu.Unlock()
		call.left = true
		return err
	}
	select {
	case <-call.done:
	case <-ctx.Done():
		return leave(context.Cause(ctx))
	case <-time.After(growWait):
		return leave(errors.New("the data plane is still zeroing what it adds"))
	}
	p.Agent.mu.Lock()
	delete(p.growCalls, key)
	p.Agent.mu.Unlock()
	return call.err
}

// begin starts a call.
func (p *pass) begin(do func() error) *growCall {
	call := &growCall{done: make(chan struct{})}
	p.beyond.Go(func() {
		call.err = agent.Guard(do)
		p.Agent.mu.Lock()
		left := call.left
		p.Agent.mu.Unlock()
		close(call.done)
		if left {
			p.Loop.KickNamed(p.c.Id, false)
		}
	})
	return call
}

// roomToGrow refuses a growth after which an array that is not thin could not be
// written to its full size: snapshots have clusters, too.
func (p *pass) roomToGrow(ctx context.Context, b *spdk.Bdev) error {
	l := b.Lvol()
	if p.c.Thin || l == nil {
		return nil
	}
	lvs, err := p.Plane.BdevLvolGetLvstore(ctx, daPrefix+p.c.DaId)
	if err != nil {
		return err
	}
	others, err := p.claimed(ctx)
	if err != nil {
		return err
	}
	has := l.NumAllocatedClusters * p.c.ClusterSize
	if free := lvs.FreeClusters * p.c.ClusterSize; has < p.c.Size && free < p.c.Size-has+others {
		return fmt.Errorf("%d bytes of its physical size are free, and it may need %d more to be written to its full size; %w", free,
			p.c.Size-has+others, errNoRoom)
	}
	return nil
}
