package array

import (
	"errors"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// DropVD deletes the row of a vd that is gone, at once, and gives its clusters
// back to the pd. The array and the pd are locked.
func (c *Change) DropVD(v *vda.VD) error {
	if err := errors.Join(c.tx.DeleteVD(v.ID), c.tx.GivePD(v.PDID, v.Clusters)); err != nil {
		return err
	}
	return c.drained(v)
}

// DropCntlr deletes a controller's tombstone with its exporters' states, at once.
// The array is locked, and no node of higher order.
func (c *Change) DropCntlr(v *vda.Cntlr) error {
	ess, err := c.tx.ESsOfCntlr(v.ID)
	if err != nil {
		return err
	}
	for _, es := range ess {
		if err := c.tx.DeleteES(es.ID); err != nil {
			return err
		}
		exp, err := c.tx.Exp(es.ExpID)
		if err != nil {
			return err
		}
		if err := c.dropExpIfDone(exp); err != nil {
			return err
		}
	}
	return c.tx.DeleteCntlr(v.ID)
}

// DropES deletes the state of a deleted exporter on a controller that
// exports it no longer, at once.
func (c *Change) DropES(es *vda.ES) error {
	exp, err := c.tx.Exp(es.ExpID)
	if err != nil || !exp.Deleted {
		return vda.IgnoreNotFound(err)
	}
	if err := c.tx.DeleteES(es.ID); err != nil {
		return err
	}
	return c.dropExpIfDone(exp)
}

// dropExpIfDone deletes an exporter's tombstone with the last of its states.
func (c *Change) dropExpIfDone(exp *vda.Exp) error {
	if !exp.Deleted {
		return nil
	}
	left, err := c.tx.ESsOfExp(exp.ID)
	if err != nil || len(left) > 0 {
		return err
	}
	return c.tx.DeleteExp(exp.ID)
}

// Created notes that an array has been made on media by its primary of a term:
// from now on it is only ever loaded. It reports whether that is news.
func (c *Change) Created(primary *vda.Cntlr, term uint64) (bool, error) {
	da, err := c.tx.DA(primary.DAID)
	if err != nil || da.Created || !primary.Primary || da.Term != term {
		return false, err
	}
	da.Created = true
	if err := c.tx.UpdateDA(da); err != nil {
		return false, err
	}
	c.updateCntlr(primary)
	return true, nil
}

// Settle draws the conclusions for arrays, which are locked, some of whose parts
// are gone or have another health: it drops deleted arrays that have no part
// left, turns the vds of deleted ones without controllers into tombstones, and
// recomputes the health of the rest.
func (c *Change) Settle(daIDs ...string) error {
	p, err := readParts(c.tx, daIDs)
	if err != nil {
		return err
	}
	var other groups[vda.Health] // arrays whose health is another one
	changed := map[string]*vda.DA{}
	for i := range p.das {
		da := &p.das[i]
		vds, cntlrs := p.vds[da.ID], p.cntlrs[da.ID]
		switch {
		case da.Deleted && len(vds) == 0 && len(cntlrs) == 0:
			if err := c.drop(da.ID); err != nil {
				return err
			}
			continue
		case da.Deleted && len(cntlrs) == 0:
			c.deleteVDs(vds)
			continue
		}
		h := healthOf(vda.Joined(vds, p.grps[da.ID]), cntlrs)
		if !h.Error && da.Redundancy.Mirrored() {
			h = unequal(p.mirrors[da.ID])
		}
		if !SameHealth(da.Health, h) {
			other.add(h, da.ID)
			changed[da.ID] = da
		}
	}
	return other.write(func(ids []string, h vda.Health) error {
		if err := c.tx.SetHealths(store.ObjDA, ids, h); err != nil {
			return err
		}
		for _, id := range ids {
			if err := c.noteHealth(changed[id], h); err != nil {
				return err
			}
		}
		return nil
	})
}

// parts are arrays and what they consist of, by array, read with a statement per table.
type parts struct {
	das     []vda.DA // by id
	vds     map[string][]vda.VD
	cntlrs  map[string][]vda.Cntlr
	grps    map[string][]vda.Grp
	mirrors map[string][]vda.Mirror
}

// readParts reads those that are there of arrays, which are locked.
func readParts(tx store.Reader, daIDs []string) (p parts, err error) {
	if p.das, err = tx.DAs(daIDs); err != nil || len(p.das) == 0 {
		return p, err
	}
	return p, p.read(tx, slices.ContainsFunc(p.das, func(da vda.DA) bool { return da.Redundancy.Mirrored() }))
}

// read reads the parts of the arrays in das.
func (p *parts) read(tx store.Reader, mirrors bool) (err error) {
	ids := make([]string, len(p.das))
	for i := range p.das {
		ids[i] = p.das[i].ID
	}
	if p.vds, err = byArray(tx.VDsOf, ids, func(v *vda.VD) string { return v.DAID }); err != nil {
		return err
	}
	if p.cntlrs, err = byArray(tx.CntlrsOf, ids, func(v *vda.Cntlr) string { return v.DAID }); err != nil {
		return err
	}
	if p.grps, err = byArray(tx.GrpsOf, ids, func(v *vda.Grp) string { return v.DAID }); err != nil {
		return err
	}
	if !mirrors {
		return nil
	}
	p.mirrors, err = byArray(tx.MirrorsOf, ids, func(v *vda.Mirror) string { return v.DAID })
	return err
}

func byArray[T any](read func([]string) ([]T, error), ids []string, da func(*T) string) (map[string][]T, error) {
	rows, err := read(ids)
	of := map[string][]T{}
	for i := range rows {
		id := da(&rows[i])
		of[id] = append(of[id], rows[i])
	}
	return of, err
}

// drop deletes the row of an array that has no vds and no controllers.
func (c *Change) drop(daID string) error {
	exps, err := c.tx.ExpsOfDA(daID)
	if err != nil {
		return err
	}
	for i := range exps {
		if err := c.tx.DeleteExp(exps[i].ID); err != nil {
			return err
		}
	}
	snaps, err := c.tx.SnapsOfDA(daID)
	if err != nil {
		return err
	}
	for i := range snaps {
		if err := c.tx.DeleteSnap(snaps[i].ID); err != nil {
			return err
		}
	}
	mirrors, err := c.tx.MirrorsOfDA(daID)
	if err != nil {
		return err
	}
	for i := range mirrors {
		if err := c.tx.DeleteMirror(mirrors[i].ID); err != nil {
			return err
		}
	}
	grps, err := c.tx.GrpsOfDA(daID)
	if err != nil {
		return err
	}
	for i := range grps {
		if err := c.tx.DeleteGrp(grps[i].ID); err != nil {
			return err
		}
	}
	return c.tx.DeleteDA(daID)
}
