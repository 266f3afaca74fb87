//go:build !race

package sim

import "testing"

// TestChanges: redundancies change, dns and pds are drained and vds move while daemons
// and machines die; all that was begun comes to its end, and nothing is lost.
func TestChanges(t *testing.T) {
	file := schema(t)
	changes := 0
	for seed := uint64(1); seed <= 3; seed++ {
		cfg := Config{Seed: seed, Schema: file, Redundancy: "mirror:2", Changes: true}
		o := run(t, cfg)
		report(t, &cfg, o)
		changes += o.Changes
	}
	if changes == 0 {
		t.Error("no array was changed: nothing happened")
	}
	t.Logf("%d changes", changes)
}
