package cn_test

import (
	"context"
	"testing"

	"github.com/virtual-disk-array/vda/agent/agenttest"
	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestAgent runs the suite of CnAgent.
func TestAgent(t *testing.T) {
	agenttest.Run(t, func(t *testing.T) agenttest.Agent {
		c := planetest.NewCluster()
		p := planetest.NewPlane(t, c, true)
		cfg := planetest.NodeConfig{Kind: "cn", Socket: p.Socket, Port: "4430", StateDir: t.TempDir(), OpenRaw: c.OpenRaw, Reach: p.Reach}
		node := &agenttest.Cn{}
		stop := func() {
			if a := node.CnAgentServer; a != nil {
				if err := a.(*cn.Agent).Close(); err != nil {
					t.Error(err)
				}
			}
		}
		node.Start = func(apiv1.CnAgentServer) apiv1.CnAgentServer {
			stop()
			a, err := cn.Start(context.Background(), planetest.Node(t, cfg))
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		node.Restart()
		t.Cleanup(stop)
		return node
	})
}
