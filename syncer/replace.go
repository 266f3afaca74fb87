package syncer

import (
	"context"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// Replace makes controllers anew on other cns, because their own has been gone
// for too long. The old rows become tombstones, which that cn carries out when
// it returns. One that is the only controller of its array, and so primary
// still, stays until the new one has taken over. fit says which cns may be
// used. It returns how many were replaced; for others there is nothing to do,
// or no place.
func (s *Syncer) Replace(ctx context.Context, cntlrIDs []string, fit func(cnID string) bool) (replaced int, err error) {
	primaries, fresh := map[string]bool{}, map[string]bool{}
	for _, id := range cntlrIDs {
		var primary, other string
		err = s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
			primary, other, err = replace(tx, id, fit)
			return err
		})
		if err != nil {
			break
		}
		if primary+other != "" {
			replaced++
		}
		primaries[primary], fresh[other] = true, true
	}
	// The primaries first, which admit the new ones; what fails is done by the
	// monitors.
	for _, ids := range []map[string]bool{primaries, fresh} {
		delete(ids, "")
		for id, err := range s.each(ctx, ids, s.SyncCn) {
			if err != nil {
				s.cfg.Log.Warn("a cn does not know of a new controller yet", "cn", id, "err", err)
			}
		}
	}
	return replaced, err
}

// replace returns the cns of the array's primary and of the new controller, ""
// where there is nothing to tell.
func replace(tx store.Tx, cntlrID string, fit func(string) bool) (primary, other string, err error) {
	row, err := tx.Cntlr(cntlrID)
	if err != nil {
		return "", "", passOver(err)
	}
	da, err := tx.DA(row.DAID)
	if err != nil || da.Deleted || !da.Created {
		return "", "", passOver(err)
	}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return "", "", err
	}
	live := slices.DeleteFunc(slices.Clone(cntlrs), func(c vda.Cntlr) bool { return c.Deleted })
	at := slices.IndexFunc(live, func(c vda.Cntlr) bool { return c.ID == cntlrID })
	if at < 0 {
		return "", "", nil
	}
	old := live[at]
	if old.Primary && len(live) > 1 {
		return "", "", nil // it is moved first, or can't be
	}
	surplus := !old.Primary && len(live) > int(da.CntlrCnt) // its successor is there
	var fresh *vda.Cntlr
	if !surplus {
		to, err := placeAnother(tx, cntlrs, old.ID, fit)
		if err != nil || to == "" {
			return "", "", err
		}
		fresh = &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: to, Idx: freeIdx(cntlrs)}
		if fresh.Idx > maxCntlrIdx {
			return "", "", vda.Errorf(vda.ResourceExhausted, "da %s has no controller ids left", da.Name)
		}
	}
	return recordReplaced(tx, live, old, fresh)
}

// maxCntlrIdx is the last that leaves room for its range of controller ids.
const maxCntlrIdx = 0xffef/cntlidsPerCntlr - 1

// freeIdx is above all of the array's: hosts may still know the range of one
// that is gone.
func freeIdx(cntlrs []vda.Cntlr) uint32 {
	top := uint32(0)
	used := map[uint32]bool{}
	for i := range cntlrs {
		top = max(top, cntlrs[i].Idx)
		used[cntlrs[i].Idx] = true
	}
	if top < maxCntlrIdx {
		return top + 1
	}
	for idx := range uint32(maxCntlrIdx + 1) {
		if !used[idx] {
			return idx
		}
	}
	return maxCntlrIdx + 1
}

// placeAnother is the cn for one more controller, "" for none.
func placeAnother(tx store.Reader, cntlrs []vda.Cntlr, instead string, fit func(string) bool) (string, error) {
	rows, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return "", err
	}
	var free, taken []placement.CN
	for i := range rows {
		r := &rows[i]
		p := placement.CN{ID: r.ID, Name: r.Name, Location: r.Location, Cntlrs: r.CntlrCount, Primaries: r.PrimaryCount}
		has := slices.IndexFunc(cntlrs, func(c vda.Cntlr) bool { return c.CNID == r.ID })
		switch {
		case has < 0 && r.Online && !r.Health.Error && fit(r.ID):
			free = append(free, p)
		case has >= 0 && !cntlrs[has].Deleted && cntlrs[has].ID != instead:
			taken = append(taken, p)
		}
	}
	return placement.AnotherCntlr(free, taken), nil
}

func recordReplaced(tx store.Tx, live []vda.Cntlr, old vda.Cntlr, fresh *vda.Cntlr) (primary, other string, err error) {
	bump := func(c *vda.Cntlr) error {
		if c.Version, err = tx.BumpNode(vda.ControllerNode, c.CNID); err != nil {
			return err
		}
		return tx.UpdateCntlr(c)
	}
	// Nodes in the order of ids, as all transactions that change several.
	slices.SortFunc(live, func(a, b vda.Cntlr) int { return count(a.CNID > b.CNID) - count(a.CNID < b.CNID) })
	for i := range live {
		c := &live[i]
		switch {
		case c.ID == old.ID && !old.Primary:
			c.Deleted = true
		case c.Primary && c.ID != old.ID:
			primary = c.CNID
		}
		if err := bump(c); err != nil {
			return "", "", err
		}
	}
	if fresh == nil {
		return primary, "", nil
	}
	if fresh.Version, err = tx.BumpNode(vda.ControllerNode, fresh.CNID); err != nil {
		return "", "", err
	}
	if err := tx.InsertCntlr(fresh); err != nil {
		return "", "", fmt.Errorf("new controller: %w", err)
	}
	exps, err := tx.ExpsOfDA(fresh.DAID)
	if err != nil {
		return "", "", err
	}
	for i := range exps {
		if exps[i].Deleted {
			continue
		}
		if err := tx.InsertES(&vda.ES{ID: store.NewID(), ExpID: exps[i].ID, CntlrID: fresh.ID}); err != nil {
			return "", "", err
		}
	}
	return primary, fresh.CNID, nil
}
