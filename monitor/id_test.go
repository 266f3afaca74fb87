package monitor

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// TestWhatAMonitorAsksHasAnID: each sync has one of its own, and all that a
// failover asks of nodes has the same.
func TestWhatAMonitorAsksHasAnID(t *testing.T) {
	ids := func(a *fakeagent.Agent) map[string]bool {
		seen := map[string]bool{}
		for _, s := range a.Syncs() {
			seen[s.ReqID] = true
		}
		return seen
	}
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "the array is up", func() bool { _, _, settled := r.primary(da); return settled })
		time.Sleep(3 * time.Minute) // full syncs
		dn := r.agents.Agent("dn0")
		apart := ids(dn)
		for id := range apart {
			if len(id) != 32 {
				t.Errorf("a sync has the id %q", id)
			}
		}
		if len(apart) < 3 {
			t.Errorf("syncs of three minutes have the ids %v", apart)
		}
		old, _, _ := r.primary(da)
		for _, cn := range r.cns {
			r.agents.Agent(cn.Name).Syncs()
		}
		r.agents.Agent(old).Stop()
		r.within(10*time.Second, "the array moves", func() bool { name, _, _ := r.primary(da); return name != old })
		time.Sleep(time.Second) // until all are told
		name, _, _ := r.primary(da)
		fenced, promoted := ids(dn), ids(r.agents.Agent(name))
		for id := range fenced {
			if promoted[id] && !apart[id] {
				return
			}
		}
		t.Errorf("the dn was asked under %v and the new primary's node under %v", fenced, promoted)
	})
}
