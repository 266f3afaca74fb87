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

// Create writes all rows of a new array, with one group of vds, which is given by
// its columns, and with controllers at the given places, and takes its space.
// ErrStale when a place is gone; vda.AlreadyExists when the name is taken.
func Create(tx store.Tx, da *vda.DA, columns []placement.Column, cntlrs []placement.Cntlr) (Plan, error) {
	return Begin(tx).create(da, columns, cntlrs)
}

func (c *Change) create(da *vda.DA, columns []placement.Column, cntlrs []placement.Cntlr) (Plan, error) {
	if err := checkColumns(da, columns); err != nil {
		return nil, err
	}
	tx := c.tx
	if err := tx.InsertDA(da); err != nil {
		return nil, err
	}
	if err := c.takeSpace(placement.Legs(columns)); err != nil {
		return nil, err
	}
	plan := stages(Disks, Primary, Secondaries)
	c.addGroup(da, 0, columns, &plan)
	for i, at := range cntlrs {
		v := &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: at.CNID, Idx: uint32(i), Primary: at.Primary}
		if da.NeedsVDATgt() || da.Reservations {
			c.carries(da, at.CNID)
		}
		c.insertCntlr(v)
		plan.addCntlr(v)
	}
	if err := c.allOnline(); err != nil {
		return nil, err
	}
	return plan, c.Write()
}

// carries looks again whether a cn can have a controller of an array when it is its turn;
// ErrStale when it cannot any more.
func (c *Change) carries(da *vda.DA, cnID string) {
	c.still(cnID, func(cn *vda.CN) bool { return cn.Carries(da) })
}

// canMirror looks likewise whether a cn can mirror.
func (c *Change) canMirror(cnID string) { c.still(cnID, func(cn *vda.CN) bool { return cn.Mirrors }) }

// still looks at a cn again when it is its turn; ErrStale when it is not fit any more.
func (c *Change) still(cnID string, fit func(*vda.CN) bool) {
	c.At(CN(cnID), func() error {
		cn, err := c.tx.CN(cnID)
		if err == nil && !fit(cn) {
			return ErrStale
		}
		return stale(err)
	})
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

// checkColumns refuses places that would not be what the array promises: the legs
// of a column are as many as its redundancy says, have room for the data and what
// is behind it, and are on distinct dns, so that the loss of one dn never takes two.
func checkColumns(da *vda.DA, columns []placement.Column) error {
	for i := range columns {
		c := &columns[i]
		if want := max(1, int(da.Redundancy)); len(c.Legs) != want {
			return vda.Errorf(vda.Internal, "column %d of da %s has %d legs; with redundancy %s it needs %d", i, da.Name, len(c.Legs),
				da.Redundancy, want)
		}
		if !da.Redundancy.Mirrored() {
			continue
		}
		dns := map[string]bool{}
		for _, v := range c.Legs {
			dns[v.DNID] = true
			if v.Size < c.Data+vda.LegTail {
				return vda.Errorf(vda.Internal, "a leg of column %d of da %s has %d bytes; it needs %d", i, da.Name, v.Size, c.Data+vda.LegTail)
			}
		}
		if len(dns) < len(c.Legs) {
			return vda.Errorf(vda.Internal, "two legs of column %d of da %s were placed on one dn", i, da.Name)
		}
	}
	return nil
}

// addGroup adds a group of vds, whose space is taken, to an array, and the mirrors
// that they are legs of. That of a striped array has one leg, which is all data. All
// legs are members: dns zero vds before they show them, so legs that nobody has
// written are equal.
func (c *Change) addGroup(da *vda.DA, idx uint32, columns []placement.Column, plan *Plan) *vda.Grp {
	grp := &vda.Grp{ID: store.NewID(), DAID: da.ID, Idx: idx}
	var rows []vda.VD
	for i := range columns {
		col := &columns[i]
		mirror := &vda.Mirror{ID: store.NewID(), DAID: da.ID, GrpIdx: idx, Idx: uint32(i), Size: col.Data, Gen: 1}
		if !da.Redundancy.Mirrored() {
			mirror.Size = col.Legs[0].Size
		}
		grp.Size += mirror.Size
		c.then(func() error { return c.tx.InsertMirror(mirror) })
		for _, at := range col.Legs {
			rows = append(rows, vda.VD{ID: store.NewID(), DAID: da.ID, GrpIdx: idx, Idx: uint32(i), PDID: at.PDID, DNID: at.DNID,
				Clusters: at.Clusters, Size: at.Size, MirrorID: mirror.ID, Role: vda.Member})
		}
	}
	for i := range rows {
		c.insertVD(&rows[i])
	}
	c.then(func() error { return c.tx.InsertGrp(grp) })
	plan.addDisks(rows)
	return grp
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
