package cn

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// The owners of names. A tombstone stays in the set for a while, in that of a
// controller that lives on for as long as nothing else changes, and its names
// may be given again meanwhile: an array made again has the NQNs of the old one,
// exporter c of a-b has that of b-c of a, and a controller that comes back to a
// node has the raids and vds of the one that left. The live object owns the
// name, and no other unit touches what has it. Of two that live, the one that
// was there first does.

// Kinds of names.
const (
	nqnName = "nqn " // an exporter's NQN; its owner is an es
	daName  = "da "  // what stands below an array's exporters; its owner is a controller
)

// owner has a name.
type owner struct {
	id    string // of the es or controller
	expID string // of an es
	says  string // what it is, for people
}

// claim works out the owners of the set's names; before are those of the set
// that this one follows.
func (s *set) claim(before map[string]owner) {
	s.owners = map[string]owner{}
	take := func(name string, o owner) {
		if _, taken := s.owners[name]; !taken || before[name].id == o.id {
			s.owners[name] = o
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.cntlrs)) {
		c := s.cntlrs[id]
		if c.Deleted {
			continue
		}
		take(daName+c.DaId, owner{id: id, says: fmt.Sprintf("controller %s of disk array %s", id, c.DaName)})
		for _, e := range c.Exps {
			if !e.Deleted {
				take(nqnName+e.Nqn, owner{id: e.EsId, expID: e.Id, says: fmt.Sprintf("exporter %s of disk array %s", e.Name, c.DaName)})
			}
		}
	}
}

// elsewhere returns the owner of a name that is another one than id, which may
// be the id of a tombstone.
func (a *Agent) elsewhere(name, id string) (owner, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, owned := a.set.owners[name]
	return o, owned && o.id != id
}

// names are what a controller's unit acts under.
func names(c *apiv1.CntlrSpec) []string {
	all := []string{daName + c.DaId}
	for _, e := range c.Exps {
		all = append(all, nqnName+e.Nqn)
	}
	return all
}

// sift leaves the pass with the exporters that are its own to handle, and
// takes away what still stands under their NQNs of others that had them before.
func (p *pass) sift(ctx context.Context) error {
	var own []*apiv1.ExpSpec
	for _, e := range p.c.Exps {
		o, others := p.elsewhere(nqnName+e.Nqn, e.EsId)
		switch {
		case e.Deleted && p.carriedOut(e):
			p.gone(e.EsId)
		case !others:
			own = append(own, e)
		case !e.Deleted && !p.c.Deleted:
			p.fail(e.EsId, fmt.Errorf("the NQN %s is that of %s on this node; delete one of the two", e.Nqn, o.says))
		default:
			if err := p.dropConnections(ctx, e, o); err != nil {
				p.fail(e.EsId, err)
			} else {
				p.gone(e.EsId)
			}
		}
	}
	if len(own) < len(p.c.Exps) {
		p.c = proto.CloneOf(p.c)
		p.c.Exps = own
	}
	if p.c.Deleted {
		return nil
	}
	for _, e := range own {
		sub := p.inv.Subsystem(e.Nqn)
		if sub == nil && !e.Deleted {
			if err := p.Plane.Expect(ctx, e.Nqn); err != nil {
				return err
			}
		}
		if e.Deleted || sub == nil || sub.SerialNumber == e.Serial {
			continue
		}
		p.Log.Info("a subsystem of another exporter, of before, is removed", "nqn", e.Nqn, "serial", sub.SerialNumber)
		if !p.Plane.Driver().Shares() {
			all, err := p.Inventory(ctx)
			if err == nil {
				err = p.unlinkAbove(ctx, all, e.Nqn)
			}
			if err != nil {
				return err
			}
		}
		if err := p.Plane.DropSubsystem(ctx, e.Nqn); err != nil {
			return err
		}
		p.inv = p.inv.WithoutSubsystem(e.Nqn)
	}
	return nil
}

// dropConnections carries out an exporter's tombstone as far as it goes when
// o has its NQN now.
func (p *pass) dropConnections(ctx context.Context, e *apiv1.ExpSpec, o owner) error {
	if o.expID == e.Id {
		return nil // the same exporter, of a controller that lives
	}
	if err := p.dropLink(ctx, e); err != nil {
		return err
	}
	return p.dropProxy(ctx, e)
}

func (p *pass) dropProxy(ctx context.Context, e *apiv1.ExpSpec) error {
	if p.inv.Controller(pxPrefix+e.Id) == nil {
		return nil
	}
	return agent.Drop(p.Plane.BdevNvmeDetachController(ctx, pxPrefix+e.Id))
}

// carriedOut reports that an exporter's tombstone has been carried out in this
// run of the agent.
func (a *Agent) carriedOut(e *apiv1.ExpSpec) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set.goneEs[e.EsId]
}

// note remembers the tombstones that a pass over c has carried out: they need
// no other. It reports that this was the last.
func (a *Agent) note(c *apiv1.CntlrSpec, gone []string) (last bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.set.cntlrs[c.Id]
	if now == nil {
		return false
	}
	for _, e := range now.Exps {
		if e.Deleted && slices.Contains(gone, e.EsId) {
			a.set.goneEs[e.EsId] = true
		}
	}
	if !now.Deleted || !slices.Contains(gone, c.Id) || !a.NoteGone(a.set.gone, "cntlr", c.Id, "da", c.DaName) {
		return false
	}
	if err := a.State.ForgetOrphan(wideKind, c.Id); err != nil {
		a.Log.Warn("the groups of a deleted controller stay noted", "da", c.DaName, "err", err)
	}
	return a.set.Vacant()
}
