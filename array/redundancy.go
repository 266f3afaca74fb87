package array

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// NewRedundancy is what an array that serves is to promise from now on, and what that
// takes: places for the legs that its columns lack, or the legs that go.
type NewRedundancy struct {
	DAID       string
	Redundancy vda.Redundancy
	MinLegs    uint32

	was   vda.Redundancy
	added []addedLeg
	going []string // ids of vds
}

type addedLeg struct {
	grpIdx, idx uint32
	at          placement.VD
}

// unchanged is why the redundancy of an array does not change.
func unchanged(da *vda.DA, format string, args ...any) error {
	return vda.Errorf(vda.FailedPrecondition, "the redundancy stays %s: %s", da.Redundancy, fmt.Sprintf(format, args...))
}

// PlanRedundancy chooses. vda.FailedPrecondition says why the array cannot change as it
// is, vda.ResourceExhausted that there is no place for its legs, and vda.InvalidArgument
// that min_legs is not possible; minLegs 0 is as it is now. The strings are what could
// not be spread.
func PlanRedundancy(tx store.Reader, daID string, to vda.Redundancy, minLegs uint32) (n NewRedundancy, warnings []string, err error) {
	l, err := readLegs(tx, daID)
	if err != nil {
		return n, nil, err
	}
	if l == nil {
		return n, nil, ErrStale
	}
	n = NewRedundancy{DAID: daID, Redundancy: to, MinLegs: minLegs, was: l.da.Redundancy}
	if minLegs == 0 {
		n.MinLegs = min(max(l.da.MinLegs, 1), uint32(to))
	}
	if n.MinLegs > uint32(to) {
		return n, nil, vda.Errorf(vda.InvalidArgument, "min_legs %d must be 1 to %d, as many as a column has with redundancy %s",
			n.MinLegs, to, to)
	}
	if err := l.mayBecome(to); err != nil {
		return n, nil, err
	}
	switch {
	case to > l.da.Redundancy:
		if where, err := l.cannotMirror(tx); err != nil {
			return n, nil, err
		} else if where != "" {
			return n, nil, unchanged(l.da, "it has %s", where)
		}
		n.added, warnings, err = l.placeLegs(tx, to)
	case to < l.da.Redundancy:
		n.going, err = l.leave(tx, int(to))
	}
	return n, warnings, err
}

// mayBecome refuses a change of redundancy that the legs of an array do not allow as
// they are.
func (l *legs) mayBecome(to vda.Redundancy) error {
	if !l.da.Created {
		return unchanged(l.da, "it has never been up")
	}
	if to == l.da.Redundancy {
		return nil
	}
	if slices.ContainsFunc(l.grps, func(g vda.Grp) bool { return g.Joining }) {
		return unchanged(l.da, "it is getting more physical size; wait until it has it (da get)")
	}
	for i := range l.columns {
		c := &l.columns[i]
		well := len(stayers(c))
		switch {
		case to > l.da.Redundancy && (well != len(c.Legs) || well < max(int(l.da.Redundancy), 1)):
			return unchanged(l.da, "column %d of group %d has a leg that lacks data, is not well or is leaving; wait until it has all its legs "+
				"(da get)", c.Idx, c.GrpIdx)
		case to < l.da.Redundancy && well < max(int(to), 1):
			return unchanged(l.da, "column %d of group %d has %d legs that are well and have all data; with redundancy %s it needs %d",
				c.Idx, c.GrpIdx, well, to, max(int(to), 1))
		}
	}
	return nil
}

// stayers are the members of a column that are well and do not leave.
func stayers(c *vda.Column) []*vda.VD {
	stay := slices.DeleteFunc(c.Of(vda.Member), func(v *vda.VD) bool { return v.Leaving || v.Health.Error })
	slices.SortStableFunc(stay, func(a, b *vda.VD) int { return cmp.Compare(ailing(a), ailing(b)) })
	return stay
}

// placeLegs chooses places for the legs that columns lack, when members that have no
// room for a label have got it.
func (l *legs) placeLegs(tx store.Reader, to vda.Redundancy) (added []addedLeg, warnings []string, err error) {
	pds, leftOut, err := DiskCandidates(tx)
	if err != nil {
		return nil, nil, err
	}
	take := func(pdID string, clusters uint64) {
		for i := range pds {
			if pds[i].ID == pdID {
				pds[i].FreeClusters -= min(pds[i].FreeClusters, clusters)
			}
		}
	}
	for i := range l.columns {
		c := &l.columns[i]
		for _, v := range c.Of(vda.Member) {
			pd, err := tx.PD(v.PDID)
			if err != nil {
				return nil, nil, err
			}
			more := l.growth(c, v, pd)
			if more > pd.FreeClusters {
				return nil, nil, vda.Errorf(vda.ResourceExhausted, "vd %s needs %d bytes behind its data for its label, but pd %s has %d free",
					v.ID, more*pd.ClusterSize, pd.Name, pd.FreeClusters*pd.ClusterSize)
			}
			take(pd.ID, more)
		}
	}
	for i := range l.columns {
		c := &l.columns[i]
		at, err := legsOf(tx, l, c, &vda.VD{})
		if err != nil {
			return nil, nil, err
		}
		for range int(to) - len(c.Legs) {
			vd, warning, err := placement.AnotherLeg(pds, at, l.mirrorOf(c).Size)
			if err != nil {
				return nil, nil, placement.Explain(err, leftOut)
			}
			if warning != "" && !slices.Contains(warnings, warning) {
				warnings = append(warnings, warning)
			}
			dn, err := tx.DN(vd.DNID)
			if err != nil {
				return nil, nil, err
			}
			take(vd.PDID, vd.Clusters)
			at = append(at, placement.Leg{DNID: vd.DNID, Location: dn.Location})
			added = append(added, addedLeg{c.GrpIdx, c.Idx, vd})
		}
	}
	return added, warnings, nil
}

// growth is how many clusters a vd needs more to have room for a label.
func (l *legs) growth(c *vda.Column, v *vda.VD, pd *vda.PD) uint64 {
	m := l.mirrorOf(c)
	if m.HasTail(v) || pd.ClusterSize == 0 {
		return 0
	}
	need := (m.Size+vda.LegTail-1)/pd.ClusterSize + 1
	return need - min(need, v.Clusters)
}

// leave chooses the members that go, so that those which stay are in distinct locations
// where they can.
func (l *legs) leave(tx store.Reader, stay int) (going []string, err error) {
	for i := range l.columns {
		c := &l.columns[i]
		location := map[string]string{}
		for _, v := range c.Legs {
			dn, err := tx.DN(v.DNID)
			if err != nil {
				return nil, err
			}
			location[v.ID] = cmp.Or(dn.Location, dn.ID)
		}
		seen, kept := map[string]bool{}, map[string]bool{}
		for _, distinct := range []bool{true, false} {
			for _, v := range stayers(c) {
				if len(kept) < stay && !kept[v.ID] && !(distinct && seen[location[v.ID]]) {
					kept[v.ID], seen[location[v.ID]] = true, true
				}
			}
		}
		for _, v := range c.Of(vda.Member) {
			if !kept[v.ID] {
				going = append(going, v.ID)
			}
		}
	}
	return going, nil
}

// ChangeRedundancy carries out what PlanRedundancy chose. Columns that lack legs get
// them stale, as a lost leg is; they are filled like one. Members without a label get
// room for it. Legs that are not needed are left out at once, and deleted when the
// primary goes on without them. ErrStale when the cluster is not what it was.
func ChangeRedundancy(tx store.Tx, n NewRedundancy) (Plan, error) {
	l, err := beginLegs(tx, n.DAID)
	if err != nil {
		return nil, err
	}
	if l == nil || l.da.Redundancy != n.was {
		return nil, ErrStale
	}
	if err := l.mayBecome(n.Redundancy); err != nil {
		return nil, err
	}
	more := n.Redundancy > l.da.Redundancy
	l.da.Redundancy, l.da.MinLegs = n.Redundancy, n.MinLegs
	if err := tx.UpdateDA(l.da); err != nil {
		return nil, err
	}
	if more {
		if err := l.add(n); err != nil {
			return nil, err
		}
	}
	for _, id := range n.going {
		_, v := l.find(id)
		if v == nil {
			return nil, ErrStale
		}
		v.Leaving = true
	}
	l.trim(false, nil)
	l.changed = true // it remembers what the array promises
	plan, err := l.write()
	if err != nil {
		return nil, err
	}
	if more {
		slices.Reverse(plan) // the disks first: they make room
	}
	return plan, nil
}

// add adds legs, and makes room for labels.
func (l *legs) add(n NewRedundancy) error {
	var pds []string
	var places []placement.VD
	for _, a := range n.added {
		pds, places = append(pds, a.at.PDID), append(places, a.at)
	}
	for i := range l.columns {
		for _, v := range l.columns[i].Legs {
			pds = append(pds, v.PDID)
		}
	}
	if err := l.c.LockPDs(pds...); err != nil {
		return err
	}
	if err := l.c.takeSpace(places); err != nil {
		return err
	}
	for i := range l.columns {
		c := &l.columns[i]
		for _, v := range c.Legs {
			if err := l.makeRoom(c, v); err != nil {
				return err
			}
		}
		if got := slices.DeleteFunc(slices.Clone(n.added), func(a addedLeg) bool { return a.grpIdx != c.GrpIdx || a.idx != c.Idx }); len(got)+
			len(c.Legs) != int(n.Redundancy) {
			return ErrStale
		}
	}
	for _, a := range n.added {
		at := slices.IndexFunc(l.columns, func(c vda.Column) bool { return c.GrpIdx == a.grpIdx && c.Idx == a.idx })
		if at < 0 {
			return ErrStale
		}
		m := l.mirrorOf(&l.columns[at])
		if a.at.Size < m.Size+vda.LegTail || slices.ContainsFunc(l.columns[at].Legs, func(v *vda.VD) bool { return v.DNID == a.at.DNID }) {
			return ErrStale
		}
		l.insert(&vda.VD{ID: store.NewID(), DAID: l.da.ID, GrpIdx: a.grpIdx, Idx: a.idx, PDID: a.at.PDID, DNID: a.at.DNID,
			Clusters: a.at.Clusters, Size: a.at.Size, MirrorID: m.ID, Role: vda.Stale, Epoch: 1})
	}
	cntlrs, err := l.c.tx.CntlrsOfDA(l.da.ID)
	if err != nil {
		return err
	}
	for i := range cntlrs {
		if !cntlrs[i].Deleted {
			l.c.canMirror(cntlrs[i].CNID)
		}
	}
	return nil
}

// makeRoom has a vd grow by what a label takes. Its pd is locked.
func (l *legs) makeRoom(c *vda.Column, v *vda.VD) error {
	pd, err := l.c.tx.PD(v.PDID)
	if err != nil {
		return stale(err)
	}
	more := l.growth(c, v, pd)
	if more == 0 {
		return nil
	}
	if pd.FreeClusters < more {
		return ErrStale
	}
	if err := l.c.tx.GivePD(pd.ID, v.Clusters); err != nil {
		return err
	}
	v.Clusters += more
	v.Size = v.Clusters * pd.ClusterSize
	if err := l.c.tx.TakePD(pd.ID, v.Clusters); err != nil {
		return err
	}
	l.update(v)
	return nil
}
