package cn

import (
	"context"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// raids stand on connections, or on mirrors: a raid0 of each group's columns.
type raids struct{ *pass }

func (r raids) have() bool {
	return slices.ContainsFunc(r.c.Grps, func(g *apiv1.GrpSpec) bool { return r.inv.Raid(grpPrefix+g.Id) != nil })
}

func (r raids) want() (wrong string) {
	for _, g := range r.groups() {
		if raid := r.inv.Raid(grpPrefix + g.Id); raid != nil && (raid.State != "online" || !r.fits(raid, g)) {
			wrong = "raid " + raid.Name + " is " + raid.State
		}
	}
	return wrong
}

func (r raids) fits(raid *spdk.Raid, g *apiv1.GrpSpec) bool {
	want := bases(g)
	if raid.StripSizeKB != g.StripeSizeKb || len(raid.BaseBdevs) != len(want) {
		return false
	}
	for i, b := range raid.BaseBdevs {
		if b.Name == nil || *b.Name != want[i] {
			return false
		}
	}
	return !slices.ContainsFunc(raid.BaseBdevs, func(b spdk.RaidBase) bool { return !b.IsConfigured })
}

// bases are the bdevs of a group's columns, in stripe order.
func bases(g *apiv1.GrpSpec) (names []string) {
	for _, v := range g.Vds {
		names = append(names, vdPrefix+v.VdId+"n1")
	}
	for _, m := range g.Mirrors {
		names = append(names, vda.MirrorPrefix+m.Id)
	}
	return names
}

// hasBase reports that a raid has a base.
func hasBase(bases []spdk.RaidBase, name string) bool {
	return slices.ContainsFunc(bases, func(b spdk.RaidBase) bool { return b.Name != nil && *b.Name == name })
}

func (r raids) make(ctx context.Context) error {
	for _, g := range r.groups() {
		raid := spdk.RaidCreate{Name: grpPrefix + g.Id, StripSizeKB: g.StripeSizeKb, RaidLevel: "raid0", BaseBdevs: bases(g)}
		b, err := r.ensureRaid(ctx, raid)
		if err == nil && b != nil {
			err = r.checkSize(g, b.Bytes())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r raids) unmake(ctx context.Context) error {
	for _, g := range r.c.Grps {
		if err := r.dropRaid(ctx, grpPrefix+g.Id); err != nil {
			return err
		}
	}
	return nil
}

// concat stands on raids and joins them. On mirrors a single group has one, too, so
// that another can follow; on vds it has none.
type concat struct{ *pass }

func (r concat) have() bool { return r.inv.Raid(daPrefix+r.c.DaId) != nil }

func (r concat) want() string {
	raid := r.inv.Raid(daPrefix + r.c.DaId)
	switch {
	case raid == nil:
	case raid.State != "online":
		return "raid " + raid.Name + " is " + raid.State
	case len(raid.BaseBdevs) < len(r.groups()) && !volume(r).have():
		// Without all groups it does not come up; one that is up has them put behind, see putBehind.
		return fmt.Sprintf("raid %s has %d groups of %d", raid.Name, len(raid.BaseBdevs), len(r.groups()))
	}
	return ""
}

func (r concat) make(ctx context.Context) error {
	if !r.concats() {
		return nil
	}
	raid := spdk.RaidCreate{Name: daPrefix + r.c.DaId, StripSizeKB: r.c.Grps[0].StripeSizeKb, RaidLevel: "concat"}
	for _, g := range r.groups() {
		raid.BaseBdevs = append(raid.BaseBdevs, grpPrefix+g.Id)
	}
	_, err := r.ensureRaid(ctx, raid)
	if err != nil && len(r.c.Grps) == 1 {
		if b, getErr := r.Plane.BdevGet(ctx, grpPrefix+r.c.Grps[0].Id, 0); getErr == nil && b.Claimed {
			return fmt.Errorf("%w: its lvstore was opened below its concat: %w", errAgain, err)
		}
	}
	return err
}

func (r concat) unmake(ctx context.Context) error { return r.dropRaid(ctx, daPrefix+r.c.DaId) }

// concats reports that the array has a concat.
func (p *pass) concats() bool { return len(p.c.Grps) > 1 || mirrored(p.c) }

// top is the bdev that carries the lvstore.
func (p *pass) top() string {
	if !p.concats() {
		return grpPrefix + p.c.Grps[0].Id
	}
	return daPrefix + p.c.DaId
}

// groups returns the groups in the order in which they are joined.
func (p *pass) groups() []*apiv1.GrpSpec {
	return slices.SortedFunc(slices.Values(p.c.Grps), func(a, b *apiv1.GrpSpec) int { return int(a.GrpIdx) - int(b.GrpIdx) })
}

// ensureRaid makes a raid that is not there, and returns its bdev; nil when it is.
func (p *pass) ensureRaid(ctx context.Context, r spdk.RaidCreate) (*spdk.Bdev, error) {
	if p.inv.Raid(r.Name) != nil {
		return nil, nil
	}
	if err := p.Plane.BdevRaidCreate(ctx, r); err != nil {
		return nil, err
	}
	// A raid that lacks a member is made without an error and has no bdev.
	b, err := p.Plane.BdevGet(ctx, r.Name, 1000)
	if err != nil {
		return nil, fmt.Errorf("raid %s does not come up: %w", r.Name, err)
	}
	return b, nil
}

func (p *pass) dropRaid(ctx context.Context, name string) error {
	if p.inv.Raid(name) == nil {
		return nil
	}
	return agent.Drop(p.Plane.BdevRaidDelete(ctx, name))
}
