package host

import (
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda/nvme"
)

// What a host asks a new controller goes out in one piece as far as no question depends on the
// answer to another: a node that comes back makes thousands of connections, and each piece costs
// both sides a system call and a switch or two. The peer answers none of those that belong together
// before all have come.
func TestConnectAsksTogether(t *testing.T) {
	kind := func(cmd *nvme.Command) string {
		switch {
		case cmd.Opcode() == nvme.OpFabrics:
			return "properties" // CAP, CC, CSTS
		case cmd.Opcode() == nvme.AdminSetFeatures && cmd.FID() == nvme.FeatureQueues:
			return "controller"
		case cmd.Opcode() != nvme.AdminIdentify:
			return ""
		}
		switch cmd.Identify().CNS {
		case nvme.CNSController, nvme.CNSControllerCSI:
			return "controller"
		case nvme.CNSNamespace, nvme.CNSNSDescriptors:
			return "namespace"
		}
		return ""
	}
	left := map[string]int{"properties": 3, "controller": 3, "namespace": 2}
	var held []nvme.Command
	p := newPeer(t, nil)
	answering := false
	var mu sync.Mutex // of left
	p.hook = func(c *peerConn, cmd *nvme.Command, data []byte) bool {
		k := kind(cmd)
		if c.qid > 0 || answering {
			return false
		}
		mu.Lock()
		belongs := left[k] > 0
		if belongs {
			left[k]--
		}
		last := left[k] == 0
		mu.Unlock()
		if !belongs {
			return false
		}
		held = append(held, *cmd)
		if !last {
			return true
		}
		answering = true
		for i := range held {
			c.command(&held[i], nil)
		}
		held, answering = nil, false
		return true
	}
	c := dialPeer(t, p, nil)
	if n := c.Namespace(1); n == nil || n.Identity().Blocks == 0 {
		t.Errorf("namespace %+v", n)
	}
	mu.Lock()
	defer mu.Unlock()
	for k, n := range left {
		if n > 0 {
			t.Errorf("%d commands of %s have not come", n, k)
		}
	}
}
