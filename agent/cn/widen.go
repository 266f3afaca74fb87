package cn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A group of vds joins an array that serves in two steps, each of which stands in SQL
// before the next begins (array/physical.go). While its spec says that it is joining, the
// primary puts it together beside the array, which has nothing to do with it, and says so.
// When the spec says so no more, it is put behind the others, and the lvstore grows.

// widen makes what is missing of that, while the array serves. What is wrong is the
// controller's error.
func (p *pass) widen(ctx context.Context) {
	if p.vol == "" {
		return
	}
	err := p.join(ctx)
	if err == nil {
		err = p.putBehind(ctx)
	}
	if err == nil {
		return
	}
	err = fmt.Errorf("disk array %s is to get more physical size, and serves meanwhile: %w", p.c.DaName, err)
	p.fail(p.c.Id, err)
	for _, g := range p.spec.Grps {
		if g.Joining {
			p.fail(g.Id, err)
		}
	}
}

// beside returns a pass over the groups that are joining, as if they were all of the
// array, in the form that the array has; nil when there are none.
func (p *pass) beside() *pass {
	c := proto.CloneOf(p.c)
	c.Grps = nil
	for _, g := range p.spec.Grps {
		if !g.Joining {
			continue
		}
		g = proto.CloneOf(g)
		g.Joining = false
		if len(g.Columns) > 0 && mirrored(p.c) {
			g.Vds, g.Mirrors = nil, g.Columns
		}
		g.Columns = nil
		c.Grps = append(c.Grps, g)
	}
	if c.Grps == nil {
		return nil
	}
	return &pass{Agent: p.Agent, c: c, spec: p.spec, joins: true}
}

// join puts groups together that are joining.
func (p *pass) join(ctx context.Context) error {
	for _, g := range p.spec.Grps {
		p.noteJoined(g.Id, false)
	}
	b := p.beside()
	if b == nil {
		return nil
	}
	if !p.concats() {
		return errors.New("it stands on its vds, without what another group could be put behind; da failover has it brought up otherwise")
	}
	var err error
	if b.inv, err = b.look(ctx); err != nil { // the array may have been taken down since the pass has looked
		return err
	}
	rungs := []rung{connections{b}, mirrors{b}, raids{b}}
	if slices.ContainsFunc(rungs, func(r rung) bool { return r.want() != "" }) {
		if err := descend(ctx, rungs); err != nil {
			return err
		}
		if b.inv, err = b.look(ctx); err != nil {
			return err
		}
		b.seen, b.wired = nil, nil
	}
	for _, r := range rungs {
		if err := r.make(ctx); err != nil {
			return err
		}
	}
	if _, lost := b.backends(); lost != nil {
		return lost
	}
	for _, g := range b.groups() {
		if err := p.Plane.Driver().AppendRaid(ctx, daPrefix+p.c.DaId, grpPrefix+g.Id, true); err != nil {
			return err
		}
		p.noteJoined(g.Id, true)
	}
	return nil
}

// putBehind puts the groups that are part of the array, and not of its concat, behind
// those that are, and has the lvstore grow.
func (p *pass) putBehind(ctx context.Context) error {
	all := p.groups()
	if len(all) == 1 || p.widened(len(all)) {
		return nil
	}
	inv, err := p.look(ctx) // it may have been brought up since the pass has looked
	if err != nil {
		return err
	}
	for _, g := range all {
		if raid := inv.Raid(daPrefix + p.c.DaId); raid != nil && hasBase(raid.BaseBdevs, grpPrefix+g.Id) {
			continue
		}
		of := &pass{Agent: p.Agent, c: proto.CloneOf(p.c), spec: p.spec, inv: inv}
		of.c.Grps = []*apiv1.GrpSpec{g}
		if err := errors.Join((mirrors{of}).make(ctx), (raids{of}).make(ctx)); err != nil {
			return err
		}
		if err := p.Plane.Driver().AppendRaid(ctx, daPrefix+p.c.DaId, grpPrefix+g.Id, false); err != nil {
			return err
		}
		p.Log.Info("a group has been put behind the others", "da", p.c.DaName, "grp", g.Id)
	}
	name := daPrefix + p.c.DaId
	err = p.outlive(ctx, p.c.DaId+" lvstore", func() error { return p.Plane.Driver().GrowLvstore(p.life, name) })
	if errors.Is(err, plane.ErrKeepsSize) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Agent.mu.Lock()
	p.Agent.wide[p.c.DaId] = len(all)
	p.Agent.mu.Unlock()
	p.Log.Info("the disk array has its physical size", "da", p.c.DaName, "grps", len(all))
	return nil
}

// widened reports that the lvstore is known to have the space of n groups: it is on media.
func (p *pass) widened(n int) bool {
	p.Agent.mu.Lock()
	defer p.Agent.mu.Unlock()
	return p.Agent.wide[p.c.DaId] == n
}

// noteJoined notes whether a group that is joining is there, beside the array.
func (p *pass) noteJoined(grpID string, there bool) {
	p.Agent.mu.Lock()
	defer p.Agent.mu.Unlock()
	if there {
		p.Agent.joined[grpID] = p.c.Term
	} else {
		delete(p.Agent.joined, grpID)
	}
}

// showGrps adds to states of groups that are joining whether they are there.
func (a *Agent) showGrps(req *apiv1.SyncCnRequest, states []*apiv1.ObjectState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range req.Cntlrs {
		for _, g := range c.Grps {
			at := slices.IndexFunc(states, func(s *apiv1.ObjectState) bool { return s.Id == g.Id })
			if at >= 0 && !states[at].Error {
				term, there := a.joined[g.Id]
				states[at].Found = there && term == c.Term
			}
		}
	}
}
