package array

import (
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Change gathers what one transaction changes of the desired state of nodes,
// and writes it in the lock order. Its methods write nothing before Write,
// unless they say so. Not safe for concurrent use.
type Change struct {
	tx    store.Tx
	turns map[Node]*turn
	rows  []func() error // in the order in which they are written
	alike alike
	names map[string]string // of dns, for texts
	comes map[string]uint64 // how far cns have come, as unlocked reads say
	// moving has the arrays that LockArrays has found to wait for their new primary.
	moving map[string]bool
}

// turn is what happens to a node when it is its turn to be locked.
type turn struct {
	first   []func() error
	raise   bool
	version uint64 // the new one
}

// Begin starts a change.
func Begin(tx store.Tx) *Change {
	return &Change{tx: tx, turns: map[Node]*turn{}, names: map[string]string{}, comes: map[string]uint64{}, moving: map[string]bool{}}
}

// LockArrays locks arrays, at once. Those that do not exist are passed over.
func (c *Change) LockArrays(ids ...string) error {
	_, err := c.lockArrays(ids)
	return err
}

func (c *Change) lockArrays(ids []string) ([]vda.DA, error) {
	das, err := c.tx.DAs(ids)
	for i := range das {
		if !das[i].Moving.IsZero() {
			c.moving[das[i].ID] = true
		}
	}
	return das, err
}

// LockPDs locks pds, at once, likewise. Arrays are locked before.
func (c *Change) LockPDs(ids ...string) error {
	return lock(ids, func(id string) error { _, err := c.tx.PD(id); return err })
}

func lock(ids []string, read func(id string) error) error {
	ids = slices.Sorted(slices.Values(ids))
	for _, id := range slices.Compact(ids) {
		if err := vda.IgnoreNotFound(read(id)); err != nil {
			return err
		}
	}
	return nil
}

// At has fn run when it is the node's turn to be locked, before its version is
// raised: to look at the node's own row, or to write it.
func (c *Change) At(n Node, fn func() error) {
	t := c.turn(n)
	t.first = append(t.first, fn)
}

// Applied notes how far a node has come, if it is still there.
func (c *Change) Applied(n Node, version uint64) {
	c.At(n, func() error { return vda.IgnoreNotFound(c.tx.SetNodeApplied(n.Kind, n.ID, version)) })
}

func (c *Change) turn(n Node) *turn {
	if c.turns[n] == nil {
		c.turns[n] = &turn{}
	}
	return c.turns[n]
}

// raise gives a node a new version, which Write also puts into version.
func (c *Change) raise(n Node, version *uint64, write func() error) {
	t := c.turn(n)
	t.raise = true
	c.then(func() error {
		*version = t.version
		return write()
	})
}

// then has fn run after all nodes have their versions.
func (c *Change) then(fn func() error) { c.rows = append(c.rows, fn) }

// insertVD and the like raise the version of the object's node and stamp its row
// with it. Rows are written in the order of these calls.
func (c *Change) insertVD(v *vda.VD) {
	c.raise(Node{vda.DiskNode, v.DNID}, &v.Version, func() error { return c.tx.InsertVD(v) })
}

func (c *Change) updateVD(v *vda.VD) {
	c.raise(Node{vda.DiskNode, v.DNID}, &v.Version, func() error { return c.tx.UpdateVD(v) })
}

// stampLeg is updateVD of a leg whose LegState alone is another one; all that come to have the
// same are written at once, after the other rows. stampCntlr is the like of updateCntlr.
func (c *Change) stampLeg(v *vda.VD) {
	c.raise(Node{vda.DiskNode, v.DNID}, &v.Version, func() error {
		c.alike.legs.add(store.LegStateOf(v), v.ID)
		return nil
	})
}

func (c *Change) stampCntlr(v *vda.Cntlr) {
	c.raise(Node{vda.ControllerNode, v.CNID}, &v.Version, func() error {
		c.alike.cntlrs.add(v.Version, v.ID)
		return nil
	})
}

func (c *Change) insertPD(p *vda.PD) {
	c.raise(Node{vda.DiskNode, p.DNID}, &p.Version, func() error { return c.tx.InsertPD(p) })
}

func (c *Change) updatePD(p *vda.PD) {
	c.raise(Node{vda.DiskNode, p.DNID}, &p.Version, func() error { return c.tx.UpdatePD(p) })
}

func (c *Change) insertCntlr(v *vda.Cntlr) {
	c.raise(Node{vda.ControllerNode, v.CNID}, &v.Version, func() error { return c.tx.InsertCntlr(v) })
}

func (c *Change) updateCntlr(v *vda.Cntlr) {
	c.raise(Node{vda.ControllerNode, v.CNID}, &v.Version, func() error { return c.tx.UpdateCntlr(v) })
}

// stampExp stamps an exporter, of whose controllers each has been updated or
// inserted in this change: it travels with them.
func (c *Change) stampExp(e *vda.Exp, write func(*vda.Exp) error) {
	c.then(func() error {
		e.Version = 0
		for n, t := range c.turns {
			if n.Kind == vda.ControllerNode {
				e.Version = max(e.Version, t.version)
			}
		}
		return write(e)
	})
}

// insertES puts an exporter on a controller.
func (c *Change) insertES(e *vda.Exp, v *vda.Cntlr) {
	c.then(func() error { return c.tx.InsertES(&vda.ES{ID: store.NewID(), ExpID: e.ID, CntlrID: v.ID}) })
}

// nodes are those touched so far, in the lock order.
func (c *Change) nodes() []Node { return slices.SortedFunc(maps.Keys(c.turns), compareNodes) }

// Write raises the versions and writes the rows.
func (c *Change) Write() error {
	for _, n := range c.nodes() {
		t := c.turns[n]
		for _, fn := range t.first {
			if err := fn(); err != nil {
				return err
			}
		}
		if t.raise {
			var err error
			if t.version, err = c.tx.BumpNode(n.Kind, n.ID); err != nil {
				return err
			}
		}
	}
	for _, write := range c.rows {
		if err := write(); err != nil {
			return err
		}
	}
	return c.alike.write(c.tx)
}

func isNotFound(err error) bool { return err != nil && vda.KindOf(err) == vda.NotFound }
