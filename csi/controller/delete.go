package controller

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

const (
	busyTime  = 30 * time.Second // for a deletion whose caller says no time
	busyPause = 100 * time.Millisecond
	busyMost  = 2 * time.Second // pauses double up to this, and so much of a call's time is left for its answer
)

// deleted carries a deletion out, and takes what is not there any more for deleted. One that is refused as
// something under way needs its object, such as nodes that have yet to let go of what a clone was copied
// from, is tried again while the call has time: an orchestrator comes back only after a pause that doubles
// each time. The error is a gRPC status.
func deleted(ctx context.Context, del func(context.Context) error) error {
	end, limited := ctx.Deadline()
	if !limited {
		end = time.Now().Add(busyTime)
	}
	for pause := busyPause; ; pause = min(2*pause, busyMost) {
		err := del(ctx)
		switch {
		case err == nil || vda.KindOf(err) == vda.NotFound:
			return nil
		case vda.KindOf(err) != vda.Conflict || time.Until(end) < pause+busyMost:
			return statusOf(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return statusOf(err)
		}
	}
}

// deleteSnap deletes a snapshot of an array, as deleted does.
func deleteSnap(ctx context.Context, p *client.Client, da, snap string) error {
	return deleted(ctx, func(ctx context.Context) error {
		_, err := p.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: da, SnapName: snap})
		return err
	})
}
