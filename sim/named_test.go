//go:build !race

package sim

import "testing"

// defaultSeeds of TestSeeds: a dozen are as cheap here as two under the race detector.
const defaultSeeds = 12

// TestNamedSeeds runs what was found once. A seed means what it meant as long
// as the table of kinds stays as it is.
func TestNamedSeeds(t *testing.T) {
	file := schema(t)
	for _, c := range []struct {
		seed  uint64
		kinds string
		story string
	}{
		{286, "", "A cn's data plane hung for 15 s while its agent looked at connections; the next look came five minutes later, and so long " +
			"an array's paths stayed closed whose vd was connected again."},
		{125, "", "A secondary hung; its host sent its writes to the primary instead, and newer ones after them; when the secondary ran on it " +
			"took the old ones from its sockets and passed them on to the primary, which no fence keeps from writing."},
		{27, "isolate,cut,hang", "A secondary was isolated for a moment longer than its hosts and its own connection to the primary waited; " +
			"back again it sent the hosts' writes once more that had waited in it, after the hosts had sent newer ones elsewhere."},
		{2019, "", "A dn's agent was killed twice; in between, acknowledged changes stood in its journal behind lines of before, with which " +
			"the second start took them away, so that the dn admitted an older term."},
	} {
		cfg := Config{Seed: c.seed, Schema: file, Kinds: kindsOf(c.kinds)}
		report(t, &cfg, run(t, cfg))
	}
}
