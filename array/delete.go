package array

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Delete turns an array and its controllers into tombstones. Its vds follow
// when the last controller is gone, so that the primary can still destroy the
// lvstore on them and detach. The plan has the secondaries first: they lead
// to the primary.
func Delete(tx store.Tx, da *vda.DA) (Plan, error) {
	c := Begin(tx)
	plan, err := members(tx, da.ID, stages(Secondaries, Primary, Disks))
	if err != nil {
		return nil, err
	}
	da.Deleted = true
	if err := tx.UpdateDA(da); err != nil {
		return nil, err
	}
	if _, err := c.cntlrs(da.ID, func(v *vda.Cntlr) { v.Deleted = true }); err != nil {
		return nil, err
	}
	return plan, c.Write()
}

// cntlrs updates each live controller of an array after change (may be nil), so
// that its cn learns of what has changed, and returns them.
func (c *Change) cntlrs(daID string, change func(*vda.Cntlr)) ([]*vda.Cntlr, error) {
	rows, err := c.tx.CntlrsOfDA(daID)
	if err != nil {
		return nil, err
	}
	var live []*vda.Cntlr
	for i := range rows {
		v := &rows[i]
		if v.Deleted {
			continue
		}
		if change != nil {
			change(v)
		}
		c.updateCntlr(v)
		live = append(live, v)
	}
	return live, nil
}

// DeleteVDs turns the vds of a deleted array into tombstones, at once: its controllers
// cannot be reached, and a dead cn must not keep the space.
func DeleteVDs(tx store.Tx, daID string) error {
	c := Begin(tx)
	if err := c.LockArrays(daID); err != nil {
		return err
	}
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return err
	}
	c.deleteVDs(vds)
	return c.Write()
}

func (c *Change) deleteVDs(vds []vda.VD) {
	for i := range vds {
		if v := &vds[i]; !v.Deleted {
			v.Deleted = true
			c.updateVD(v)
		}
	}
}
