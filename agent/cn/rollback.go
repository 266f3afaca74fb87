package cn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// An array is rolled back to a snapshot S by calls of which each is whole or not at all
// on media, and what there is after each says which comes next:
//
//	vda-vol          -> clone S           nothing has happened
//	vda-vol, new-S   -> rename to old-S
//	old-S, new-S     -> rename to vda-vol
//	vda-vol, old-S   it is done
//
// Old-S stays until SQL knows that it is done: an array without it that is asked for a
// rollback has not been rolled back, and one with it is not rolled back again. No
// exporter shows the array until old-S has gone, as the control plane sees to; the
// space that old-S holds is what an array that is not thin has been promised.

// rollBack carries out what SQL says of a rollback to a snapshot that is there.
func (r snapshots) rollBack(ctx context.Context, s *apiv1.SnapSpec) error {
	switch s.Rollback {
	case apiv1.SnapRollback_SNAP_ROLLBACK_ASKED:
		return r.rollTo(ctx, s)
	case apiv1.SnapRollback_SNAP_ROLLBACK_DONE:
		return r.deleteLvol(ctx, r.oldAlias(s))
	default:
		return nil
	}
}

// rollTo makes the volume what a snapshot shows. The volume is up.
func (r snapshots) rollTo(ctx context.Context, s *apiv1.SnapSpec) error {
	old, err := r.lvolAt(ctx, r.oldAlias(s))
	if err != nil {
		return err
	}
	fresh, err := r.lvolAt(ctx, r.newAlias(s))
	if err != nil {
		return err
	}
	if old != nil { // it is done: without the volume, the pass would not be here
		return cmp.Or(r.renamed(old), r.renamed(fresh))
	}
	if err := r.unseen(ctx); err != nil {
		return err
	}
	head, err := r.Plane.BdevGet(ctx, r.vol, 0)
	if err != nil {
		return err
	}
	snap, err := r.Plane.BdevGet(ctx, r.snapAlias(s.Id), 0)
	if err != nil {
		return err
	}
	if err := r.Plane.Driver().MayRollBack(snap.Bytes(), head.Bytes()); err != nil {
		return err
	}
	if err := r.hold(ctx); err != nil { // hosts may write to writable snapshots
		return err
	}
	if fresh == nil {
		r.Log.Info("rolling the disk array back", "da", r.c.DaName, "snap", s.Name)
		if err := r.do(ctx, func(ctx context.Context) error {
			_, err := r.Plane.BdevLvolClone(ctx, r.snapAlias(s.Id), vda.NewVolPrefix+s.Id)
			return err
		}); err != nil {
			return err
		}
		if fresh, err = r.Plane.BdevGet(ctx, r.newAlias(s), 0); err != nil {
			return err
		}
	}
	// The array may have grown since. What it is still to grow is for grow, which makes sure
	// that there is room.
	if fresh.Bytes() < head.Bytes() {
		if err := r.do(ctx, func(ctx context.Context) error {
			return r.Plane.BdevLvolResize(ctx, r.newAlias(s), head.Bytes()>>20)
		}); err != nil {
			return err
		}
	}
	if err := r.rename(ctx, r.volAlias(), vda.OldVolPrefix+s.Id); err != nil {
		return err
	}
	return r.show(ctx, s)
}

// resume finishes a rollback whose primary has died between the two renames, or takes
// it back when its snapshot is to go. The lvstore is there and the volume is not. It
// returns false when there is nothing of the kind.
func (r snapshots) resume(ctx context.Context) (bool, error) {
	for _, s := range r.c.Snaps {
		old, err := r.lvolAt(ctx, r.oldAlias(s))
		if err != nil {
			return false, err
		}
		if old == nil {
			continue
		}
		if err := r.ready(ctx); err != nil {
			return false, err
		}
		if s.Stage() == apiv1.SnapState_SNAP_STATE_DELETING {
			r.Log.Info("the rollback of the disk array is given up", "da", r.c.DaName, "snap", s.Name)
			return true, r.putInPlace(ctx, r.oldAlias(s))
		}
		return true, r.show(ctx, s)
	}
	return false, nil
}

// show puts the new volume in the place of the one that has been put aside.
func (r snapshots) show(ctx context.Context, s *apiv1.SnapSpec) error {
	if err := r.putInPlace(ctx, r.newAlias(s)); err != nil {
		return err
	}
	r.Log.Info("the disk array is rolled back", "da", r.c.DaName, "snap", s.Name)
	return nil
}

// putInPlace makes an lvol the volume, where there is none.
func (r snapshots) putInPlace(ctx context.Context, alias string) error {
	if err := r.rename(ctx, alias, volPrefix+r.c.DaId); err != nil {
		return err
	}
	b, err := r.Plane.BdevGet(ctx, r.volAlias(), 0)
	if err != nil {
		return err
	}
	r.vol = b.Name
	r.inv, err = r.look(ctx)
	return err
}

// unseen makes sure that nobody uses the volume: no exporter shows it, and those that
// are to go have gone.
func (r snapshots) unseen(ctx context.Context) error {
	for _, e := range r.c.Exps {
		switch {
		case e.SnapName != "":
		case !e.Deleted:
			return fmt.Errorf("exporter %s shows the disk array", e.Name)
		default:
			if err := r.dropExp(ctx, e); err != nil {
				return fmt.Errorf("exporter %s, which shows the disk array, has not gone yet: %w", e.Name, err)
			}
		}
	}
	return nil
}

// unroll takes away what an attempt has left of a rollback to a snapshot that is to go. An
// array that is rolled back, and SQL does not know it, is what it was before: its user has
// given the rollback up, and no exporter has shown it since.
func (r snapshots) unroll(ctx context.Context, s *apiv1.SnapSpec) error {
	old, err := r.lvolAt(ctx, r.oldAlias(s))
	if err != nil {
		return err
	}
	if old != nil && s.Rollback == apiv1.SnapRollback_SNAP_ROLLBACK_ASKED {
		fresh, err := r.lvolAt(ctx, r.newAlias(s))
		if err := cmp.Or(err, r.renamed(old), r.renamed(fresh)); err != nil {
			return err
		}
		if err := r.unseen(ctx); err != nil {
			return err
		}
		r.Log.Info("the rollback of the disk array is given up, and undone", "da", r.c.DaName, "snap", s.Name)
		// Between the two a pass finds the volume put aside, and resume puts it back.
		if err := r.rename(ctx, r.volAlias(), vda.NewVolPrefix+s.Id); err != nil {
			return err
		}
		if err := r.putInPlace(ctx, r.oldAlias(s)); err != nil {
			return err
		}
	}
	if err := r.deleteLvol(ctx, r.newAlias(s)); err != nil {
		return err
	}
	return r.deleteLvol(ctx, r.oldAlias(s))
}

func (r snapshots) rename(ctx context.Context, alias, name string) error {
	return r.do(ctx, func(ctx context.Context) error { return r.Plane.BdevLvolRename(ctx, alias, name) })
}

// deleteLvol deletes an lvol that nobody uses, if it is there.
func (r snapshots) deleteLvol(ctx context.Context, alias string) error {
	b, err := r.lvolAt(ctx, alias)
	if err != nil || b == nil {
		return err
	}
	if err := r.renamed(b); err != nil {
		return err
	}
	if l := b.Lvol(); l != nil && len(l.Clones) > 0 {
		return errors.New("others stand on what was on the disk array before")
	}
	return r.do(ctx, func(ctx context.Context) error { return agent.Drop(r.Plane.BdevLvolDelete(ctx, b.Name)) })
}

// renamed refuses an lvol that is the volume as well: it has both names while the data
// plane renames it, which takes as long as its metadata takes to be written.
func (r snapshots) renamed(b *spdk.Bdev) error {
	if b != nil && slices.Contains(b.Aliases, r.volAlias()) {
		return errors.New("the data plane is still renaming the volume")
	}
	return nil
}

// lvolAt returns the bdev of an alias, nil when there is none.
func (r snapshots) lvolAt(ctx context.Context, alias string) (*spdk.Bdev, error) {
	b, err := r.Plane.BdevGet(ctx, alias, 0)
	return b, agent.Drop(err)
}

func (r snapshots) newAlias(s *apiv1.SnapSpec) string {
	return daPrefix + r.c.DaId + "/" + vda.NewVolPrefix + s.Id
}
func (r snapshots) oldAlias(s *apiv1.SnapSpec) string {
	return daPrefix + r.c.DaId + "/" + vda.OldVolPrefix + s.Id
}
