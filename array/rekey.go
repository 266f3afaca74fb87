package array

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Rekey has all nodes of an array be told of it again, as the keys by which they
// authenticate to each other are others by now, if fresh is set. A clone is told of the
// one for its source when that has been, by FollowSource. The array may be gone.
func Rekey(tx store.Tx, daID string, fresh bool) error {
	da, err := tx.DA(daID)
	if err != nil {
		return vda.IgnoreNotFound(err)
	}
	if fresh && da.Source.Copying() {
		da.Source.Term = 0
		if err := tx.UpdateDA(da); err != nil {
			return err
		}
	}
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return err
	}
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return err
	}
	c := Begin(tx)
	for i := range vds {
		if !vds[i].Deleted {
			c.updateVD(&vds[i])
		}
	}
	for i := range cntlrs {
		if !cntlrs[i].Deleted {
			c.updateCntlr(&cntlrs[i])
		}
	}
	return c.Write()
}

// Retell has the controllers of an array be told of it again, as they reach each other
// elsewhere by now. The plan is all of them, the primary first. The array may be gone.
func Retell(tx store.Tx, daID string) (Plan, error) {
	if _, err := tx.DA(daID); err != nil {
		return nil, vda.IgnoreNotFound(err)
	}
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return nil, err
	}
	c, plan := Begin(tx), stages(Primary, Secondaries)
	for i := range cntlrs {
		if v := &cntlrs[i]; !v.Deleted {
			c.updateCntlr(v)
			plan.addCntlr(v)
		}
	}
	return plan, c.Write()
}
