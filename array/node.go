package array

import (
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// AddNode writes the row of a new node, with a first version.
func AddNode(tx store.Tx, k vda.NodeKind, n *vda.Node) error {
	n.Version = firstVersion()
	return tx.InsertNode(k, n)
}

// firstVersion is the first version of a node's desired state: the time in
// milliseconds, so that it lies above every version that the node had before
// it was deleted. Agents refuse versions that go back. Where a clock was set back,
// or versions leapt for a restored database, Resume continues from what
// the agent holds.
func firstVersion() uint64 { return uint64(time.Now().UnixMilli()) }

// AddPD writes the row of a new pd; its dn makes it.
func AddPD(tx store.Tx, pd *vda.PD) error {
	c := Begin(tx)
	c.insertPD(pd)
	return c.Write()
}

// RemovePD turns a pd into a tombstone; its dn wipes the disk and lets go of it.
func RemovePD(tx store.Tx, pd *vda.PD) error {
	c := Begin(tx)
	if err := c.LockPDs(pd.ID); err != nil {
		return err
	}
	pd.Deleted = true
	c.updatePD(pd)
	return c.Write()
}

// UpdateNode writes what the caller changed of a node. tell: its agent has to know.
func UpdateNode(tx store.Tx, k vda.NodeKind, n *vda.Node, tell bool) error {
	c := Begin(tx)
	at, update := Node{k, n.ID}, func() error { return tx.UpdateNode(k, n) }
	if tell {
		c.raise(at, &n.Version, update)
	} else {
		c.At(at, update)
	}
	return c.Write()
}

// NextVersion raises the version of a node for a request that no row stands
// behind: tombstones of objects that the database does not know.
func NextVersion(tx store.Tx, n Node) (version uint64, err error) {
	c := Begin(tx)
	c.raise(n, &version, func() error { return nil })
	return version, c.Write()
}

// Resume raises the version of a node that is new in the database above the one
// that its agent holds, of a time before. It reports false, and does nothing,
// for a node that has objects or has carried anything out: its database is
// older than the agent.
func Resume(tx store.Tx, n Node, held uint64) (bool, error) {
	has, err := hasObjects(tx, n)
	if err != nil || has {
		return false, err
	}
	row, err := tx.Node(n.Kind, n.ID)
	if err != nil || row.Applied != 0 {
		return false, err
	}
	return true, tx.RaiseNode(n.Kind, n.ID, held)
}

// hasObjects reports whether anything of a node's is in the database.
func hasObjects(tx store.Reader, n Node) (bool, error) {
	das, err := tx.DAsOnNode(n.Kind, n.ID)
	if err != nil || len(das) > 0 || n.Kind == vda.ControllerNode {
		return len(das) > 0, err
	}
	pds, _, err := tx.DNObjects(n.ID, 0)
	return len(pds) > 0, err
}
