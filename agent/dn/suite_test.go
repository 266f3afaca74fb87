package dn_test

import (
	"context"
	"testing"

	"github.com/virtual-disk-array/vda/agent/agenttest"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestAgent runs the suite of DnAgent.
func TestAgent(t *testing.T) {
	agenttest.Run(t, func(t *testing.T) agenttest.Agent {
		c := planetest.NewCluster()
		cfg := planetest.NodeConfig{Kind: "dn", Socket: planetest.NewPlane(t, c, true).Socket, Port: "4420", StateDir: t.TempDir(),
			OpenRaw: c.OpenRaw, Disks: c.Machine()}
		d := &agenttest.Dn{PdConf: `{"type":"aio","filename":"/dev/null"}`}
		stop := func() {
			if a := d.DnAgentServer; a != nil {
				if err := a.(*dn.Agent).Close(); err != nil {
					t.Error(err)
				}
			}
		}
		d.Start = func(apiv1.DnAgentServer) apiv1.DnAgentServer {
			stop()
			a, err := dn.Start(context.Background(), planetest.Node(t, cfg))
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		d.Restart()
		t.Cleanup(stop)
		return d
	})
}
