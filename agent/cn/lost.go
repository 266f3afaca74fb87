package cn

import (
	"context"
	"slices"
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
// that is needed: see plane.Initiator. Its paths must be closed already. It looks
// at once when the pass has seen one lost.
func (p *pass) cutLost(ctx context.Context) (stop func()) {
	at := map[string]*apiv1.ListenerConf{}
	for _, v := range vdsOf(p.c) {
		at[vdPrefix+v.VdId] = v.Listener
	}
	lost := func(c *spdk.NvmeController) bool { return !c.Connected() || p.silence.at(at[c.Name]) }
	have := p.attached()
	wait := !slices.ContainsFunc(have, lost)
	var names []string
	for _, c := range have {
		names = append(names, c.Name)
	}
	fail := func(name string, err error) {
		p.Log.Warn("I/O waits for a vd that is lost", "da", p.c.DaName, "controller", name, "err", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for again := true; again; wait = true {
			if wait && sleep(ctx, lostStep) != nil {
				return
			}
			if err := agent.Guard(func() error { again = p.Plane.Driver().CutLost(ctx, names, lost, fail); return nil }); err != nil {
				p.Log.Error("connections to lost vds are not cut", "da", p.c.DaName, "err", err)
			}
		}
	}()
	return func() { cancel(); <-done }
}
