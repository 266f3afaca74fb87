package array

import (
	"errors"

	"github.com/virtual-disk-array/vda"
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
	return lock(daIDs, c.settle)
}

func (c *Change) settle(daID string) error {
	da, err := c.tx.DA(daID)
	if err != nil {
		return err
	}
	vds, err := c.tx.VDsOfDA(daID)
	if err != nil {
		return err
	}
	cntlrs, err := c.tx.CntlrsOfDA(daID)
	if err != nil {
		return err
	}
	switch {
	case da.Deleted && len(vds) == 0 && len(cntlrs) == 0:
		return c.drop(daID)
	case da.Deleted && len(cntlrs) == 0:
		c.deleteVDs(vds)
		return nil
	}
	grps, err := c.tx.GrpsOfDA(daID)
	if err != nil {
		return err
	}
	h := healthOf(vda.Joined(vds, grps), cntlrs)
	if !h.Error && da.Redundancy.Mirrored() {
		if h, err = c.unequal(daID); err != nil {
			return err
		}
	}
	if !SameHealth(da.Health, h) {
		return c.setHealth(da, h)
	}
	return nil
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
