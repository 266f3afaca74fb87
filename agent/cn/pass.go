package cn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// Names in the data plane.
const (
	vdPrefix   = vda.VDPrefix
	grpPrefix  = vda.GrpPrefix
	daPrefix   = vda.DAPrefix
	volPrefix  = vda.VolPrefix
	pxPrefix   = vda.ProxyPrefix
	linkPrefix = vda.LinkPrefix
	srcPrefix  = vda.SourcePrefix
	expNQN     = vda.ExpNQNPrefix
)

// Model is what hosts see as the model of every exporter.
const Model = vda.ControllerModel

// pass is one pass over one controller.
type pass struct {
	*Agent
	c    *apiv1.CntlrSpec // in the form that choose has chosen, once it has
	spec *apiv1.CntlrSpec // nil before that
	inv  *agent.Inventory
	vol  string // a primary's volume, once it is there: the bdev's name
	away error  // why a clone's source cannot be read

	mu      sync.Mutex // guards what follows where exporters are handled in parallel
	res     agent.Result
	settled map[string]bool         // connections on which nothing is queued any more
	seen    map[string]*spdk.Mirror // mirrors as the pass has left them, by id
	wired   map[string]bool         // connections to vds that it has made (true) or ended
	joins   bool                    // it is over groups beside their array: see beside
}

func (p *pass) fail(id string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Fail(id, err)
}

func (p *pass) ail(id string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Ail(id, err)
}

func (p *pass) gone(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Gone = append(p.res.Gone, id)
}

func (p *pass) run(ctx context.Context) {
	release, err := p.turns.take(ctx, names(p.c))
	if err != nil {
		p.failAll(err)
		return
	}
	defer release()
	if p.inv, err = p.look(ctx); err != nil {
		p.failAll(err)
		return
	}
	if err := p.sift(ctx); err != nil {
		p.failAll(err)
		return
	}
	bad := sound(p.c)
	p.choose()
	o, twice := p.elsewhere(daName+p.c.DaId, p.c.Id)
	switch {
	case p.c.Deleted:
		p.drop(ctx, twice)
	case twice:
		p.failAll(fmt.Errorf("this node has %s already", o.says))
	case bad != nil:
		p.failAll(bad)
	case p.c.Primary && mirrored(p.c) && !p.Plane.Driver().Mirrors():
		p.failAll(fmt.Errorf("columns of disk array %s have several legs, and this node's data plane has no mirrors, as SPDK has none; "+
			"run vda_tgt on this node, or move the array to a controller on a node that runs it", p.c.DaName))
	case p.c.Reservations && !p.Plane.Driver().Reserves():
		p.keepOut(ctx)
	default:
		if err := p.prove(ctx); err != nil {
			p.fail(p.c.Id, err)
		}
		if p.c.Primary {
			p.primary(ctx)
		} else {
			p.secondary(ctx)
		}
	}
}

// look returns what there is of all that the pass may look at. What it shares a
// name with (see sift) it looks at under that name only.
func (p *pass) look(ctx context.Context) (*agent.Inventory, error) {
	n := agent.Names{Bdevs: []string{p.volAlias()}, Raids: []string{daPrefix + p.c.DaId}}
	for _, g := range p.c.Grps {
		n.Raids = append(n.Raids, grpPrefix+g.Id)
	}
	n.Bdevs = append(n.Bdevs, mirrorNames(cmp.Or(p.spec, p.c))...)
	for _, v := range vdsOf(p.c) {
		n.Controllers = append(n.Controllers, vdPrefix+v.VdId)
	}
	n.Controllers = append(n.Controllers, srcPrefix+p.c.DaId)
	for _, s := range p.c.Snaps {
		n.Bdevs = append(n.Bdevs, p.snapAlias(s.Id), snapshots{p}.oldAlias(s))
	}
	for _, e := range p.c.Exps {
		if e.SnapId != "" {
			n.Bdevs = append(n.Bdevs, p.snapAlias(e.SnapId))
		}
		n.NQNs = append(n.NQNs, e.Nqn)
		n.Controllers = append(n.Controllers, pxPrefix+e.Id, linkPrefix+e.Id)
		n.Paths = append(n.Paths, pxPrefix+e.Id+"n1")
	}
	for _, name := range n.Controllers {
		n.Bdevs = append(n.Bdevs, name+"n1")
	}
	return p.InventoryOf(ctx, n)
}

// failAll notes an error of the controller, and with it of each exporter and
// snapshot.
func (p *pass) failAll(err error) {
	p.fail(p.c.Id, err)
	for _, s := range p.c.Snaps {
		p.fail(s.Id, fmt.Errorf("disk array %s is not up here: %w", p.c.DaName, err))
	}
	for _, e := range p.c.Exps {
		p.fail(e.EsId, fmt.Errorf("disk array %s is not up here: %w", p.c.DaName, err))
	}
}

// exps handles every exporter on a goroutine of its own; tombstones are
// carried out, the others go to f.
func (p *pass) exps(ctx context.Context, f func(context.Context, *apiv1.ExpSpec) error) {
	var wg agent.Group
	for _, e := range p.c.Exps {
		wg.Go(func() {
			if e.Deleted {
				err := p.dropExp(ctx, e)
				if err == nil {
					err = p.forgetReservation(ctx, e)
				}
				if err != nil {
					p.fail(e.EsId, err)
				} else {
					p.gone(e.EsId)
				}
				return
			}
			if err := f(ctx, e); err != nil {
				p.fail(e.EsId, err)
			}
		})
	}
	wg.Wait()
}

// export is an exporter's subsystem on this controller.
func (p *pass) export(e *apiv1.ExpSpec, bdev, ana string) agent.Export {
	x := agent.Export{
		NQN: e.Nqn, Serial: e.Serial, Model: Model, MinCntlid: uint16(p.c.MinCntlid), MaxCntlid: uint16(p.c.MaxCntlid),
		Bdev: bdev, UUID: e.NsUuid, ANAState: ana,
		Settle: p.settle, Hosts: e.Hosts(), Auth: map[string]agent.HostAuth{}, Reservations: p.reservations(e),
	}
	for _, h := range e.AuthHosts {
		x.Auth[h.Nqn] = hostAuth(h)
	}
	if len(e.CloneHopKeys) > 0 {
		x.Auth[e.InitiatorNqn] = cloneAuth(e)
	}
	return x
}

// dropExp carries out an exporter's tombstone.
func (p *pass) dropExp(ctx context.Context, e *apiv1.ExpSpec) error {
	if err := p.Plane.RetireSubsystem(ctx, e.Nqn, p.inv.Subsystem(e.Nqn) != nil); err != nil {
		return err
	}
	if err := p.dropLink(ctx, e); err != nil {
		return err
	}
	return p.dropProxy(ctx, e)
}

var errExporterStays = errors.New("an exporter could not be removed")

// drop carries out the controller's tombstone. What stands below the exporters
// stays when it has been handed on to another controller of the array.
func (p *pass) drop(ctx context.Context, handedOn bool) {
	if !handedOn {
		defer p.cutLost(ctx)()
	}
	for _, e := range slices.Backward(p.chain()) {
		if p.inv.Controller(linkPrefix+e.Id) != nil {
			if err := p.dropExp(ctx, e); err != nil { // what it stands on has to stay
				p.fail(e.EsId, err)
				p.fail(p.c.Id, errExporterStays)
				return
			}
		}
	}
	p.exps(ctx, p.dropExp)
	if len(p.res.Errs) > 0 {
		p.fail(p.c.Id, errExporterStays)
		return
	}
	if !handedOn {
		if err := p.dropArray(ctx); err != nil {
			p.fail(p.c.Id, err)
			return
		}
	}
	p.allGone()
}

// dropArray takes away what stands below the exporters of a tombstone, and what
// is remembered of the array: it is deleted, or another node's to remember.
func (p *pass) dropArray(ctx context.Context) error {
	if p.c.DestroyData && p.c.Primary {
		lvstore{p}.destroy(ctx)
	}
	if err := descend(ctx, p.array()); err != nil {
		return err
	}
	return p.forgetMade()
}

// allGone says that the controller's tombstone has been carried out.
func (p *pass) allGone() {
	p.gone(p.c.Id)
	for _, e := range p.c.Exps {
		p.gone(e.EsId)
	}
}
