package portal

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// A database that is restored from a backup of before an array got more physical size does
// not know the groups of vds that came with that, and the array cannot come up without
// them. The cn of its primary of then remembers how they are put together, and their vds
// are on media.

// lostGrp is a group of vds of an array that the database knows, but not with it.
type lostGrp struct {
	da   *vda.DA
	have []vda.Grp
	spec *apiv1.CntlrSpec // its primary, as it was last
	cnID string           // that remembers it
	grp  *apiv1.GrpSpec
}

// lostGrps are all of them, by array, and then in order.
func (o *orphans) lostGrps(tx store.Reader) (all []*lostGrp, _ error) {
	last, at := map[string]*apiv1.CntlrSpec{}, map[string]string{} // by array
	for _, cnID := range slices.Sorted(maps.Keys(o.cns)) {
		for _, c := range o.cns[cnID].WideCntlrs {
			if old := last[c.DaId]; old == nil || old.Term < c.Term {
				last[c.DaId], at[c.DaId] = c, cnID
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		da, err := tx.DA(id)
		if isKind(err, vda.NotFound) || err == nil && da.Deleted {
			continue // an orphan itself, or soon no more
		}
		if err != nil {
			return nil, err
		}
		grps, err := tx.GrpsOfDA(id)
		if err != nil {
			return nil, err
		}
		missing := slices.DeleteFunc(slices.Clone(last[id].Grps), func(g *apiv1.GrpSpec) bool {
			return g.Joining || slices.ContainsFunc(grps, func(have vda.Grp) bool { return have.ID == g.Id })
		})
		slices.SortFunc(missing, func(a, b *apiv1.GrpSpec) int { return cmp.Compare(a.GrpIdx, b.GrpIdx) })
		for _, g := range missing {
			all = append(all, &lostGrp{da: da, have: grps, spec: last[id], cnID: at[id], grp: g})
		}
	}
	return all, nil
}

// grpOf is the group that a vd is of; nil: none that is lost.
func (o *orphans) grpOf(vdID string) *lostGrp {
	for _, g := range o.grps {
		if slices.ContainsFunc(g.grp.Vds, func(v *apiv1.VdTarget) bool { return v.VdId == vdID }) {
			return g
		}
		for _, m := range g.grp.Mirrors {
			if slices.ContainsFunc(m.Legs, func(l *apiv1.LegSpec) bool { return l.Vd.VdId == vdID }) {
				return g
			}
		}
	}
	return nil
}

// planGrp makes the rows of a group of an array that is there.
func (o *orphans) planGrp(g *lostGrp, vds map[string]orphanVd) (*array.Adoption, error) {
	no := func(format string, args ...any) error { return vda.Errorf(vda.FailedPrecondition, format, args...) }
	for _, have := range g.have {
		if have.Idx == g.grp.GrpIdx {
			return nil, no("da %s has got another group in its place since; while that is joining, da modify --physical-size with the size that "+
				"the da has takes it back", g.da.Name)
		}
	}
	if int(g.grp.GrpIdx) > len(g.have) {
		for _, before := range o.grps {
			if before.da.ID == g.da.ID && int(before.grp.GrpIdx) == len(g.have) {
				return nil, no("group %s of da %s comes before it; adopt that first", before.grp.Id, g.da.Name)
			}
		}
		return nil, no("the group before it is on no node that answers")
	}
	if len(g.grp.Mirrors) > 0 && len(o.mute) > 0 {
		return nil, no("its columns have several legs, and a node that does not answer may know more of its legs: %s", o.mute[0])
	}
	a := &array.Adoption{DA: g.da}
	row, err := planGroup(a, g.grp, vds)
	if err != nil {
		return nil, err
	}
	a.Grps = []*vda.Grp{row}
	return a, nil
}

// adoptGrp takes a group into the database, with which its array comes up.
func (s *Server) adoptGrp(ctx context.Context, o *orphans, m *apiv1.OrphanMsg) (notes []string, err error) {
	var steps [][]node
	err = s.update(ctx, func(tx store.Tx) error {
		at := slices.IndexFunc(o.grps, func(g *lostGrp) bool { return g.grp.Id == m.OrphanId })
		g := *o.grps[at]
		if g.da, err = tx.DA(g.da.ID); err != nil { // locks it
			return err
		}
		if g.have, err = tx.GrpsOfDA(g.da.ID); err != nil {
			return err
		}
		a, err := o.planGrp(&g, o.vds())
		if err != nil {
			return err
		}
		todo, err := array.AdoptGrp(tx, a, g.spec.Size, g.spec.Thin)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, todo)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.syncSteps(ctx, steps...), nil
}
