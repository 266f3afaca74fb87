package plane

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// How SPDK gives up a namespace; the package comment says why.

const (
	// hostNotice is the least time from the ANA change to the removal of the
	// namespace. Hosts are told at once and take a millisecond.
	hostNotice = 50 * time.Millisecond
	// quietFor is how long the target must have answered no I/O.
	quietFor = 20 * time.Millisecond
	// quietMax bounds the wait for that: other subsystems may be busy, and
	// SPDK counts them together.
	quietMax = 150 * time.Millisecond
	// quietStep is the polling interval; SPDK answers every 4 ms at best.
	quietStep = 5 * time.Millisecond
)

// noBdev is a name that no bdev has.
const noBdev = "vda-none"

func (d *spdkTgt) Swap(context.Context, string, uint32, string) bool { return false }

func (d *spdkTgt) Quiesce(ctx context.Context, ns Namespace) error {
	if ns.Settle != nil {
		if err := ns.Settle(ctx, ns.Bdev); err != nil {
			return err
		}
	}
	if err := d.Drain(ctx, ns.NQN, ns.NSID); err != nil {
		return err
	}
	return d.AwaitQuiet(ctx, ns.NQN)
}

// PrepareLoss removes a namespace; one that is not there is not an error.
func (d *spdkTgt) PrepareLoss(ctx context.Context, ns Namespace) error {
	if err := d.Quiesce(ctx, ns); err != nil {
		return err
	}
	if err := d.API.NvmfSubsystemRemoveNS(ctx, ns.NQN, ns.NSID); err != nil && !spdk.IsInvalidParams(err) {
		return err
	}
	return nil
}

// Drain: of the calls that make SPDK wait for what is in flight, and then go on
// with what has arrived meanwhile, one is there in all versions and changes
// nothing: to add a namespace under a number that is taken.
func (d *spdkTgt) Drain(ctx context.Context, nqn string, nsid uint32) error {
	_, err := d.API.NvmfSubsystemAddNS(ctx, nqn, spdk.NvmfNamespace{NSID: nsid, BdevName: noBdev})
	if spdk.IsInvalidParams(err) {
		return nil
	}
	return err
}

func (d *spdkTgt) AwaitQuiet(ctx context.Context, nqn string) error {
	told := d.ANASet(nqn).Add(hostNotice)
	begin := time.Now()
	var count uint64
	changed := begin
	for {
		n, err := d.API.NvmfCompletedIO(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		if n != count {
			count, changed = n, now
		}
		if now.After(told) && (now.Sub(changed) >= quietFor || now.Sub(begin) >= quietMax) {
			return nil
		}
		if err := sleep(ctx, quietStep); err != nil {
			return err
		}
	}
}
