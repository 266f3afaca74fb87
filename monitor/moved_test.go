package monitor

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestPoint14MovedAgent: a monitor hears a node at the address that its agent has moved to,
// under the name that it has kept, and brings it up to date there.
func TestPoint14MovedAgent(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(time.Minute, "the dn is well", func() bool { d := r.dn(0); return d.Applied == d.Version && !d.Health.Error })
		r.agents.Move("dn0", "elsewhere:9720")
		r.within(time.Minute, "the dn is down", func() bool { return r.dn(0).Health.Error })
		r.update(func(tx store.Tx) error {
			n, err := tx.Node(vda.DiskNode, r.dns[0].ID)
			if err != nil {
				return err
			}
			n.SetAgent("elsewhere:9720")
			return tx.UpdateNode(vda.DiskNode, n)
		})
		r.within(time.Minute, "the dn is well again", func() bool { return !r.dn(0).Health.Error })
		r.bump(0)
		r.within(time.Minute, "the dn is up to date", func() bool { d := r.dn(0); return d.Applied == d.Version })
		if d := r.dn(0); d.Name != "dn0" || d.Agent() != "elsewhere:9720" {
			t.Errorf("the dn is %q, its agent at %q", d.Name, d.Agent())
		}
	})
}
