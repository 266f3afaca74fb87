package cn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// primary brings the array up and exports it.
func (p *pass) primary(ctx context.Context) {
	vol, err := p.volume(ctx)
	if err != nil {
		if anaErr := p.closePaths(ctx, notUp); anaErr != nil {
			p.Log.Warn("paths stay as they are", "da", p.c.DaName, "err", anaErr)
		}
		p.failAll(err)
		return
	}
	halted := p.halted(p.c.Id)
	if halted != nil {
		p.fail(p.c.Id, halted)
	}
	gone, lost := p.backends()
	if lost != nil {
		p.fail(p.c.Id, lost)
	}
	ana := spdk.ANAOptimized
	whileLost := p.Plane.Driver().StateWhileLost()
	if !usable(p.c, gone) {
		ana = whileLost
	}
	held := p.heldIO()
	switch {
	case lost != nil && whileLost == spdk.ANAInaccessible:
		err = p.closePaths(ctx, vdLost)
	case held: // Ensure, which opens them again, waits until it has ended
		if err = p.closePaths(ctx, ioHeld); err == nil {
			p.noneHeld()
		}
	}
	if err != nil {
		p.failAll(err)
		return
	}
	if halted != nil {
		ana = spdk.ANAInaccessible
	}
	export := func(ctx context.Context, e *apiv1.ExpSpec, bdev string, more ...string) error {
		return cmp.Or(p.primaryExp(ctx, e, bdev, ana, more...), halted)
	}
	if !p.Plane.Driver().Shares() {
		p.exportChain(ctx, vol, export)
		return
	}
	p.exps(ctx, func(ctx context.Context, e *apiv1.ExpSpec) error { return export(ctx, e, vol) })
}

// primaryExp exports bdev, which is the volume or leads to it, to the
// initiator, the secondaries and the hosts of more.
func (p *pass) primaryExp(ctx context.Context, e *apiv1.ExpSpec, bdev, ana string, more ...string) error {
	if e.SnapName != "" {
		return fmt.Errorf("snapshot %q of disk array %s does not exist", e.SnapName, p.c.DaName)
	}
	x := p.export(e, bdev, ana)
	x.Hosts = append(append(x.Hosts, p.c.SecondaryHostNqns...), more...)
	if err := p.Plane.Ensure(ctx, p.inv, x); err != nil {
		return err
	}
	return p.dropProxy(ctx, e) // from the time as a secondary
}

// backends returns which vds are not connected now, and why. They come back by
// themselves.
func (p *pass) backends() (gone []*apiv1.VdTarget, why error) {
	var lost []string
	for _, v := range p.vds() {
		c := p.inv.Controller(vdPrefix + v.VdId)
		switch {
		case c == nil || len(c.Ctrlrs) == 0: // attached in this pass
		case !c.Ctrlrs[0].Connected():
			gone = append(gone, v)
			lost = append(lost, fmt.Sprintf("vd %s at %s port %s is not connected (%s)", v.VdId, v.Listener.Traddr, v.Listener.Trsvcid, c.Ctrlrs[0].State))
		case p.silence.at(v.Listener):
			gone = append(gone, v)
			lost = append(lost, fmt.Sprintf("vd %s at %s port %s is out of reach", v.VdId, v.Listener.Traddr, v.Listener.Trsvcid))
		}
	}
	if lost == nil {
		return nil, nil
	}
	return gone, errors.New(strings.Join(lost, "; "))
}

// usable reports whether an array can be read and written without some of its
// vds. It says nothing of leases: without one a primary stops at any loss,
// because what it has lost may be enough for another.
func usable(c *apiv1.CntlrSpec, without []*apiv1.VdTarget) bool {
	var groups [][]*apiv1.VdTarget
	for _, g := range c.Grps {
		groups = append(groups, g.Vds)
	}
	return vda.Usable(vda.Striped, groups, func(v *apiv1.VdTarget) bool { return !slices.Contains(without, v) })
}

func (p *pass) vds() []*apiv1.VdTarget { return vdsOf(p.c) }

func vdsOf(c *apiv1.CntlrSpec) []*apiv1.VdTarget {
	var vds []*apiv1.VdTarget
	for _, g := range c.Grps {
		vds = append(vds, g.Vds...)
	}
	return vds
}

// groups returns the groups in the order in which they are joined.
func (p *pass) groups() []*apiv1.GrpSpec {
	return slices.SortedFunc(slices.Values(p.c.Grps), func(a, b *apiv1.GrpSpec) int { return int(a.GrpIdx) - int(b.GrpIdx) })
}

func (p *pass) volAlias() string {
	return daPrefix + p.c.DaId + "/" + volPrefix + p.c.DaId
}

// volume returns the bdev of the array's volume after making what is missing
// below it.
func (p *pass) volume(ctx context.Context) (string, error) {
	if err := p.refit(ctx); err != nil {
		return "", err
	}
	if vol := p.inv.BdevName(p.volAlias()); vol != "" {
		return vol, nil
	}
	// A secondary that takes over: hosts have to wait from now on.
	if err := p.closePaths(ctx, takingOver); err != nil {
		return "", err
	}
	if err := p.dropProxies(ctx); err != nil {
		return "", err
	}
	vds := p.vds()
	if err := agent.Parallel(1+len(vds), func(i int) error {
		if i == 0 {
			return p.settleProxies(ctx)
		}
		return p.attachVD(ctx, vds[i-1])
	}); err != nil {
		return "", err
	}
	top, err := p.raids(ctx)
	if err != nil {
		return "", err
	}
	vol, err := p.load(ctx, top)
	if err != nil {
		return "", err
	}
	p.Log.Info("disk array is up", "da", p.c.DaName, "term", p.c.Term, "vds", len(vds))
	return vol, nil
}

// dropProxies detaches all proxies where namespaces stay without them.
func (p *pass) dropProxies(ctx context.Context) error {
	exps := p.c.Exps
	dropped := make([]bool, len(exps))
	if err := agent.Parallel(len(exps), func(i int) (err error) {
		if name := pxPrefix + exps[i].Id; p.inv.Controller(name) != nil {
			dropped[i], err = p.Plane.Driver().DropProxy(ctx, name)
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

// refit takes the array down when it stands on connections of another term or
// to other places, or has lost its raid.
func (p *pass) refit(ctx context.Context) error {
	why := ""
	for _, v := range p.vds() {
		c := p.inv.Controller(vdPrefix + v.VdId)
		if c != nil && !p.fits(c, v) {
			why = "vd " + v.VdId + " is attached in another way"
		}
		if c != nil && c.Disabled() { // by a cutLost whose demote did not get to its end
			why = "the connection to vd " + v.VdId + " was cut"
		}
	}
	for _, g := range p.groups() {
		if r := p.inv.Raid(grpPrefix + g.Id); r != nil && (r.State != "online" || !p.raidFits(r, g)) {
			why = "raid " + r.Name + " is " + r.State
		}
	}
	if r := p.inv.Raid(daPrefix + p.c.DaId); r != nil && r.State != "online" {
		why = "raid " + r.Name + " is " + r.State
	}
	if why == "" {
		return nil
	}
	p.Log.Warn("disk array is taken down and brought up again", "da", p.c.DaName, "term", p.c.Term, "why", why)
	return p.demote(ctx)
}

// fits reports that a controller is the connection that v and this term need.
func (p *pass) fits(c *spdk.NvmeController, v *apiv1.VdTarget) bool {
	if len(c.Ctrlrs) != 1 {
		return false
	}
	path := c.Ctrlrs[0]
	return path.TrID.Same(spdk.At(v.Listener.Listener())) &&
		path.TrID.SubNQN == v.Nqn && path.Host.NQN == p.c.HostNqn && p.inv.BdevName(c.Name+"n1") != ""
}

func (p *pass) raidFits(r *spdk.Raid, g *apiv1.GrpSpec) bool {
	if r.StripSizeKB != g.StripeSizeKb || len(r.BaseBdevs) != len(g.Vds) {
		return false
	}
	for i, b := range r.BaseBdevs {
		if b.Name == nil || *b.Name != vdPrefix+g.Vds[i].VdId+"n1" {
			return false
		}
	}
	return vda.Striped.Tolerates(len(r.BaseBdevs), func(idx int) bool { return !r.BaseBdevs[idx].IsConfigured })
}

func (p *pass) attachVD(ctx context.Context, v *apiv1.VdTarget) error {
	if p.inv.Controller(vdPrefix+v.VdId) != nil {
		return nil // refit has looked at it
	}
	at := spdk.At(v.Listener.Listener())
	if err := p.attach(ctx, spdk.NvmeAttach{
		Name: vdPrefix + v.VdId, TrType: at.TrType, TrAddr: at.TrAddr, AdrFam: at.AdrFam, TrSvcID: at.TrSvcID,
		SubNQN: v.Nqn, HostNQN: p.c.HostNqn, FastIOFailTimeoutSec: p.Plane.Driver().FastIOFail(backendFastIOFail),
	}); err != nil {
		return fmt.Errorf("vd %s at %s port %s: %w", v.VdId, at.TrAddr, at.TrSvcID, err)
	}
	return nil
}

// raids makes a raid of each group and joins them; it returns the uppermost.
func (p *pass) raids(ctx context.Context) (string, error) {
	var names []string
	for _, g := range p.groups() {
		name := grpPrefix + g.Id
		names = append(names, name)
		if p.inv.Raid(name) != nil {
			continue
		}
		r := spdk.RaidCreate{Name: name, StripSizeKB: g.StripeSizeKb, RaidLevel: "raid0"}
		for _, v := range g.Vds {
			r.BaseBdevs = append(r.BaseBdevs, vdPrefix+v.VdId+"n1")
		}
		if err := p.makeRaid(ctx, r); err != nil {
			return "", err
		}
	}
	if len(names) == 1 {
		return names[0], nil
	}
	name := daPrefix + p.c.DaId
	if p.inv.Raid(name) != nil {
		return name, nil
	}
	return name, p.makeRaid(ctx, spdk.RaidCreate{Name: name, StripSizeKB: p.c.Grps[0].StripeSizeKb, RaidLevel: "concat", BaseBdevs: names})
}

func (p *pass) makeRaid(ctx context.Context, r spdk.RaidCreate) error {
	if err := p.Plane.BdevRaidCreate(ctx, r); err != nil {
		return err
	}
	// A raid that lacks a member is made without an error and has no bdev.
	if _, err := p.Plane.BdevGet(ctx, r.Name, 1000); err != nil {
		return fmt.Errorf("raid %s does not come up: %w", r.Name, err)
	}
	return nil
}
