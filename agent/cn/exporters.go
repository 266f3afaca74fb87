package cn

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// exporters are the highest rung: a subsystem for each exporter, with the volume
// behind it, to the initiator and the secondaries. Where a bdev stands behind one
// namespace only, they form a chain (chain.go).
type exporters struct{ *pass }

// have: a subsystem is a secondary's as well, a link is not.
func (r exporters) have() bool {
	return slices.ContainsFunc(r.c.Exps, func(e *apiv1.ExpSpec) bool { return r.inv.Controller(linkPrefix+e.Id) != nil })
}

// want: all of a subsystem can be changed while it serves.
func (r exporters) want() string { return "" }

// make exports the volume. What is wrong with one exporter is that exporter's
// error; the error returned is that of all.
func (r exporters) make(ctx context.Context) error {
	halted := r.halted(r.c.Id)
	if halted != nil {
		r.fail(r.c.Id, halted)
	}
	ana, err := r.state(ctx)
	if err != nil {
		return err
	}
	if halted != nil || r.Plane.Driver().SnapshotNeedsQuiet() && r.snapUnderWay(r.c.DaId) {
		ana = spdk.ANAInaccessible
	}
	export := func(ctx context.Context, e *apiv1.ExpSpec, bdev string, more ...string) error {
		return cmp.Or(r.exportOne(ctx, e, bdev, ana, more...), halted)
	}
	if !r.Plane.Driver().Shares() {
		r.exportChain(ctx, r.vol, export)
		return nil
	}
	r.exps(ctx, func(ctx context.Context, e *apiv1.ExpSpec) error { return export(ctx, e, r.vol) })
	return nil
}

// state returns the ANA state that the vds allow. It closes the paths when what
// hosts send would be held for a vd, and when something may be held since one was
// lost: Plane.Ensure, which opens them again, waits until that has ended.
func (r exporters) state(ctx context.Context) (string, error) {
	gone, lost := r.backends()
	if lost != nil {
		r.fail(r.c.Id, lost)
	}
	ana, whileLost := spdk.ANAOptimized, r.Plane.Driver().StateWhileLost()
	if !usable(r.c, gone) {
		ana = whileLost
	}
	held := false
	for _, c := range r.attached() {
		held = r.Plane.Driver().MayHold(c, c.Connected()) || held
	}
	switch {
	case lost != nil && whileLost == spdk.ANAInaccessible:
		return ana, r.closePaths(ctx, vdLost)
	case held:
		if err := r.closePaths(ctx, ioHeld); err != nil {
			return ana, err
		}
		for _, c := range r.attached() {
			r.Plane.Driver().Clean(c)
		}
	}
	return ana, nil
}

// exportOne exports bdev, which is the volume or leads to it, to the initiator, the
// secondaries and the hosts of more.
func (r exporters) exportOne(ctx context.Context, e *apiv1.ExpSpec, bdev, ana string, more ...string) error {
	if e.SnapName != "" {
		var err error
		if bdev, err = r.snapBdev(ctx, e); err != nil {
			return err
		}
		if err := r.standsAlone(e); err != nil {
			return err
		}
	}
	x := r.export(e, bdev, ana)
	x.Hosts = append(append(x.Hosts, r.secondaries(e)...), more...)
	x.Keys = r.proxyKeys(e)
	if x.Reservations.ID != "" {
		x.Reservations.Forwarders = r.secondaries(e)
	}
	if err := r.Plane.Ensure(ctx, r.inv, x); err != nil {
		return err
	}
	return r.dropProxy(ctx, e) // from the time as a secondary
}

// standsAlone refuses a second exporter of a snapshot where a bdev stands behind
// one namespace only.
func (r exporters) standsAlone(e *apiv1.ExpSpec) error {
	if r.Plane.Driver().Shares() {
		return nil
	}
	for _, o := range r.c.Exps {
		first := ofHop(e) && !ofHop(o) || ofHop(e) == ofHop(o) && o.Id < e.Id // what hosts use
		if o.SnapId == e.SnapId && !o.Deleted && first {
			return fmt.Errorf("this node's data plane is SPDK, which exports a snapshot once: %s is exported by %s; run vda_tgt on this node",
				e.SnapName, o.Name)
		}
	}
	return nil
}

// unmake readies the exporters for the loss of the volume behind them. Their
// subsystems stay, for a secondary.
func (r exporters) unmake(ctx context.Context) error {
	for _, e := range slices.Backward(r.chain()) {
		if err := r.prepareLoss(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (r exporters) prepareLoss(ctx context.Context, e *apiv1.ExpSpec) error {
	sub := r.inv.Subsystem(e.Nqn)
	switch {
	case e.Deleted && r.inv.Controller(linkPrefix+e.Id) != nil:
		return r.dropExp(ctx, e) // before what its link leads to
	case sub == nil, e.Deleted:
		return nil
	}
	// Secondaries must not come here any more: this node may be one itself
	// soon, and proxies would go round in a ring.
	if err := r.Plane.ShutOut(ctx, sub, append(e.Hosts(), vda.ProxyHostNQN(r.c.Id))); err != nil {
		return err
	}
	for _, ns := range sub.Namespaces {
		if ns.BdevName == pxPrefix+e.Id+"n1" {
			continue
		}
		if err := r.Plane.Driver().PrepareLoss(ctx, r.namespace(e, ns)); err != nil {
			return err
		}
	}
	return r.dropLink(ctx, e)
}

// namespace is one of an exporter's namespaces, as its subsystem has it.
func (p *pass) namespace(e *apiv1.ExpSpec, ns spdk.NvmfNamespace) plane.Namespace {
	return plane.Namespace{NQN: e.Nqn, NSID: ns.NSID, Bdev: ns.BdevName, Settle: p.settle}
}
