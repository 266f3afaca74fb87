package monitor

import (
	"testing"
	"time"
)

// TestHeartbeatsShareAStream: a node's heartbeats go over one stream as long as its connection lasts, and give the
// lease; one that is not answered in time ends it.
func TestHeartbeatsShareAStream(t *testing.T) {
	inBubble(t, func(r *rig) {
		dn, cn := r.agents.Agent("dn0"), r.agents.Agent("cn0")
		well := func() bool { d := r.dn(0); return d.Applied == d.Version && !d.Health.Error }
		leased := func() bool { return time.Until(cn.LeasedUntil()) > 0 }
		r.within(10*time.Second, "well and leased", func() bool { return well() && leased() })
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if !leased() {
				t.Fatal("a lease has lapsed")
			}
		}
		for _, n := range []string{"dn0", "dn1", "cn0"} {
			if s := r.agents.Agent(n).Streams(); s != 1 {
				t.Errorf("%s: %d streams", n, s)
			}
		}
		dn.Stop()
		r.within(10*time.Second, "down", func() bool { return !well() })
		dn.Start()
		r.within(10*time.Second, "up again", well)
		time.Sleep(time.Minute)
		if s := dn.Streams(); s != 2 {
			t.Errorf("%d streams, one before the agent was away and one since", s)
		}
		dn.Hang(true)
		r.within(10*time.Second, "down, as it hangs", func() bool { return !well() })
		dn.Hang(false)
		r.within(10*time.Second, "up again after that", well)
	})
}
