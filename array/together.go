package array

import (
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// HeldSnap is one of the snapshots that several arrays get of one instant: the primary, in a
// term, that is called to take it and to hold the array's I/O.
//
// All I/O is held from before the last of the calls is answered until after it, as each
// primary says when it is released; and no other primary serves meanwhile when the terms
// are still the same afterwards, when TookTogether records it. So a write that one of the
// snapshots shows was sent before that instant, and what had been acknowledged before it
// was sent is in the others.
type HeldSnap struct {
	SnapID, DAID, DAName string
	At                   Node
	Term                 uint64
}

// CreateSnaps asks for snapshots of several arrays at one instant, whose state is
// vda.SnapTogether. FailedPrecondition when one has no primary.
func CreateSnaps(tx store.Tx, snaps []*vda.Snap) (held []HeldSnap, plan Plan, err error) {
	ids := make([]string, len(snaps))
	for i, s := range snaps {
		ids[i] = s.DAID
	}
	plan, err = changeSnaps(tx, ids, func(c *Change, primaries []*vda.Cntlr) error {
		for i, s := range snaps {
			da, err := tx.DA(s.DAID)
			if err != nil {
				return err
			}
			if primaries[i] == nil {
				return vda.Errorf(vda.FailedPrecondition, "da %s has no primary at present", da.Name)
			}
			held = append(held, HeldSnap{s.ID, da.ID, da.Name, Node{vda.ControllerNode, primaries[i].CNID}, da.Term})
			c.then(func() error { return tx.InsertSnap(s) })
		}
		return nil
	})
	return held, plan, err
}

// TookTogether records that snapshots of several arrays are of one instant and on media.
// FailedPrecondition when one has been deleted since, or another primary serves.
func TookTogether(tx store.Tx, held []HeldSnap, now time.Time) (Plan, error) {
	return changeSnaps(tx, arraysOf(held), func(c *Change, primaries []*vda.Cntlr) error {
		for i, h := range held {
			s, err := tx.Snap(h.SnapID)
			if vda.IgnoreNotFound(err) != nil {
				return err
			}
			if err != nil || s.State != vda.SnapTogether {
				return vda.Errorf(vda.FailedPrecondition, "another request has deleted the snap of da %s", h.DAName)
			}
			da, err := tx.DA(h.DAID)
			if err != nil {
				return err
			}
			if da.Term != h.Term || primaries[i] == nil || primaries[i].CNID != h.At.ID {
				return vda.Errorf(vda.FailedPrecondition, "the primary of da %s has moved meanwhile", h.DAName)
			}
			s.State, s.Taken, s.Size = vda.SnapTaken, now, da.Size
			c.then(func() error { return tx.UpdateSnap(s) })
		}
		return nil
	})
}

// DropTogether makes tombstones of those of the snapshots that are not taken. It reports
// whether all are taken.
func DropTogether(tx store.Tx, held []HeldSnap) (plan Plan, taken bool, err error) {
	plan, err = changeSnaps(tx, arraysOf(held), func(c *Change, _ []*vda.Cntlr) error {
		left := 0
		for _, h := range held {
			s, err := tx.Snap(h.SnapID)
			switch {
			case err != nil:
				if err := vda.IgnoreNotFound(err); err != nil {
					return err
				}
			case s.State == vda.SnapTaken:
				left++
			case s.State == vda.SnapTogether:
				s.State = vda.SnapDeleting
				c.then(func() error { return tx.UpdateSnap(s) })
			}
		}
		taken = left == len(held)
		return nil
	})
	return plan, taken, err
}

// DropOverdue does so with all snapshots that several arrays were to have of one instant,
// when who asked for them has not recorded in time that they are taken.
func DropOverdue(tx store.Tx, now time.Time) error {
	all, err := tx.Unlocked().TogetherSnaps()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s vda.Snap) bool { return now.Sub(s.Asked) < vda.TogetherTime })
	if len(all) == 0 {
		return nil
	}
	held := make([]HeldSnap, len(all))
	for i := range all {
		held[i] = HeldSnap{SnapID: all[i].ID, DAID: all[i].DAID}
	}
	_, _, err = DropTogether(tx, held)
	return err
}

func arraysOf(held []HeldSnap) []string {
	ids := make([]string, len(held))
	for i, h := range held {
		ids[i] = h.DAID
	}
	return ids
}
