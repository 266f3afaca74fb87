package cn

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// fastIOFail is the time after which I/O that waits for a lost connection
// fails, nil for never.
//
// SPDK, up to 26.05 at least, never re-arms this timer once it has fired: when
// the connection is lost the next time, it fails all I/O at once, with an
// error that is not a path error, while the path still looks well to hosts.
// They try again some times on the same path and then report an I/O error. So
// where the agent can cut a connection, I/O waits for as long as it takes, and
// what stands in the way is cut: by release on a secondary, by cutLost when a
// controller is taken down. A primary's waits for the vd, as another path would
// end at the same disk.
func (p *pass) fastIOFail(sec uint32) *uint32 {
	if p.holds() {
		return nil
	}
	return spdk.Ptr(sec)
}

// lostStep is how often cutLost looks and tries: SPDK cuts nothing while it
// attempts to connect.
const lostStep = 100 * time.Millisecond

// wasCut reports that a controller was cut and will not come back by itself.
func wasCut(c *spdk.NvmeController) bool {
	return len(c.Ctrlrs) > 0 && c.Ctrlrs[0].State == "disabled"
}

// cutLost cuts the connections to vds of a controller that is taken down as
// they are lost or their dns silent, until the function returned is called:
// what is queued on them would otherwise keep its namespaces from being removed
// for as long as the disk node is away, or refuses this controller. Its paths
// must be closed already.
func (p *pass) cutLost(ctx context.Context) (stop func()) {
	if !p.holds() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if err := agent.Guard(func() error { p.cutLostOnce(ctx); return nil }); err != nil {
				p.Log.Error("connections to lost vds are not cut", "da", p.c.DaName, "err", err)
			}
			if sleep(ctx, lostStep) != nil {
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (p *pass) cutLostOnce(ctx context.Context) {
	l, err := p.Plane.BdevNvmeGetControllers(ctx)
	if err != nil {
		return // the pass meets it as well
	}
	at := map[string]*apiv1.ListenerConf{} // ours
	for _, v := range p.vds() {
		at[vdPrefix+v.VdId] = v.Listener
	}
	for i := range l {
		name := l[i].Name
		where, ours := at[name]
		if !ours || enabled(&l[i]) && !p.silence.at(where) || wasCut(&l[i]) {
			continue
		}
		err := p.Plane.BdevNvmeDisableController(ctx, name)
		// Busy: connecting just now. ENXIO: being detached already.
		if err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENXIO) && !spdk.IsNoSuchDevice(err) && ctx.Err() == nil {
			p.Log.Warn("I/O waits for a vd that is lost", "da", p.c.DaName, "controller", name, "err", err)
		}
	}
}
