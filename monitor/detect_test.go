package monitor

import (
	"testing"
	"time"
)

// A killed data plane is told of by its agent, not found by a beat.
func TestKilledDataPlane(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		settled := func() bool { _, _, s := r.primary(da); return s }
		r.within(10*time.Second, "the array is up", settled)
		for range 5 {
			at, _, _ := r.primary(da)
			killed := time.Now()
			r.agents.Agent(at).BreakPlane("connection refused")
			r.within(3*time.Second, "it moves", func() bool { name, _, _ := r.primary(da); return name != at })
			if d := time.Since(killed); d > 100*time.Millisecond {
				t.Errorf("it moved after %v only", d)
			}
			r.agents.Agent(at).BreakPlane("")
			r.within(15*time.Second, "it returns", settled)
			time.Sleep(770 * time.Millisecond) // another moment between two beats
		}
	})
}
