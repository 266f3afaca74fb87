package array

import (
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// Replacement is a controller whose cn has been gone for too long, and what is
// done about it.
type Replacement struct {
	DAID, CntlrID string
	// To is the cn of the new controller; "" when the array has enough of them
	// by now, and the old one goes.
	To string
}

// PlanReplacement chooses. It returns nil when there is nothing to do, or no
// place. fit says which cns may be used.
func PlanReplacement(tx store.Reader, daID, cntlrID string, fit func(cnID string) bool) (*Replacement, error) {
	e, err := lookAt(tx, daID, cntlrID)
	if err != nil || e == nil {
		return nil, err
	}
	r := &Replacement{DAID: daID, CntlrID: cntlrID}
	if e.surplus {
		return r, nil
	}
	r.To, err = placeAnother(tx, e, fit)
	if err != nil || r.To == "" {
		return nil, err
	}
	return r, nil
}

// eviction is an array one of whose controllers may be replaced.
type eviction struct {
	da      *vda.DA
	cntlrs  []vda.Cntlr // tombstones too
	live    []vda.Cntlr
	old     vda.Cntlr
	surplus bool // its successor is there
}

// lookAt reads an array, which it locks in an Update, and one of its controllers.
// It returns nil when that is not to be replaced: a primary is moved first, or
// cannot be.
func lookAt(tx store.Reader, daID, cntlrID string) (*eviction, error) {
	da, err := tx.DA(daID)
	if err != nil || da.Deleted || !da.Created {
		return nil, vda.IgnoreNotFound(err)
	}
	e := &eviction{da: da}
	if e.cntlrs, err = tx.CntlrsOfDA(daID); err != nil {
		return nil, err
	}
	e.live = slices.DeleteFunc(slices.Clone(e.cntlrs), func(c vda.Cntlr) bool { return c.Deleted })
	at := slices.IndexFunc(e.live, func(c vda.Cntlr) bool { return c.ID == cntlrID })
	if at < 0 || e.live[at].Primary && len(e.live) > 1 {
		return nil, nil
	}
	e.old = e.live[at]
	e.surplus = !e.old.Primary && len(e.live) > int(da.CntlrCnt)
	return e, nil
}

// carries reports whether a cn can have a controller of the array.
func (e *eviction) carries(cn *vda.CN) bool { return cn.Carries(e.da) }

// placeAnother is the cn for one more controller, "" for none. That of a mirrored
// array needs a data plane that can mirror.
func placeAnother(tx store.Reader, e *eviction, fit func(string) bool) (string, error) {
	rows, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return "", err
	}
	var free, taken []placement.CN
	for i := range rows {
		r := &rows[i]
		p := placement.CN{ID: r.ID, Name: r.Name, Location: r.Location, Cntlrs: r.CntlrCount, Primaries: r.PrimaryCount}
		has := slices.IndexFunc(e.cntlrs, func(c vda.Cntlr) bool { return c.CNID == r.ID })
		switch {
		case has < 0 && r.Online && !r.Health.Error && e.carries(r) && fit(r.ID):
			free = append(free, p)
		case has >= 0 && !e.cntlrs[has].Deleted && e.cntlrs[has].ID != e.old.ID:
			taken = append(taken, p)
		}
	}
	return placement.AnotherCntlr(free, taken), nil
}

// Replace makes the new controller, and the old one a tombstone, which its cn carries out
// when it returns. An old one that is the only controller of its array, and so
// primary still, stays until the new one has taken over. The plan has the
// primary first, which admits the new one. ErrStale when the choice was made for
// another state of the array or cluster.
func Replace(tx store.Tx, r *Replacement) (Plan, error) {
	e, err := lookAt(tx, r.DAID, r.CntlrID)
	if err != nil {
		return nil, err
	}
	if e == nil || e.surplus != (r.To == "") || slices.ContainsFunc(e.cntlrs, func(c vda.Cntlr) bool { return c.CNID == r.To }) {
		return nil, ErrStale
	}
	c := Begin(tx)
	plan := stages(Primary, Secondaries)
	for i := range e.live {
		v := &e.live[i]
		switch {
		case v.ID == e.old.ID && !v.Primary:
			v.Deleted = true
			if r.To == "" {
				c.then(func() error {
					return tx.Record(daEvent(e.da, vda.EventCntlrReplaced, "controller %d on cn %s goes: its successor is there", v.Idx,
						nodeName(tx, vda.ControllerNode, v.CNID)))
				})
			}
		case v.ID != e.old.ID && v.Primary:
			plan.addCntlr(v)
		}
		c.updateCntlr(v)
	}
	if r.To != "" {
		if err := c.addCntlr(e, r.To, &plan); err != nil {
			return nil, err
		}
	}
	return plan, c.Write()
}

// addCntlr adds a secondary, with the array's exporters, on a cn that has to be
// online still.
func (c *Change) addCntlr(e *eviction, cnID string, plan *Plan) error {
	fresh := &vda.Cntlr{ID: store.NewID(), DAID: e.da.ID, CNID: cnID, Idx: freeIdx(e.cntlrs)}
	if fresh.Idx > vda.MaxCntlrIdx {
		return vda.Errorf(vda.ResourceExhausted, "da %s has no controller ids left", e.da.Name)
	}
	exps, err := c.tx.ExpsOfDA(e.da.ID)
	if err != nil {
		return err
	}
	at := Node{vda.ControllerNode, cnID}
	c.At(at, func() error {
		cn, err := c.tx.CN(at.ID)
		if err == nil && (!cn.Online || !e.carries(cn)) {
			return ErrStale
		}
		return stale(err)
	})
	c.insertCntlr(fresh)
	for i := range exps {
		if !exps[i].Deleted {
			c.insertES(&exps[i], fresh)
		}
	}
	plan.addCntlr(fresh)
	c.then(func() error {
		return c.tx.Record(daEvent(e.da, vda.EventCntlrReplaced, "controller %d on cn %s, which is %s, gets a successor on cn %s", e.old.Idx,
			nodeName(c.tx, vda.ControllerNode, e.old.CNID), whyLeft(c.tx, e.old.CNID), nodeName(c.tx, vda.ControllerNode, cnID)))
	})
	return nil
}

// freeIdx is above all of the array's: hosts may still know the range of one
// that is gone.
func freeIdx(cntlrs []vda.Cntlr) uint32 {
	top := uint32(0)
	used := map[uint32]bool{}
	for i := range cntlrs {
		top = max(top, cntlrs[i].Idx)
		used[cntlrs[i].Idx] = true
	}
	if top < vda.MaxCntlrIdx {
		return top + 1
	}
	for idx := range uint32(vda.MaxCntlrIdx + 1) {
		if !used[idx] {
			return idx
		}
	}
	return vda.MaxCntlrIdx + 1
}
