package cn

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// Several exporters of one array on a data plane whose namespaces claim their
// bdev, which is every SPDK. The volume stands behind the first exporter; each
// other one connects to the one before it over NVMe/TCP within the data plane,
// like a secondary to the primary, and exports what it finds:
//
//	lvol ─ exporter 1 ─ NVMe/TCP ─ vda-link-<exp 2>n1 ─ exporter 2 ─ NVMe/TCP ─ vda-link-<exp 3>n1 ─ exporter 3
//
// It has to be a chain: two connections to the same exporter would make two
// bdevs with the UUID of its namespace, and the data plane takes only one. The
// order is the one that is found; new exporters come last.
//
// The namespace of an exporter, and its listener, must not change while a link
// leads to it. SPDK's initiator asks for the list of changed namespaces and waits
// for it in a loop that lets nothing else of its thread run, so that the target in
// the same process never answers: the whole data plane stands still. So when an
// exporter goes, or gets another bdev, all those above it are unlinked, the last
// first, and linked again from below.

// exportFunc exports a bdev as an exporter's namespace and admits more hosts
// than the usual.
type exportFunc func(ctx context.Context, e *apiv1.ExpSpec, bdev string, more ...string) error

// exportChain exports the volume through every exporter.
func (p *pass) exportChain(ctx context.Context, vol string, export exportFunc) {
	all := p.chain()
	live := slices.DeleteFunc(slices.Clone(all), func(e *apiv1.ExpSpec) bool { return e.Deleted || e.SnapName != "" })
	// Unlink, last first, those that stand on an exporter whose namespace is about
	// to change: see the comment above.
	firm := p.firm(live, vol)
	for i, e := range slices.Backward(live) {
		if i < firm || p.inv.Controller(linkPrefix+e.Id) == nil {
			continue
		}
		if err := p.unlink(ctx, e); err != nil {
			p.fail(e.EsId, err)
			return
		}
	}
	if err := p.dropLinked(ctx, all); err != nil {
		return
	}
	p.exps(ctx, func(ctx context.Context, e *apiv1.ExpSpec) error {
		if e.SnapName != "" {
			return export(ctx, e, "")
		}
		return nil
	})
	for i, e := range live {
		var more []string
		if i+1 < len(live) {
			more = []string{vda.ProxyHostNQN(p.c.Id)}
		}
		bdev, err := vol, error(nil)
		if i > 0 {
			bdev, err = p.link(ctx, e, live[i-1])
		}
		if err == nil {
			err = export(ctx, e, bdev, more...)
		}
		if err == nil {
			continue
		}
		p.fail(e.EsId, err)
		for _, after := range live[i+1:] {
			if p.inv.Controller(linkPrefix+after.Id) == nil {
				p.fail(after.EsId, fmt.Errorf("it reaches the volume through exporter %s: %w", e.Name, err))
			}
		}
	}
}

// firm returns how many exporters of a chain, from the first on, stay as they are:
// each has its subsystem, and a namespace on what it is to stand on.
func (p *pass) firm(live []*apiv1.ExpSpec, vol string) int {
	for i, e := range live {
		bdev, c := vol, p.inv.Controller(linkPrefix+e.Id)
		if i > 0 {
			bdev = linkPrefix + e.Id + "n1"
		}
		if (c != nil) != (i > 0) || c != nil && !p.links(c, live[i-1]) || !p.Plane.Stands(p.inv, p.export(e, bdev, "")) {
			return i
		}
	}
	return len(live)
}

// dropLinked carries out the tombstones of exporters that stand on others of a
// chain, the last first. Nothing live stands on them any more.
func (p *pass) dropLinked(ctx context.Context, chain []*apiv1.ExpSpec) error {
	for _, e := range slices.Backward(chain) {
		if p.inv.Controller(linkPrefix+e.Id) == nil || !e.Deleted {
			continue
		}
		if err := p.dropExp(ctx, e); err != nil {
			p.fail(e.EsId, err)
			return err
		}
		p.inv = p.inv.WithoutSubsystem(e.Nqn).WithoutController(linkPrefix + e.Id)
	}
	return nil
}

// chain returns all exporters in the order in which they stand on one another.
func (p *pass) chain() []*apiv1.ExpSpec {
	before := map[string]string{} // by NQN: whom it stands on
	direct := map[string]bool{}   // by NQN: stands on the volume
	for _, e := range p.c.Exps {
		if c := p.inv.Controller(linkPrefix + e.Id); c != nil && len(c.Ctrlrs) > 0 {
			before[e.Nqn] = c.Ctrlrs[0].TrID.SubNQN
		} else if sub := p.inv.Subsystem(e.Nqn); sub != nil && len(sub.Namespaces) > 0 {
			direct[e.Nqn] = !strings.HasPrefix(sub.Namespaces[0].BdevName, pxPrefix)
		}
	}
	rank := func(e *apiv1.ExpSpec) int {
		switch {
		case direct[e.Nqn]:
			return 0
		case before[e.Nqn] != "":
			return 1
		case ofHop(e): // what hosts use is nearer to the volume
			return 3
		}
		return 2
	}
	byRank := slices.SortedFunc(slices.Values(p.c.Exps), func(a, b *apiv1.ExpSpec) int {
		return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Id, b.Id))
	})
	var order []*apiv1.ExpSpec
	placed := map[string]bool{}
	var place func(e *apiv1.ExpSpec)
	place = func(e *apiv1.ExpSpec) {
		if placed[e.Nqn] {
			return
		}
		placed[e.Nqn] = true
		order = append(order, e)
		for _, next := range byRank {
			if before[next.Nqn] == e.Nqn {
				place(next)
			}
		}
	}
	for _, e := range byRank { // whose predecessor is not one of ours, first
		if !slices.ContainsFunc(p.c.Exps, func(o *apiv1.ExpSpec) bool { return o.Nqn == before[e.Nqn] }) && rank(e) < 2 {
			place(e)
		}
	}
	for _, e := range byRank {
		place(e)
	}
	return order
}

// links reports that a link leads to exporter prev and has a bdev.
func (p *pass) links(c *spdk.NvmeController, prev *apiv1.ExpSpec) bool {
	return len(c.Ctrlrs) == 1 && c.Ctrlrs[0].TrID.SubNQN == prev.Nqn && c.Ctrlrs[0].TrID.Same(p.Plane.AddressOf(prev.Nqn)) &&
		!c.Disabled() && p.inv.BdevName(c.Name+"n1") != ""
}

// link connects exporter e to prev and returns the bdev to export.
func (p *pass) link(ctx context.Context, e, prev *apiv1.ExpSpec) (string, error) {
	name := linkPrefix + e.Id
	if c := p.inv.Controller(name); c != nil && p.links(c, prev) { // others have been taken off
		if !c.Ctrlrs[0].Connected() {
			return "", fmt.Errorf("the connection to exporter %s in this data plane is down (%s)", prev.Name, c.Ctrlrs[0].State)
		}
		return name + "n1", nil
	}
	at := p.Plane.AddressOf(prev.Nqn)
	if err := p.attach(ctx, agent.HopKey(p.c.HopKey).For(prev.Nqn), spdk.NvmeAttach{
		Name: name, TrType: at.TrType, TrAddr: at.TrAddr, AdrFam: at.AdrFam, TrSvcID: at.TrSvcID,
		SubNQN: prev.Nqn, HostNQN: vda.ProxyHostNQN(p.c.Id), FastIOFailTimeoutSec: p.Plane.Driver().FastIOFail(backendFastIOFail),
	}); err != nil {
		return "", fmt.Errorf("connecting to exporter %s in this data plane: %w", prev.Name, err)
	}
	return name + "n1", nil
}

// unlink takes an exporter's namespace off its link, and detaches the link.
func (p *pass) unlink(ctx context.Context, e *apiv1.ExpSpec) error {
	sub := p.inv.Subsystem(e.Nqn)
	if sub != nil {
		if err := p.closePaths(ctx, rewired, e); err != nil {
			return err
		}
		bare := *sub
		bare.Namespaces = nil
		for _, ns := range sub.Namespaces {
			if ns.BdevName != linkPrefix+e.Id+"n1" {
				bare.Namespaces = append(bare.Namespaces, ns)
			} else if err := p.Plane.Driver().PrepareLoss(ctx, p.namespace(e, ns)); err != nil {
				return err
			}
		}
		p.inv = p.inv.With(&bare)
	}
	if err := p.dropLink(ctx, e); err != nil {
		return err
	}
	p.inv = p.inv.WithoutController(linkPrefix + e.Id)
	return nil
}

// dropLink detaches an exporter's link, if it has one.
func (p *pass) dropLink(ctx context.Context, e *apiv1.ExpSpec) error {
	if p.inv.Controller(linkPrefix+e.Id) == nil {
		return nil
	}
	return agent.Drop(p.Plane.BdevNvmeDetachController(ctx, linkPrefix+e.Id))
}

// linked is an exporter's namespace that stands on a link.
type linked struct {
	link string // controller
	nqn  string
	nsid uint32
}

// above returns what stands on a subsystem of this data plane, the uppermost first.
func (a *Agent) above(inv *agent.Inventory, nqn string) (all []linked) {
	for name, c := range inv.AllControllers() {
		if !strings.HasPrefix(name, linkPrefix) || len(c.Ctrlrs) != 1 || c.Ctrlrs[0].TrID.SubNQN != nqn ||
			!a.Plane.Own(c.Ctrlrs[0].TrID) {
			continue
		}
		at := linked{link: name}
		for _, sub := range inv.AllSubsystems() {
			for _, ns := range sub.Namespaces {
				if ns.BdevName == name+"n1" {
					at.nqn, at.nsid = sub.NQN, ns.NSID
				}
			}
		}
		if at.nqn != "" {
			all = append(all, a.above(inv.WithoutController(name), at.nqn)...)
		}
		all = append(all, at)
	}
	return all
}

// unlinkAbove takes away what stands on a subsystem that is about to go.
func (a *Agent) unlinkAbove(ctx context.Context, inv *agent.Inventory, nqn string) error {
	for _, at := range a.above(inv, nqn) {
		if at.nqn != "" {
			if err := a.Plane.SetANA(ctx, at.nqn, spdk.ANAInaccessible); err != nil && !spdk.IsInvalidParams(err) {
				return err
			}
			if err := a.Plane.Driver().PrepareLoss(ctx, plane.Namespace{NQN: at.nqn, NSID: at.nsid, Bdev: at.link + "n1"}); err != nil {
				return err
			}
		}
		if err := agent.Drop(a.Plane.BdevNvmeDetachController(ctx, at.link)); err != nil {
			return err
		}
	}
	return nil
}
