package syncer

import (
	"errors"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// ForgetDn deletes a dn that is lost for good, with its pds, and carries out on
// its behalf the tombstones that wait for it. The caller has made sure that
// no live vd is on it.
func ForgetDn(tx store.Tx, dnID string) error {
	pds, vds, err := tx.DNObjects(dnID, 0)
	if err != nil {
		return err
	}
	das := touched{}
	for i := range vds {
		das.add(vds[i].DAID)
	}
	if err := das.lock(tx); err != nil {
		return err
	}
	for i := range vds {
		if err := errors.Join(tx.DeleteVD(vds[i].ID), tx.GivePD(vds[i].PDID, vds[i].Clusters)); err != nil {
			return err
		}
	}
	for i := range pds {
		if err := tx.DeletePD(pds[i].ID); err != nil {
			return err
		}
	}
	if err := das.finish(tx); err != nil {
		return err
	}
	return tx.DeleteNode(vda.DiskNode, dnID)
}

// ForgetCn is ForgetDn for a cn: its controllers are all tombstones.
func ForgetCn(tx store.Tx, cnID string) error {
	cntlrs, err := tx.CntlrsOfCN(cnID)
	if err != nil {
		return err
	}
	das := touched{}
	for i := range cntlrs {
		das.add(cntlrs[i].DAID)
	}
	if err := das.lock(tx); err != nil {
		return err
	}
	for i := range cntlrs {
		if err := dropCntlr(tx, &cntlrs[i]); err != nil {
			return err
		}
	}
	if err := das.finish(tx); err != nil {
		return err
	}
	return tx.DeleteNode(vda.ControllerNode, cnID)
}
