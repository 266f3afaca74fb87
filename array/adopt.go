package array

import (
	"errors"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Adoption is an array made of what nodes remember of it and have on media.
type Adoption struct {
	DA      *vda.DA
	Grps    []*vda.Grp
	Mirrors []*vda.Mirror
	VDs     []*vda.VD // Adopt sets their Clusters
	Cntlrs  []*vda.Cntlr
	Snaps   []*vda.Snap
	Exps    []*vda.Exp
	From    *vda.Exp // what a clone that is not copied yet is copied from, if it is to be made again
}

// Adopt writes all rows of an array whose vds are there already, on pds that
// the database knows, and puts its exporters on all its controllers.
func Adopt(tx store.Tx, a *Adoption) (Plan, error) {
	c := Begin(tx)
	var first Plan
	if a.From != nil {
		var err error
		if first, err = c.exportSource(a.DA, a.From); err != nil {
			return nil, err
		}
	}
	if err := tx.InsertDA(a.DA); err != nil {
		return nil, err
	}
	if err := takeOrphans(tx, a); err != nil {
		return nil, err
	}
	plan := stages(Disks, Primary, Secondaries)
	for _, v := range a.VDs {
		c.insertVD(v)
		plan.addDisks([]vda.VD{*v})
	}
	for _, g := range a.Grps {
		c.then(func() error { return tx.InsertGrp(g) })
	}
	for _, m := range a.Mirrors {
		c.then(func() error { return tx.InsertMirror(m) })
	}
	for _, v := range a.Cntlrs {
		c.insertCntlr(v)
		plan.addCntlr(v)
	}
	for _, s := range a.Snaps {
		c.then(func() error { return tx.InsertSnap(s) })
	}
	for _, e := range a.Exps {
		c.stampExp(e, tx.InsertExp)
		for _, v := range a.Cntlrs {
			c.insertES(e, v)
		}
	}
	return append(first, plan...), c.Write()
}

// AdoptGrp writes the rows of a group of vds by which an array, that is there, had got more
// physical size; size and thin are what the array had then. The array is locked. The plan
// is the dns, then the primary.
func AdoptGrp(tx store.Tx, a *Adoption, size uint64, thin bool) (Plan, error) {
	c := Begin(tx)
	da := a.DA
	da.StaysThin = da.StaysThin || thin
	for _, g := range a.Grps {
		da.PhysicalSize += g.Size / da.ClusterSize * da.ClusterSize
		c.then(func() error { return tx.InsertGrp(g) })
	}
	if !thin {
		size = min(size, da.PhysicalSize) // other groups may be missing still
	}
	da.Size = max(da.Size, size)
	if err := tx.UpdateDA(da); err != nil {
		return nil, err
	}
	if err := takeOrphans(tx, a); err != nil {
		return nil, err
	}
	plan := stages(Disks, Primary)
	for _, v := range a.VDs {
		c.insertVD(v)
		plan.addDisks([]vda.VD{*v})
	}
	for _, m := range a.Mirrors {
		c.then(func() error { return tx.InsertMirror(m) })
	}
	return plan, errors.Join(c.tellPrimary(da.ID, &plan), c.Write())
}

// takeOrphans accounts for the clusters that the vds have on their pds.
func takeOrphans(tx store.Tx, a *Adoption) error {
	var pds []string
	for _, v := range a.VDs {
		pds = append(pds, v.PDID)
	}
	slices.Sort(pds)
	for _, id := range slices.Compact(pds) {
		pd, err := tx.PD(id)
		if isNotFound(err) || err == nil && pd.Deleted {
			return vda.Errorf(vda.FailedPrecondition, "pd %s, on which a vd of da %s is, is an orphan itself or gone; adopt it first", id, a.DA.Name)
		}
		if err != nil {
			return err
		}
		if pd.ClusterSize == 0 {
			return vda.Errorf(vda.FailedPrecondition, "pd %s, on which a vd of da %s is, has not been up yet; its dn must say how it is made",
				pd.Name, a.DA.Name)
		}
		for _, v := range a.VDs {
			if v.PDID == id {
				v.Clusters = v.Size / pd.ClusterSize
				if err := tx.TakeOrphan(id, v.Clusters); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
