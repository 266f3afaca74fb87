package cn

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// An array whose columns have one leg each has two forms with the same bytes on its
// disks: on the vds themselves, as SPDK has it, and on a mirror of one leg per column,
// as vda_tgt has it, so that another leg can come while hosts go on. The spec of such
// an array has both. Which one a controller has is decided when it is assembled: what
// an agent of before has put on vds stays there until it is taken down.

// choose has the pass go on with one form of the array. It may be called again when
// the pass has looked again.
func (p *pass) choose() {
	if p.spec == nil {
		p.spec = p.c
	}
	onMirrors := p.Plane.Driver().Mirrors() && !p.standsOnVds()
	p.c = proto.CloneOf(p.spec)
	for _, g := range p.c.Grps {
		if onMirrors && len(g.Columns) > 0 {
			g.Vds, g.Mirrors = nil, g.Columns
		}
		g.Columns = nil
	}
	if p.c.Primary && !p.c.Deleted { // it has nothing to do with what is to be part of it later
		p.c.Grps = slices.DeleteFunc(p.c.Grps, func(g *apiv1.GrpSpec) bool { return g.Joining })
	}
}

// standsOnVds reports that the data plane has a raid of the array on vds.
func (p *pass) standsOnVds() bool {
	return slices.ContainsFunc(p.spec.Grps, func(g *apiv1.GrpSpec) bool {
		raid := p.inv.Raid(grpPrefix + g.Id)
		return raid != nil && len(g.Vds) > 0 && slices.ContainsFunc(g.Vds, func(v *apiv1.VdTarget) bool {
			return len(raid.BaseBdevs) > 0 && raid.BaseBdevs[0].Name != nil && *raid.BaseBdevs[0].Name == vdPrefix+v.VdId+"n1"
		})
	})
}

// checkSize refuses a group on vds that is not as large as its data although another
// follows, which would begin elsewhere: a vd that was a leg of a mirror is larger than
// its data, and SPDK's raids use all of it.
func (p *pass) checkSize(g *apiv1.GrpSpec, bytes uint64) error {
	for _, of := range p.spec.Grps {
		last := !slices.ContainsFunc(p.spec.Grps, func(o *apiv1.GrpSpec) bool { return o.GrpIdx > of.GrpIdx && !o.Joining })
		if of.Id != g.Id || len(g.Vds) == 0 || len(of.Columns) == 0 || last {
			continue
		}
		strip := uint64(g.StripeSizeKb) << 10
		least := slices.MinFunc(of.Columns, func(a, b *apiv1.MirrorSpec) int { return cmp.Compare(a.DataSize, b.DataSize) }).DataSize
		if want := least / strip * strip * uint64(len(of.Columns)); bytes != want {
			return fmt.Errorf("raid %s has %d bytes, not the %d of its data: its vds have been legs of mirrors, and have room for labels that this "+
				"data plane cannot leave out; run vda_tgt on this node, or move the array to a controller on a node that runs it",
				grpPrefix+g.Id, bytes, want)
		}
	}
	return nil
}

// mirrorNames are the names of all mirrors that an array may have in either form.
func mirrorNames(c *apiv1.CntlrSpec) (names []string) {
	for _, g := range c.Grps {
		for _, m := range slices.Concat(g.Mirrors, g.Columns) {
			names = append(names, vda.MirrorPrefix+m.Id)
		}
	}
	return names
}
