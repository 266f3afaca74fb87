package cn

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// lostStep is how often cutLost looks and tries: SPDK cuts nothing while it
// attempts to connect.
const lostStep = 100 * time.Millisecond

// cutLost cuts the connections to vds of a controller that is taken down as
// they are lost or their dns silent, until the function returned is called, where
// that is needed: see plane.Initiator. Its paths must be closed already.
func (p *pass) cutLost(ctx context.Context) (stop func()) {
	at := map[string]*apiv1.ListenerConf{} // ours
	for _, v := range p.vds() {
		at[vdPrefix+v.VdId] = v.Listener
	}
	lost := func(c *spdk.NvmeController) bool {
		where, ours := at[c.Name]
		return ours && (!c.Connected() || p.silence.at(where))
	}
	fail := func(name string, err error) {
		p.Log.Warn("I/O waits for a vd that is lost", "da", p.c.DaName, "controller", name, "err", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for again := true; again; {
			if err := agent.Guard(func() error { again = p.Plane.Driver().CutLost(ctx, lost, fail); return nil }); err != nil {
				p.Log.Error("connections to lost vds are not cut", "da", p.c.DaName, "err", err)
			}
			if again && sleep(ctx, lostStep) != nil {
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}
