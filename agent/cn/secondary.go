package cn

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// secondary exports what the primary proxies.
func (p *pass) secondary(ctx context.Context) {
	if p.isUp() {
		p.Log.Info("this controller is not primary any more", "da", p.c.DaName, "term", p.c.Term)
	}
	if err := p.takeDown(ctx); err != nil {
		p.failAll(err)
		return
	}
	if p.standsBy(p.c) {
		p.exps(ctx, func(ctx context.Context, e *apiv1.ExpSpec) error { return p.closePaths(ctx, primaryMoves, e) })
		return
	}
	p.exps(ctx, p.secondaryExp)
}

func (p *pass) secondaryExp(ctx context.Context, e *apiv1.ExpSpec) error {
	if ofClone(e) || ofHop(e) {
		return p.primaryOnly(ctx, e)
	}
	inv, err := p.proxy(ctx, e)
	if err != nil {
		if anaErr := p.closePaths(ctx, primaryAway, e); anaErr != nil {
			p.Log.Warn("path stays as it is", "nqn", e.Nqn, "err", anaErr)
		}
		return fmt.Errorf("primary at %s port %s: %w", p.c.PrimaryListener.Traddr, p.c.PrimaryListener.Trsvcid, err)
	}
	name := pxPrefix + e.Id
	have := inv.Controller(name) // nil: it was made just now
	well := have == nil || have.Ctrlrs[0].Connected() && !inv.Closed(name+"n1")
	mayHold := have != nil && p.Plane.Driver().MayHold(have, well)
	if well && !mayHold {
		return p.openExp(ctx, inv, e)
	}
	if err := p.Plane.Ensure(ctx, inv, p.export(e, name+"n1", spdk.ANAInaccessible)); err != nil {
		return err
	}
	ready, err := p.Plane.Driver().Release(ctx, name, e.Nqn)
	if err != nil {
		return err
	}
	if ready {
		if inv, err = p.look(ctx); err != nil {
			return err
		}
		return p.openExp(ctx, inv, e)
	}
	if path := have.Ctrlrs[0]; !path.Connected() {
		return fmt.Errorf("primary at %s port %s is not connected (%s)", p.c.PrimaryListener.Traddr, p.c.PrimaryListener.Trsvcid, path.State)
	}
	return nil
}

// ofClone reports an exporter that a clone is copied from.
func ofClone(e *apiv1.ExpSpec) bool { return strings.HasPrefix(e.Name, vda.ClonePrefix) }

// ofHop reports what other controllers connect to at this node's back-end listener, beside
// the exporter that hosts connect to. Only a primary's can be read at.
func ofHop(e *apiv1.ExpSpec) bool { return strings.HasPrefix(e.Nqn, vda.HopNQNPrefix) }

// led is what a proxy of an exporter connects to on the primary.
func led(e *apiv1.ExpSpec) string { return cmp.Or(e.HopNqn, e.Nqn) }

// primaryOnly has a path at which nothing can be read, for the time when this controller is
// primary. Of a hop that is all: secondaries connect to primaries. A clone has to be able
// to read by the primary on any node; a proxy would be a second bdev with the namespace's
// UUID where the clone is on this node, and a data plane takes only one.
func (p *pass) primaryOnly(ctx context.Context, e *apiv1.ExpSpec) error {
	inv := p.inv
	if inv.Controller(pxPrefix+e.Id) != nil { // of an earlier release
		var err error
		if inv, err = p.unplug(ctx, e); err != nil {
			return err
		}
	}
	return p.Plane.Ensure(ctx, inv, p.export(e, "", spdk.ANAInaccessible))
}

// openExp exports what the primary proxies, for hosts to use where that is
// safe; else hosts wait for a primary.
func (p *pass) openExp(ctx context.Context, inv *agent.Inventory, e *apiv1.ExpSpec) error {
	if c := inv.Controller(pxPrefix + e.Id); c != nil {
		p.Plane.Driver().Clean(c)
	}
	return p.Plane.Ensure(ctx, inv, p.export(e, pxPrefix+e.Id+"n1", p.Plane.Driver().ProxyState()))
}

// proxy makes the connection to the primary and returns an inventory in which
// what it has changed of the exporter's subsystem shows, without the connection
// when it was made just now.
func (p *pass) proxy(ctx context.Context, e *apiv1.ExpSpec) (*agent.Inventory, error) {
	name, l, inv := pxPrefix+e.Id, p.c.PrimaryListener, p.inv
	want := spdk.At(l.Listener())
	have := p.inv.Controller(name)
	if have != nil && p.leads(have, e) {
		return inv, nil
	}
	if have != nil {
		// The primary has moved, or its namespace went away.
		var err error
		if inv, err = p.unplug(ctx, e); err != nil {
			return inv, err
		}
	}
	if err := p.attach(ctx, agent.HopKey(p.c.HopKey).For(led(e)), spdk.NvmeAttach{
		Name: name, TrType: want.TrType, TrAddr: want.TrAddr, AdrFam: want.AdrFam, TrSvcID: want.TrSvcID,
		SubNQN: led(e), HostNQN: vda.ProxyHostNQN(p.c.Id), FastIOFailTimeoutSec: p.Plane.Driver().FastIOFail(plane.ProxyFastIOFail),
		FabricsConnectTimeoutUs: spdk.Ptr(uint64(plane.ProxyConnectTimeout / time.Microsecond)),
	}); err != nil {
		return inv, err
	}
	return inv, nil
}

// leads reports that a proxy leads to the primary and has a bdev.
func (p *pass) leads(c *spdk.NvmeController, e *apiv1.ExpSpec) bool {
	return len(c.Ctrlrs) > 0 && c.Ctrlrs[0].TrID.Same(spdk.At(p.c.PrimaryListener.Listener())) && c.Ctrlrs[0].TrID.SubNQN == led(e) &&
		p.inv.BdevName(c.Name+"n1") != ""
}

// unplug takes the namespace off a proxy that is to be replaced, and detaches
// the proxy. Its path is inaccessible from then on.
func (p *pass) unplug(ctx context.Context, e *apiv1.ExpSpec) (*agent.Inventory, error) {
	name, inv := pxPrefix+e.Id, p.inv
	if err := p.closePaths(ctx, rewired, e); err != nil {
		return inv, err
	}
	if sub := p.inv.Subsystem(e.Nqn); sub != nil {
		for _, ns := range sub.Namespaces {
			if err := p.Plane.Driver().PrepareLoss(ctx, p.namespace(e, ns)); err != nil {
				return inv, err
			}
		}
	}
	if err := agent.Drop(p.Plane.BdevNvmeDetachController(ctx, name)); err != nil {
		return inv, err
	}
	if sub := inv.Subsystem(e.Nqn); sub != nil { // its bdev is gone
		bare := *sub
		bare.Namespaces = nil
		inv = inv.With(&bare)
	}
	return inv.WithoutController(name), nil
}

// settle ends what is queued on a connection that a namespace stands on, to
// the primary or within this data plane. Once is enough in a pass: the path
// has been closed.
func (p *pass) settle(ctx context.Context, bdev string) error {
	name := strings.TrimSuffix(bdev, "n1")
	if !strings.HasPrefix(name, pxPrefix) && !strings.HasPrefix(name, linkPrefix) || p.inv.Controller(name) == nil {
		return nil
	}
	p.mu.Lock()
	done := p.settled[name]
	p.mu.Unlock()
	if done {
		return nil
	}
	if err := p.Plane.Driver().Settle(ctx, name); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled == nil {
		p.settled = map[string]bool{}
	}
	p.settled[name] = true
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dropProxies detaches all proxies where namespaces stay without them.
func (p *pass) dropProxies(ctx context.Context) error {
	exps := p.c.Exps
	dropped := make([]bool, len(exps))
	if err := agent.Parallel(len(exps), func(i int) (err error) {
		if name := pxPrefix + exps[i].Id; p.inv.Controller(name) != nil {
			dropped[i], err = p.Plane.DropProxy(ctx, name)
		}
		return err
	}); err != nil || !slices.Contains(dropped, true) {
		return err
	}
	inv, err := p.look(ctx)
	if err == nil {
		p.inv = inv
	}
	return err
}

// settleProxies has what is queued on proxies fail while the array is being
// brought up.
func (p *pass) settleProxies(ctx context.Context) error {
	return agent.Parallel(len(p.c.Exps), func(i int) error { return p.settle(ctx, pxPrefix+p.c.Exps[i].Id+"n1") })
}
