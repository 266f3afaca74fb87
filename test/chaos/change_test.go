//go:build e2e

package chaos

import (
	"slices"
	"testing"
	"time"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// TestDeathsInChanges has processes die in the middle of conversions, moves and drains of
// an array under load. Each comes to its end, and nothing is lost.
func TestDeathsInChanges(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: 2, Exps: 1, Redundancy: vda.Mirror2})
	daemon := func(name string, plane bool) func() []*process {
		return func() []*process {
			m := c.machines[name]
			if name == "primary" {
				m = c.primaryNow(t)
			}
			if plane {
				return []*process{m.plane}
			}
			return []*process{m.daemon}
		}
	}
	all := func(some ...func() []*process) func() []*process {
		return func() (ps []*process) {
			for _, s := range some {
				ps = append(ps, s()...)
			}
			return ps
		}
	}
	modify := func(to vda.Redundancy) func() string {
		return func() string { return "da modify --da-name da0 --redundancy " + to.String() }
	}
	var left, to, drained *machine // of the vd that moves last, and of the drain
	move := func() string {
		legs, err := c.legs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v := legs[0]
		for _, m := range c.order {
			if m.kind == "dn" && !slices.ContainsFunc(legs, func(l leg) bool { return l.mirror == v.mirror && l.at == m }) {
				left, to = v.at, m
			}
		}
		return "vd move --vd-id " + v.vd + " --to-dn " + to.agent()
	}
	drain := func() string {
		legs, err := c.legs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		drained = legs[0].at
		return "dn drain --dn-name " + drained.agent()
	}
	target := func() []*process { return []*process{to.plane} }
	source := func() []*process { return []*process{left.plane, left.daemon} }
	for _, step := range []struct {
		what   string
		copies bool // they die while it is copied; else while it is asked for
		begin  func() string
		dies   func() []*process
	}{
		{"to mirror:3, the primary's data plane dies", true, modify(vda.Mirror3), daemon("primary", true)},
		{"to mirror:2, the primary's agent and the portal die", false, modify(vda.Mirror2),
			all(daemon("primary", false), daemon("portal", false))},
		{"a vd moves, the data plane that it moves to dies", true, move, target},
		{"a vd moves, the dn that it leaves dies", true, move, source},
		{"to none, a monitor and the portal die", false, modify(vda.Striped), all(daemon("monitor0", false), daemon("portal", false))},
		{"to mirror:2, the primary's node dies", true, modify(vda.Mirror2), all(daemon("primary", true), daemon("primary", false))},
		{"a dn is drained, the portal, both monitors and the primary's agent die", true, drain,
			all(daemon("portal", false), daemon("monitor0", false), daemon("monitor1", false), daemon("primary", false))},
	} {
		begin := time.Now()
		args, asked := step.begin(), make(chan error, 1)
		dying := step.dies()
		if step.copies {
			if err := c.slowCopies(t.Context(), 8); err != nil { // in each life of a data plane
				t.Logf("%s: copies are not slowed down: %v", step.what, err)
			}
			if err := c.insist(args, time.Minute); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
			c.copying(t)
			asked <- nil
		} else {
			go func() { asked <- c.insist(args, time.Minute) }()
			time.Sleep(40 * time.Millisecond) // about what it takes to reach the portal
		}
		where := c.unchanging(t.Context())
		for _, p := range dying {
			p.kill(time.Second)
		}
		if err := <-asked; err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		c.changed(t, drained, 2*time.Minute)
		if !c.whole(recovery) {
			t.Fatalf("%s: not all is well: %+v", step.what, c.host.now())
		}
		w, _ := c.host.worst(begin, time.Now())
		t.Logf("%s, after %.1f s: longest I/O %.3f s; it stood at: %s", step.what, time.Since(begin).Seconds(),
			w.End.Sub(w.Start).Seconds(), where)
	}
	if err := c.insist("dn undrain --dn-name "+drained.agent(), time.Minute); err != nil {
		t.Error(err)
	}
	finish(t, c)
}
