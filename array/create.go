package array

import (
	"cmp"
	"errors"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// ErrStale says that the cluster is no longer what places were chosen for:
// choose again.
var ErrStale = errors.New("the cluster has changed since the array was placed")

// Create writes all rows of a new array, with one group of vds and with
// controllers at the given places, and takes its space. ErrStale when a place is
// gone; vda.AlreadyExists when the name is taken.
func Create(tx store.Tx, da *vda.DA, vds []placement.VD, cntlrs []placement.Cntlr) (Plan, error) {
	c := Begin(tx)
	if err := tx.InsertDA(da); err != nil {
		return nil, err
	}
	if err := c.takeSpace(vds); err != nil {
		return nil, err
	}
	plan := stages(Disks, Primary, Secondaries)
	c.addGroup(da.ID, 0, vds, &plan)
	for i, at := range cntlrs {
		v := &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: at.CNID, Idx: uint32(i), Primary: at.Primary}
		c.insertCntlr(v)
		plan.addCntlr(v)
	}
	if err := c.allOnline(); err != nil {
		return nil, err
	}
	return plan, c.Write()
}

// takeSpace promises the clusters of places to vds, at once.
func (c *Change) takeSpace(vds []placement.VD) error {
	byPD := slices.SortedFunc(slices.Values(vds), func(a, b placement.VD) int { return cmp.Compare(a.PDID, b.PDID) })
	for _, v := range byPD {
		pd, err := c.tx.PD(v.PDID)
		if err != nil {
			return stale(err)
		}
		if pd.Deleted || !pd.Online || pd.FreeClusters < v.Clusters || pd.ClusterSize*v.Clusters != v.Size {
			return ErrStale
		}
		if err := c.tx.TakePD(v.PDID, v.Clusters); vda.KindOf(err) == vda.ResourceExhausted {
			return ErrStale
		} else if err != nil {
			return err
		}
	}
	return nil
}

// addGroup adds a group of vds, whose space is taken, to an array.
func (c *Change) addGroup(daID string, idx uint32, vds []placement.VD, plan *Plan) {
	rows := make([]vda.VD, len(vds))
	grp := &vda.Grp{ID: store.NewID(), DAID: daID, Idx: idx}
	for i, at := range vds {
		rows[i] = vda.VD{ID: store.NewID(), DAID: daID, GrpIdx: idx, Idx: uint32(i), PDID: at.PDID, DNID: at.DNID, Clusters: at.Clusters,
			Size: at.Size}
		grp.Size += at.Size
		c.insertVD(&rows[i])
	}
	c.then(func() error { return c.tx.InsertGrp(grp) })
	plan.addDisks(rows)
}

// allOnline locks the nodes touched so far, at once. ErrStale when one is gone
// or takes nothing new.
func (c *Change) allOnline() error {
	for _, n := range c.nodes() {
		row, err := c.tx.Node(n.Kind, n.ID)
		if err != nil {
			return stale(err)
		}
		if !row.Online {
			return ErrStale
		}
	}
	return nil
}

// stale turns "not found" of a place into ErrStale.
func stale(err error) error {
	if isNotFound(err) {
		return ErrStale
	}
	return err
}
