package array

import (
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// CreateSnap asks an array's primary for a snapshot.
func CreateSnap(tx store.Tx, s *vda.Snap) (Plan, error) {
	return changeSnap(tx, s.DAID, func(c *Change) { c.then(func() error { return tx.InsertSnap(s) }) })
}

// DeleteSnap turns a snapshot into a tombstone, whether it has been taken or not.
func DeleteSnap(tx store.Tx, s *vda.Snap) (Plan, error) {
	s.State = vda.SnapDeleting
	return changeSnap(tx, s.DAID, func(c *Change) { c.then(func() error { return tx.UpdateSnap(s) }) })
}

// RollBack asks an array's primary to roll the array back to a snapshot.
func RollBack(tx store.Tx, s *vda.Snap) (Plan, error) {
	s.Rollback = vda.RollbackAsked
	return changeSnap(tx, s.DAID, func(c *Change) { c.then(func() error { return tx.UpdateSnap(s) }) })
}

// changeSnap has the primary, which alone knows of snapshots, learn of a change.
func changeSnap(tx store.Tx, daID string, rows func(*Change)) (Plan, error) {
	return changeSnaps(tx, []string{daID}, func(c *Change, _ []*vda.Cntlr) error {
		rows(c)
		return nil
	})
}

// changeSnaps does so for several arrays; rows gets their primaries, nil for one that has
// none.
func changeSnaps(tx store.Tx, das []string, rows func(*Change, []*vda.Cntlr) error) (Plan, error) {
	c, p := Begin(tx), stages(Primary)
	if err := c.LockArrays(das...); err != nil {
		return nil, err
	}
	primaries := make([]*vda.Cntlr, len(das))
	for i, id := range das {
		cntlrs, err := tx.CntlrsOfDA(id)
		if err != nil {
			return nil, err
		}
		for j := range cntlrs {
			if v := &cntlrs[j]; v.Primary && !v.Deleted {
				c.updateCntlr(v)
				p.addCntlr(v)
				primaries[i] = v
			}
		}
	}
	if err := rows(c, primaries); err != nil {
		return nil, err
	}
	return p, c.Write()
}

// TookSnap notes that the primary of a term has a snapshot on media: from now on it
// is never taken again, and the primary is told so. held and size are in
// bytes; the size is another than the array's was in SQL when a growth was open. The array
// is locked. It reports whether that is news.
func (c *Change) TookSnap(primary *vda.Cntlr, term uint64, id string, held, size uint64) (bool, error) {
	s, err := c.tx.Snap(id)
	if err != nil {
		return false, vda.IgnoreNotFound(err)
	}
	da, err := c.tx.DA(s.DAID)
	if err != nil || !primary.Primary || da.Term != term || s.State == vda.SnapDeleting || s.State == vda.SnapTogether {
		return false, err
	}
	if s.State == vda.SnapTaken {
		before := *s
		if held > 0 {
			s.Held = held
		}
		if size > 0 { // of one that was taken with others, nobody has said it yet
			s.Size = size
		}
		if *s == before {
			return false, nil
		}
		return false, c.tx.UpdateSnap(s)
	}
	s.State, s.Held, s.Taken = vda.SnapTaken, held, time.Now().UTC()
	if size > 0 { // an agent of before does not say
		s.Size = size
	}
	if err := c.tx.UpdateSnap(s); err != nil {
		return false, err
	}
	c.updateCntlr(primary)
	return true, nil
}

// RolledBack notes that the primary of a term has carried out what a state of a
// rollback asks for, and has it told of the next one. The array is locked. version is the
// primary's that it was given: one that was given another since is to speak of that, as a
// report that is recorded late could be of an earlier rollback to the same snapshot. It
// reports whether that is news.
func (c *Change) RolledBack(primary *vda.Cntlr, term, version uint64, id string, state vda.SnapRollback) (bool, error) {
	s, err := c.tx.Snap(id)
	if err != nil {
		return false, vda.IgnoreNotFound(err)
	}
	da, err := c.tx.DA(s.DAID)
	if err != nil || !primary.Primary || da.Term != term || primary.Version != version || s.State != vda.SnapTaken || s.Rollback != state {
		return false, err
	}
	switch state {
	case vda.RollbackAsked:
		s.Rollback = vda.RollbackDone
	case vda.RollbackDone:
		s.Rollback = vda.RollbackNone
	default:
		return false, nil
	}
	if err := c.tx.UpdateSnap(s); err != nil {
		return false, err
	}
	c.updateCntlr(primary)
	return true, nil
}

// DropSnap deletes the row of a snapshot that is to go and of which nothing is
// left on media. The array is locked.
func (c *Change) DropSnap(id string) error {
	s, err := c.tx.Snap(id)
	if err != nil || s.State != vda.SnapDeleting {
		return vda.IgnoreNotFound(err)
	}
	return c.tx.DeleteSnap(id)
}
