package array

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// An array that is made of a snapshot of another reads what it does not have by an exporter
// of that snapshot, which is made with it, in one transaction. So as long as it is copied
// its source has an exporter, and is not deleted for that. When its primary says that
// nothing of the source is needed any more, the array's row says so first; then the exporter
// goes (NeedlessSources), and what was taken for the clone alone.

// CreateClone is Create of an array that begins with what a snapshot shows. exp, whose id
// da.Source has, exports the snapshot; its array's controllers come first in the plan.
func CreateClone(tx store.Tx, da *vda.DA, exp *vda.Exp, columns []placement.Column, cntlrs []placement.Cntlr) (Plan, error) {
	c := Begin(tx)
	first, err := c.exportSource(da, exp)
	if err != nil {
		return nil, err
	}
	plan, err := c.create(da, columns, cntlrs)
	return append(first, plan...), err
}

// exportSource writes the exporter that a clone is copied from.
func (c *Change) exportSource(da *vda.DA, exp *vda.Exp) (Plan, error) {
	tx := c.tx
	if err := c.LockArrays(exp.DAID); err != nil {
		return nil, err
	}
	from, err := tx.DA(exp.DAID)
	if err != nil {
		return nil, err
	}
	snap, err := tx.SnapByName(exp.DAID, exp.SnapName)
	if err != nil {
		return nil, err
	}
	switch {
	case from.Deleted || !from.Purge.IsZero():
		return nil, vda.Errorf(vda.NotFound, "da %s does not exist", from.Name)
	case snap.State != vda.SnapTaken:
		return nil, vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is not taken: snap get says when it is", snap.Name, from.Name)
	}
	if da.Source.At, err = sourceAt(tx, exp.DAID); err != nil {
		return nil, err
	}
	da.Source.Term = from.Term
	if !da.Created { // of one that is adopted its primary knows it
		da.Source.Size = snap.Size
	}
	first := stages(Primary, Secondaries)
	live, err := c.cntlrs(exp.DAID, nil)
	if err != nil {
		return nil, err
	}
	for _, v := range live {
		first.addCntlr(v)
	}
	c.then(func() error {
		exp.Version = 0
		for _, v := range live {
			exp.Version = max(exp.Version, v.Version)
		}
		return tx.InsertExp(exp)
	})
	for _, v := range live {
		c.insertES(exp, v)
	}
	return first, nil
}

// maxSourceAt is how many of its source's controllers a clone is told of.
const maxSourceAt = 8

// sourceAt is where the controllers of an array are, the primary first.
func sourceAt(tx store.Reader, daID string) (at []vda.Listener, err error) {
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(cntlrs, func(a, b vda.Cntlr) int {
		return cmp.Or(-compareBool(a.Primary, b.Primary), cmp.Compare(a.Idx, b.Idx))
	})
	for i := range cntlrs {
		if cntlrs[i].Deleted || len(at) == maxSourceAt {
			continue
		}
		cn, err := tx.Unlocked().CN(cntlrs[i].CNID)
		if err != nil {
			return nil, err
		}
		at = append(at, cn.Inner())
	}
	return at, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// CloneReport is what the primary of a term says of a clone.
type CloneReport struct {
	DAID        string
	Term        uint64
	Done, Total uint64 // bytes
	Independent bool
}

// NoteClone notes how far a clone has come. When it needs nothing of its source any more,
// its primary is told to let go of that, which the plan is.
func NoteClone(tx store.Tx, r *CloneReport) (Plan, error) {
	da, err := tx.DA(r.DAID)
	if err != nil || !da.Source.Copying() || da.Deleted || da.Term != r.Term {
		return nil, vda.IgnoreNotFound(err)
	}
	if !r.Independent {
		if da.Source.Done == r.Done && da.Source.Total == r.Total {
			return nil, nil
		}
		da.Source.Done, da.Source.Total = r.Done, r.Total
		return nil, tx.UpdateDA(da)
	}
	if err := tx.Record(daEvent(da, vda.EventCloneDone, "all of %s is copied: the array stands for itself", da.Source.Name)); err != nil {
		return nil, err
	}
	da.Source = vda.CloneSource{}
	return Modify(tx, da)
}

// FollowSource has a clone's primary learn where the controllers of its source are by now, and,
// in a cluster with keys, of another term of it.
func FollowSource(tx store.Tx, daID string) (Plan, error) {
	da, err := tx.DA(daID)
	if err != nil || !da.Source.Copying() || da.Deleted {
		return nil, vda.IgnoreNotFound(err)
	}
	exp, err := tx.Unlocked().Exp(da.Source.ExpID)
	if err != nil {
		return nil, vda.IgnoreNotFound(err)
	}
	at, err := sourceAt(tx.Unlocked(), exp.DAID)
	if err != nil {
		return nil, err
	}
	from, err := tx.Unlocked().DA(exp.DAID)
	if err != nil {
		return nil, err
	}
	s, err := tx.Unlocked().Security()
	if err != nil || sameSet(at, da.Source.At) && (s.HopSecret == "" || from.Term == da.Source.Term) {
		return nil, err
	}
	da.Source.At, da.Source.Term = at, from.Term
	return Modify(tx, da)
}

// sameSet: which of the controllers is the primary, the clone's data plane sees by itself.
func sameSet(a, b []vda.Listener) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(l vda.Listener) bool { return !slices.Contains(b, l) })
}

// DropSource has an exporter go from which no clone is copied any more.
func DropSource(tx store.Tx, expID string) (Plan, error) {
	at, err := tx.Unlocked().Exp(expID)
	if err != nil {
		return nil, vda.IgnoreNotFound(err)
	}
	c := Begin(tx)
	if err := c.LockArrays(at.DAID, cloneOf(at.Name)); err != nil {
		return nil, err
	}
	exp, err := tx.Exp(expID)
	if err != nil || exp.Deleted {
		return nil, vda.IgnoreNotFound(err)
	}
	if needed, err := sourceNeeded(tx, exp); err != nil || needed {
		return nil, err
	}
	return DeleteExp(tx, exp)
}

// cloneOf is the id of the array that an exporter or snapshot of that name is for.
func cloneOf(name string) string { return strings.TrimPrefix(name, vda.ClonePrefix) }

func sourceNeeded(tx store.Reader, exp *vda.Exp) (bool, error) {
	da, err := tx.DA(cloneOf(exp.Name))
	if err != nil {
		return false, vda.IgnoreNotFound(err)
	}
	return !da.Deleted && da.Source.ExpID == exp.ID, nil
}

// CloneSnapGrace is for how long a snapshot that was taken for a clone may be there before
// the clone.
const CloneSnapGrace = 10 * time.Minute

// DropCloneSnap has a snapshot go that was taken for a clone alone, when nothing shows it.
// One that was adopted stays while the clone is not known, which may be an orphan still that
// lives on it.
func DropCloneSnap(tx store.Tx, id string, now time.Time) (Plan, error) {
	at, err := tx.Unlocked().Snap(id)
	if err != nil {
		return nil, vda.IgnoreNotFound(err)
	}
	if err := Begin(tx).LockArrays(at.DAID); err != nil {
		return nil, err
	}
	snap, err := tx.Snap(id)
	if err != nil || !snap.Live() {
		return nil, vda.IgnoreNotFound(err)
	}
	exps, err := tx.ExpsOfDA(snap.DAID)
	if err != nil || slices.ContainsFunc(exps, func(e vda.Exp) bool { return e.SnapName == snap.Name }) {
		return nil, err
	}
	if adopted := snap.Asked.IsZero(); adopted || now.Sub(snap.Asked) < CloneSnapGrace {
		if _, err := tx.Unlocked().DA(cloneOf(snap.Name)); err != nil { // it may be about to be made, or adopted
			return nil, vda.IgnoreNotFound(err)
		}
	}
	return DeleteSnap(tx, snap)
}
