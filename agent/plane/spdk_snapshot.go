package plane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// GrowLvol: what SPDK adds to a volume shows what its disks hold there, and a
// namespace that changes its size below another of the same process makes the whole
// data plane stand still (docs/spdk.md).
func (d *spdkTgt) GrowLvol(context.Context, string, uint64) error {
	return errors.New("its primary's data plane is SPDK, which cannot safely grow an array that is in use; " +
		"it grows when the primary is on a node that runs vda_tgt")
}

// Flushes: SPDK, up to 26.09-pre at least, ends a flush of an lvol with success and does
// nothing.
func (d *spdkTgt) Flushes() bool { return false }

// AppendRaid: SPDK's concat has the bases that it was made with.
func (d *spdkTgt) AppendRaid(context.Context, string, string, bool) error {
	return errors.New("its primary's data plane is SPDK, which cannot add disks to an array that is in use; " +
		"they are added when the primary is on a node that runs vda_tgt")
}

// GrowLvstore: SPDK cannot safely grow a store that is in use.
func (d *spdkTgt) GrowLvstore(context.Context, string) error { return ErrKeepsSize }

// SnapshotNeedsQuiet: SPDK, up to 26.05 at least, overwrites metadata of the
// lvstore when a thin volume is written to while a snapshot of it is taken.
func (d *spdkTgt) SnapshotNeedsQuiet() bool { return true }

// MaySnapshot: when SPDK dies while it takes a snapshot of a volume that has one
// already, every SPDK that loads the lvstore afterwards dies of it, up to 26.05 at
// least: one controller after the other would go down with all its arrays.
func (d *spdkTgt) MaySnapshot(head *spdk.BdevLvol) error {
	if head.Clone {
		return errors.New("its primary's data plane is SPDK, which cannot safely take a snapshot of an array that has one already; " +
			"move the primary to a node that runs vda_tgt, or delete the other snapshots first")
	}
	return nil
}

// MayDeleteSnapshot: when SPDK dies while it deletes a snapshot that the volume
// stands on, both may have the same clusters afterwards, and the next deletion gives
// the volume's away.
func (d *spdkTgt) MayDeleteSnapshot(snap *spdk.BdevLvol) error {
	if len(snap.Clones) > 0 {
		return errors.New("its primary's data plane is SPDK, which cannot safely delete a snapshot that the array stands on; " +
			"it is deleted when the primary is on a node that runs vda_tgt, or with the array")
	}
	return nil
}

// MayRollBack: the volume would be a clone that is larger than its parent, of which older SPDKs
// read past the parent's end when a cluster there is written for the first time.
func (d *spdkTgt) MayRollBack(snap, head uint64) error {
	if snap < head {
		return fmt.Errorf("its primary's data plane is SPDK, which cannot safely roll an array of %d bytes back to a snapshot of the %d that it "+
			"had before it grew; it is rolled back when the primary is on a node that runs vda_tgt", head, snap)
	}
	return nil
}

// SnapshotHold: SPDK cannot hold a volume's I/O.
func (d *spdkTgt) SnapshotHold(context.Context, string, string, time.Duration) error {
	return fmt.Errorf("its primary's data plane is SPDK, which cannot hold an array's I/O while others are snapshotted; "+
		"move the primary to a node that runs vda_tgt, or %w", ErrCannotHold)
}

// Unhold: nothing is held.
func (d *spdkTgt) Unhold(context.Context, string, string) (spdk.LvolReleased, error) {
	return spdk.LvolReleased{}, nil
}
