//go:build !race

package sim

import "testing"

// TestMirrors: an array of two legs per column outlives the death, the hang and the
// isolation of disk nodes, with nothing lost, and is whole again.
func TestMirrors(t *testing.T) {
	file := schema(t)
	legs, sets := 0, 0
	for seed := uint64(1); seed <= 4; seed++ {
		cfg := Config{Seed: seed, Schema: file, Redundancy: "mirror:2", Kinds: kindsOf("kill node,power cut of a node,hang node,isolate")}
		o := run(t, cfg)
		report(t, &cfg, o)
		legs, sets = legs+o.Legs, sets+o.Sets
	}
	t.Logf("%d pairs of legs; %d sets of members beyond the first", legs, sets)
	if legs == 0 || sets < 2*legs {
		t.Errorf("%d pairs of legs were compared, and %d times one was dropped or joined: nothing happened", legs, sets)
	}
}
