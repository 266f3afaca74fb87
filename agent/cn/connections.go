package cn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// connections are the lowest rung: an NVMe/TCP connection to each vd, and to each
// leg of a mirror that is not stale.
type connections struct{ *pass }

func (r connections) have() bool { return len(r.attached()) > 0 || len(r.dialing()) > 0 }

// attached returns the connections to vds that there were when the pass looked.
func (p *pass) attached() []*spdk.NvmeController {
	var all []*spdk.NvmeController
	for _, v := range vdsOf(p.c) {
		if c := p.inv.Controller(vdPrefix + v.VdId); c != nil {
			all = append(all, c)
		}
	}
	return all
}

// want: a leg of a mirror may go and come while the array serves, unless it was
// attached in another term: then the dns may admit another primary.
func (r connections) want() (wrong string) {
	legs := mirrored(r.c)
	for _, v := range vdsOf(r.c) {
		c := r.inv.Controller(vdPrefix + v.VdId)
		switch {
		case c == nil:
		case legs && len(c.Ctrlrs) > 0 && !sameTerm(c.Ctrlrs[0].Host.NQN, r.c.HostNqn),
			!legs && !r.fits(c, v):
			wrong = "vd " + v.VdId + " is attached in another way"
		case c.Disabled(): // by a cutLost whose takeDown did not get to its end
			wrong = "the connection to vd " + v.VdId + " was cut"
		}
	}
	return wrong
}

// fits reports that a controller is the connection that v, its epoch and this
// term need.
func (p *pass) fits(c *spdk.NvmeController, v *apiv1.VdTarget) bool {
	if len(c.Ctrlrs) != 1 {
		return false
	}
	path := c.Ctrlrs[0]
	return path.TrID.Same(spdk.At(v.Listener.Listener())) && path.TrID.SubNQN == v.Nqn &&
		path.Host.NQN == vda.LegHostNQN(p.c.HostNqn, v.Epoch) && p.inv.BdevName(c.Name+"n1") != ""
}

// mayStay reports that there is no connection to a vd, or one as it should be.
func (p *pass) mayStay(v *apiv1.VdTarget) bool {
	c := p.inv.Controller(vdPrefix + v.VdId)
	return c == nil || p.fits(c, v)
}

// make connects to the vds, and ends meanwhile what is queued on the proxies of a
// secondary that takes over. Of an array on mirrors what answers is connected, and
// one leg of each mirror suffices: others go on being connected to beyond the pass.
func (r connections) make(ctx context.Context) error {
	if mirrored(r.c) {
		if err := mirrors(r).letGo(ctx); err != nil {
			return err
		}
		if err := r.detach(ctx, r.unwanted()); err != nil {
			return err
		}
	}
	vds := connectedOf(r.c)
	if mirrored(r.c) {
		if err := r.failAtOnce(ctx, vds); err != nil {
			return err
		}
		missing, errs, err := r.dialAll(ctx, vds)
		for _, err := range errs {
			r.later(err)
		}
		if err == nil && !usable(r.c, missing) {
			err = cmp.Or(errs...)
		}
		return err
	}
	return agent.Parallel(1+len(vds), func(i int) error {
		if i == 0 {
			return r.settleProxies(ctx)
		}
		v := vds[i-1]
		if name := vdPrefix + v.VdId; r.inv.Controller(name) != nil && !r.changed(name, false) {
			return nil // it is as it should be
		}
		err := r.attachVD(ctx, v)
		if err == nil {
			r.note(vdPrefix+v.VdId, true)
		}
		return err
	})
}

// failAtOnce has I/O of vds that are connected wait for a lost connection, or not, as suits
// what the array has become: a mirror must hear of the loss of a leg, and a single leg is
// waited for.
func (r connections) failAtOnce(ctx context.Context, vds []*apiv1.VdTarget) error {
	for _, v := range vds {
		c := r.inv.Controller(vdPrefix + v.VdId)
		if c == nil || r.changed(c.Name, false) || len(c.Ctrlrs) == 0 || c.Ctrlrs[0].FailAtOnce == several(r.c) {
			continue
		}
		// An earlier vda_tgt cannot.
		if err := r.Plane.VdaNvmeSetFailAtOnce(ctx, c.Name, several(r.c)); err != nil && !spdk.IsMethodNotFound(err) {
			return agent.Drop(err)
		}
	}
	return nil
}

// unwanted are the connections to legs that are stale or not named any more, and
// to those that have to be connected to in another way.
func (r connections) unwanted() (names []string) {
	for _, m := range mirrorsOf(r.c) {
		for _, l := range m.Legs {
			if c := r.inv.Controller(vdPrefix + l.Vd.VdId); c != nil && (!connects(l.Role) || !r.fits(c, l.Vd)) {
				names = append(names, c.Name)
			}
		}
	}
	return append(names, r.unnamed()...)
}

// unnamed are the connections to legs that mirrors had when the pass looked, and
// that the spec does not name.
func (r connections) unnamed() (names []string) {
	for _, m := range mirrorsOf(r.c) {
		have := r.inv.Mirror(vda.MirrorPrefix + m.Id)
		if have == nil {
			continue
		}
		for _, l := range have.Legs {
			name := strings.TrimSuffix(l.Bdev, "n1")
			if !slices.ContainsFunc(m.Legs, func(s *apiv1.LegSpec) bool { return s.Vd.VdId == l.VD }) && name == vdPrefix+l.VD &&
				r.inv.Controller(name) != nil {
				names = append(names, name)
			}
		}
	}
	return names
}

func (r connections) attachVD(ctx context.Context, v *apiv1.VdTarget) error {
	at := spdk.At(v.Listener.Listener())
	if err := r.attach(ctx, v.HopKey, spdk.NvmeAttach{
		Name: vdPrefix + v.VdId, TrType: at.TrType, TrAddr: at.TrAddr, AdrFam: at.AdrFam, TrSvcID: at.TrSvcID, SubNQN: v.Nqn,
		HostNQN: vda.LegHostNQN(r.c.HostNqn, v.Epoch), FastIOFailTimeoutSec: r.Plane.Driver().FastIOFail(backendFastIOFail),
		FailAtOnce: several(r.c),
	}); err != nil {
		return fmt.Errorf("vd %s at %s port %s: %w", v.VdId, at.TrAddr, at.TrSvcID, err)
	}
	return nil
}

func (r connections) unmake(ctx context.Context) error {
	names, err := r.awaitDials(ctx) // one may have come to be meanwhile
	if err != nil {
		return err
	}
	names = append(names, r.unnamed()...)
	for _, c := range r.attached() {
		names = append(names, c.Name)
	}
	return r.detach(ctx, names)
}

func (r connections) detach(ctx context.Context, names []string) error {
	return agent.Parallel(len(names), func(i int) error {
		err := agent.Drop(r.Plane.BdevNvmeDetachController(ctx, names[i]))
		if err == nil {
			r.note(names[i], false)
		}
		return err
	})
}

// note notes a connection that the pass has made or ended.
func (p *pass) note(name string, made bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wired == nil {
		p.wired = map[string]bool{}
	}
	p.wired[name] = made
}

// changed reports that the pass has made a connection, or ended it.
func (p *pass) changed(name string, made bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, known := p.wired[name]
	return known && now == made
}

// connected reports that there is a connection to a vd.
func (p *pass) connected(v *apiv1.VdTarget) bool {
	name := vdPrefix + v.VdId
	if p.changed(name, true) {
		return true
	}
	c := p.inv.Controller(name)
	return c != nil && c.Connected() && !p.changed(name, false)
}

// backends returns which vds that I/O waits for are not connected now, and why.
// They come back by themselves.
func (p *pass) backends() (gone []*apiv1.VdTarget, why error) {
	var lost []string
	note := func(v *apiv1.VdTarget, problem string) {
		gone = append(gone, v)
		lost = append(lost, fmt.Sprintf("vd %s at %s port %s %s", v.VdId, v.Listener.Traddr, v.Listener.Trsvcid, problem))
	}
	for _, g := range p.c.Grps {
		for _, v := range g.Vds {
			if problem := p.problem(v); problem != "" {
				note(v, problem)
			}
		}
		for _, m := range g.Mirrors {
			s := p.mirror(m)
			for _, v := range legsIn(m, isMember) {
				problem := p.problem(v)
				if l := legState(s, v.VdId); l != nil && l.Lost {
					problem = cmp.Or(problem, "is lost ("+l.Why+")")
				}
				if problem != "" && len(m.Legs) > 1 {
					problem += "; I/O waits until it is back or is not a member of mirror " + m.Id + " any more"
				}
				if problem != "" {
					note(v, problem)
				}
			}
		}
	}
	if lost == nil {
		return nil, nil
	}
	return gone, errors.New(strings.Join(lost, "; "))
}

// problem says what is wrong with the connection to a vd, "" for nothing.
func (p *pass) problem(v *apiv1.VdTarget) string {
	c := p.inv.Controller(vdPrefix + v.VdId)
	switch {
	case p.changed(vdPrefix+v.VdId, true):
	case c == nil && mirrored(p.c), p.changed(vdPrefix+v.VdId, false):
		return "is not attached"
	case c == nil || len(c.Ctrlrs) == 0: // attached in this pass
	case !c.Ctrlrs[0].Connected():
		return fmt.Sprintf("is not connected (%s)", c.Ctrlrs[0].State)
	case p.silence.at(v.Listener):
		return "is out of reach"
	}
	return ""
}

// Time-outs of a connection to a vd (backend) and to the primary (proxy). A
// lost connection is tried again after each plane.ReconnectDelay, for ever. I/O
// that waits for it fails after a while, with a status that lets hosts try
// another path: a proxy's soon (plane.ProxyFastIOFail), as the primary is
// probably gone and this controller may take over; a backend's later, as a disk
// node that restarts is back by then and another path would end at the same disk.
const (
	noCtrlrLossTimeout    = -1
	backendFastIOFail     = 2 * time.Second
	fabricsConnectTimeout = 5 * time.Second
)

// attach connects a controller of one namespace: to a vd, to the primary or, as
// a link, to another exporter. Both sides prove that they know key.
func (p *pass) attach(ctx context.Context, key agent.HopKey, n spdk.NvmeAttach) error {
	leave, err := p.attaching.enter(ctx, net.JoinHostPort(n.TrAddr, n.TrSvcID))
	if err != nil {
		return err
	}
	defer leave()
	n.CtrlrLossTimeoutSec, n.ReconnectDelaySec = spdk.Ptr[int32](noCtrlrLossTimeout), spdk.Ptr(uint32(plane.ReconnectDelay/time.Second))
	if n.FabricsConnectTimeoutUs == nil {
		n.FabricsConnectTimeoutUs = spdk.Ptr(uint64(fabricsConnectTimeout / time.Microsecond))
	}
	bdevs, err := p.Plane.Attach(ctx, n, key)
	if err != nil {
		return err
	}
	if len(bdevs) == 0 {
		err := fmt.Errorf("subsystem %s shows no usable namespace", n.SubNQN)
		if detachErr := agent.Drop(p.Plane.BdevNvmeDetachController(ctx, n.Name)); detachErr != nil {
			return detachErr
		}
		return err
	}
	return nil
}
