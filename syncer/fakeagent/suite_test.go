package fakeagent_test

import (
	"testing"

	"github.com/virtual-disk-array/vda/agent/agenttest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// TestAgents holds the fake to what agents do.
func TestAgents(t *testing.T) {
	start := func(t *testing.T) *fakeagent.Agent {
		c := fakeagent.New()
		t.Cleanup(c.Close)
		return c.Start("node:9720")
	}
	t.Run("dn", func(t *testing.T) {
		agenttest.Run(t, func(t *testing.T) agenttest.Agent {
			a := start(t)
			return &agenttest.Dn{DnAgentServer: a.Dn(), Start: func(apiv1.DnAgentServer) apiv1.DnAgentServer {
				a.Stop()
				a.Start()
				return a.Dn()
			}}
		})
	})
	t.Run("cn", func(t *testing.T) {
		agenttest.Run(t, func(t *testing.T) agenttest.Agent {
			a := start(t)
			return &agenttest.Cn{CnAgentServer: a.Cn(), Start: func(apiv1.CnAgentServer) apiv1.CnAgentServer {
				a.Stop()
				a.Start()
				return a.Cn()
			}}
		})
	})
}
