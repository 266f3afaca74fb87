package array

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Modify writes an array of which the caller has changed the limits or the size, and has
// its primary learn of them: they are kept there, whatever controllers hosts use. The
// plan is the primary.
func Modify(tx store.Tx, da *vda.DA) (Plan, error) {
	c := Begin(tx)
	if err := tx.UpdateDA(da); err != nil {
		return nil, err
	}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	plan := stages(Primary)
	for i := range cntlrs {
		if v := &cntlrs[i]; v.Primary && !v.Deleted {
			c.updateCntlr(v)
			plan.addCntlr(v)
		}
	}
	return plan, c.Write()
}
