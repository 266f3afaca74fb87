package cn

import (
	"context"
	"errors"
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

// connections are the lowest rung: an NVMe/TCP connection to each vd.
type connections struct{ *pass }

func (r connections) have() bool { return len(r.attached()) > 0 }

// attached returns the connections to vds that there were when the pass looked.
func (p *pass) attached() []*spdk.NvmeController {
	var all []*spdk.NvmeController
	for _, v := range p.vds() {
		if c := p.inv.Controller(vdPrefix + v.VdId); c != nil {
			all = append(all, c)
		}
	}
	return all
}

func (r connections) want() (wrong string) {
	for _, v := range r.vds() {
		c := r.inv.Controller(vdPrefix + v.VdId)
		if c != nil && !r.fits(c, v) {
			wrong = "vd " + v.VdId + " is attached in another way"
		}
		if c != nil && c.Disabled() { // by a cutLost whose takeDown did not get to its end
			wrong = "the connection to vd " + v.VdId + " was cut"
		}
	}
	return wrong
}

// fits reports that a controller is the connection that v, its epoch and this
// term need.
func (r connections) fits(c *spdk.NvmeController, v *apiv1.VdTarget) bool {
	if len(c.Ctrlrs) != 1 {
		return false
	}
	path := c.Ctrlrs[0]
	return path.TrID.Same(spdk.At(v.Listener.Listener())) &&
		path.TrID.SubNQN == v.Nqn && path.Host.NQN == vda.LegHostNQN(r.c.HostNqn, v.Epoch) && r.inv.BdevName(c.Name+"n1") != ""
}

// make connects to the vds, and ends meanwhile what is queued on the proxies of a
// secondary that takes over.
func (r connections) make(ctx context.Context) error {
	vds := r.vds()
	return agent.Parallel(1+len(vds), func(i int) error {
		if i == 0 {
			return r.settleProxies(ctx)
		}
		return r.attachVD(ctx, vds[i-1])
	})
}

func (r connections) attachVD(ctx context.Context, v *apiv1.VdTarget) error {
	if r.inv.Controller(vdPrefix+v.VdId) != nil {
		return nil // want has looked at it
	}
	at := spdk.At(v.Listener.Listener())
	if err := r.attach(ctx, spdk.NvmeAttach{
		Name: vdPrefix + v.VdId, TrType: at.TrType, TrAddr: at.TrAddr, AdrFam: at.AdrFam, TrSvcID: at.TrSvcID,
		SubNQN: v.Nqn, HostNQN: vda.LegHostNQN(r.c.HostNqn, v.Epoch),
		FastIOFailTimeoutSec: r.Plane.Driver().FastIOFail(backendFastIOFail),
	}); err != nil {
		return fmt.Errorf("vd %s at %s port %s: %w", v.VdId, at.TrAddr, at.TrSvcID, err)
	}
	return nil
}

func (r connections) unmake(ctx context.Context) error {
	vds := r.vds()
	return agent.Parallel(len(vds), func(i int) error {
		name := vdPrefix + vds[i].VdId
		if r.inv.Controller(name) == nil {
			return nil
		}
		return agent.Drop(r.Plane.BdevNvmeDetachController(ctx, name))
	})
}

func (p *pass) vds() []*apiv1.VdTarget { return vdsOf(p.c) }

func vdsOf(c *apiv1.CntlrSpec) []*apiv1.VdTarget {
	var vds []*apiv1.VdTarget
	for _, g := range c.Grps {
		vds = append(vds, g.Vds...)
	}
	return vds
}

// backends returns which vds are not connected now, and why. They come back by
// themselves.
func (p *pass) backends() (gone []*apiv1.VdTarget, why error) {
	var lost []string
	for _, v := range p.vds() {
		c := p.inv.Controller(vdPrefix + v.VdId)
		problem := ""
		switch {
		case c == nil || len(c.Ctrlrs) == 0: // attached in this pass
		case !c.Ctrlrs[0].Connected():
			problem = fmt.Sprintf("is not connected (%s)", c.Ctrlrs[0].State)
		case p.silence.at(v.Listener):
			problem = "is out of reach"
		}
		if problem != "" {
			gone = append(gone, v)
			lost = append(lost, fmt.Sprintf("vd %s at %s port %s %s", v.VdId, v.Listener.Traddr, v.Listener.Trsvcid, problem))
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
	var columns [][]*apiv1.VdTarget
	for _, g := range c.Grps {
		for _, v := range g.Vds {
			columns = append(columns, []*apiv1.VdTarget{v})
		}
	}
	return vda.Usable(columns, func(v *apiv1.VdTarget) bool { return !slices.Contains(without, v) })
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
// a link, to another exporter.
func (p *pass) attach(ctx context.Context, n spdk.NvmeAttach) error {
	select {
	case p.attaching <- struct{}{}:
		defer func() { <-p.attaching }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	n.CtrlrLossTimeoutSec, n.ReconnectDelaySec = spdk.Ptr[int32](noCtrlrLossTimeout), spdk.Ptr(uint32(plane.ReconnectDelay/time.Second))
	if n.FabricsConnectTimeoutUs == nil {
		n.FabricsConnectTimeoutUs = spdk.Ptr(uint64(fabricsConnectTimeout / time.Microsecond))
	}
	bdevs, err := p.Plane.Driver().Attach(ctx, n)
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
