package sim

import "testing"

// TestMirrors: an array of two legs per column outlives the death, the hang and the
// isolation of disk nodes, with nothing lost, and is whole again.
func TestMirrors(t *testing.T) {
	file := schema(t)
	legs := 0
	for seed := uint64(1); seed <= 4; seed++ {
		const kinds = "kill node,power cut of a node,hang node,isolate"
		o := run(t, Config{Seed: seed, Schema: file, Redundancy: "mirror:2", Kinds: kindsOf(kinds)})
		report(t, seed, kinds, o)
		legs += o.Legs
	}
	if legs == 0 {
		t.Error("no legs were compared: no array was mirrored")
	}
}
