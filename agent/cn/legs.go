package cn

import (
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// mirrored reports that an array's columns stand on mirrors.
func mirrored(c *apiv1.CntlrSpec) bool { return len(mirrorsOf(c)) > 0 }

// several reports that a column of an array has more than one leg.
func several(c *apiv1.CntlrSpec) bool {
	return slices.ContainsFunc(mirrorsOf(c), func(m *apiv1.MirrorSpec) bool { return len(m.Legs) > 1 })
}

// mirrorsOf returns the mirrors of an array, none when it stands on vds.
func mirrorsOf(c *apiv1.CntlrSpec) (all []*apiv1.MirrorSpec) {
	for _, g := range c.Grps {
		all = append(all, g.Mirrors...)
	}
	return all
}

// vdsOf returns all vds that a controller has to do with, those included that it
// must not be connected to.
func vdsOf(c *apiv1.CntlrSpec) []*apiv1.VdTarget {
	return vdsIn(c, func(apiv1.LegRole) bool { return true })
}

// connectedOf returns the vds that a primary is connected to: a stale leg is not.
func connectedOf(c *apiv1.CntlrSpec) []*apiv1.VdTarget { return vdsIn(c, connects) }

// membersOf returns the vds that I/O waits for. While a primary is connected to
// all of them, no other can be primary.
func membersOf(c *apiv1.CntlrSpec) (all []*apiv1.VdTarget) {
	for _, column := range columnsOf(c) {
		all = append(all, column...)
	}
	return all
}

func connects(r apiv1.LegRole) bool {
	return r == apiv1.LegRole_LEG_ROLE_MEMBER || r == apiv1.LegRole_LEG_ROLE_TARGET
}

func isMember(r apiv1.LegRole) bool { return r == apiv1.LegRole_LEG_ROLE_MEMBER }

// vdsIn returns an array's vds; of a mirrored one those in some roles.
func vdsIn(c *apiv1.CntlrSpec, in func(apiv1.LegRole) bool) (all []*apiv1.VdTarget) {
	for _, g := range c.Grps {
		all = append(all, g.Vds...)
		for _, m := range g.Mirrors {
			all = append(all, legsIn(m, in)...)
		}
	}
	return all
}

func legsIn(m *apiv1.MirrorSpec, in func(apiv1.LegRole) bool) (all []*apiv1.VdTarget) {
	for _, l := range m.Legs {
		if in(l.Role) && l.Vd != nil {
			all = append(all, l.Vd)
		}
	}
	return all
}

// columnsOf returns the vds that can serve each column of an array: the only one
// of a striped array, the members of a mirror. Those of groups that are joining serve
// nothing yet.
func columnsOf(c *apiv1.CntlrSpec) (columns [][]*apiv1.VdTarget) {
	for _, g := range c.Grps {
		if g.Joining {
			continue
		}
		for _, v := range g.Vds {
			columns = append(columns, []*apiv1.VdTarget{v})
		}
		for _, m := range g.Mirrors {
			columns = append(columns, legsIn(m, isMember))
		}
	}
	return columns
}

// usable reports whether an array can be read and written without some of its
// vds. It says nothing of leases: without one a primary stops at any loss of a
// member, because what it has lost may be enough for another.
func usable(c *apiv1.CntlrSpec, without []*apiv1.VdTarget) bool {
	return vda.Usable(columnsOf(c), func(v *apiv1.VdTarget) bool { return !slices.Contains(without, v) })
}

// sameTerm reports that two host NQNs of primaries are of one term, whatever
// their epochs.
func sameTerm(a, b string) bool {
	s, _, isA := vda.ParsePrimaryHost(a)
	t, _, isB := vda.ParsePrimaryHost(b)
	return a == b || isA && isB && s == t
}
