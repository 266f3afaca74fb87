package array

import (
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// ForgetDN deletes a dn that is lost for good, with its pds, and carries out on
// its behalf the tombstones that wait for it. It does nothing, and returns the
// ids of the arrays, when live vds are on it.
func ForgetDN(tx store.Tx, dnID string) (inUse []string, err error) {
	c := Begin(tx)
	das, err := c.lockArraysOn(Node{vda.DiskNode, dnID})
	if err != nil {
		return nil, err
	}
	pds, vds, err := tx.DNObjects(dnID, 0)
	if err != nil {
		return nil, err
	}
	for i := range vds {
		if !vds[i].Deleted {
			inUse = append(inUse, vds[i].DAID)
		} else if !slices.Contains(das, vds[i].DAID) {
			return nil, cameSince(vds[i].DAID)
		}
	}
	if inUse != nil {
		return inUse, nil
	}
	for i := range vds {
		if err := c.DropVD(&vds[i]); err != nil {
			return nil, err
		}
	}
	for i := range pds {
		if err := tx.DeletePD(pds[i].ID); err != nil {
			return nil, err
		}
	}
	return nil, c.forget(Node{vda.DiskNode, dnID}, das)
}

// ForgetCN is ForgetDN for a cn and its controllers.
func ForgetCN(tx store.Tx, cnID string) (inUse []string, err error) {
	c := Begin(tx)
	das, err := c.lockArraysOn(Node{vda.ControllerNode, cnID})
	if err != nil {
		return nil, err
	}
	cntlrs, err := tx.CntlrsOfCN(cnID)
	if err != nil {
		return nil, err
	}
	for i := range cntlrs {
		if !cntlrs[i].Deleted {
			inUse = append(inUse, cntlrs[i].DAID)
		} else if !slices.Contains(das, cntlrs[i].DAID) {
			return nil, cameSince(cntlrs[i].DAID)
		}
	}
	if inUse != nil {
		return inUse, nil
	}
	for i := range cntlrs {
		if err := c.DropCntlr(&cntlrs[i]); err != nil {
			return nil, err
		}
	}
	return nil, c.forget(Node{vda.ControllerNode, cnID}, das)
}

// lockArraysOn locks the arrays that have parts on a node, at once.
func (c *Change) lockArraysOn(n Node) ([]string, error) {
	das, err := c.tx.DAsOnNode(n.Kind, n.ID)
	if err != nil {
		return nil, err
	}
	return das, c.LockArrays(das...)
}

// cameSince has the store run the transaction again: a part came to the node
// while its arrays were being locked.
func cameSince(daID string) error {
	return vda.Errorf(vda.Conflict, "da %s has got a part on the node meanwhile", daID)
}

// forget deletes a node on which nothing is left.
func (c *Change) forget(n Node, das []string) error {
	if err := c.Settle(das...); err != nil {
		return err
	}
	c.then(func() error { return c.tx.DeleteNode(n.Kind, n.ID) })
	return c.Write()
}
