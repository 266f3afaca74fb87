package array

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// ForgetDN deletes a dn that is lost for good, with its pds, and carries out on
// its behalf the tombstones that wait for it. The caller has made sure that
// no live vd is on it.
func ForgetDN(tx store.Tx, dnID string) error {
	pds, vds, err := tx.DNObjects(dnID, 0)
	if err != nil {
		return err
	}
	var das []string
	for i := range vds {
		das = append(das, vds[i].DAID)
	}
	c := Begin(tx)
	if err := c.LockArrays(das...); err != nil {
		return err
	}
	for i := range vds {
		if err := c.DropVD(&vds[i]); err != nil {
			return err
		}
	}
	for i := range pds {
		if err := tx.DeletePD(pds[i].ID); err != nil {
			return err
		}
	}
	if err := c.Settle(das...); err != nil {
		return err
	}
	c.then(func() error { return tx.DeleteNode(vda.DiskNode, dnID) })
	return c.Write()
}

// ForgetCN is ForgetDN for a cn: its controllers are all tombstones.
func ForgetCN(tx store.Tx, cnID string) error {
	cntlrs, err := tx.CntlrsOfCN(cnID)
	if err != nil {
		return err
	}
	var das []string
	for i := range cntlrs {
		das = append(das, cntlrs[i].DAID)
	}
	c := Begin(tx)
	if err := c.LockArrays(das...); err != nil {
		return err
	}
	for i := range cntlrs {
		if err := c.DropCntlr(&cntlrs[i]); err != nil {
			return err
		}
	}
	if err := c.Settle(das...); err != nil {
		return err
	}
	c.then(func() error { return tx.DeleteNode(vda.ControllerNode, cnID) })
	return c.Write()
}
