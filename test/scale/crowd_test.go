//go:build e2e

package scale

import (
	"cmp"
	"os"
	"strconv"
	"testing"
)

// TestCrowdedNode kills a controller node with ARRAYS primaries (1,000), in a cluster of 4 nodes and in the
// same one when it has grown to NODES (1,000), with ten arrays more per node. The latter may take half as long again.
func TestCrowdedNode(t *testing.T) {
	nodes, err := strconv.Atoi(cmp.Or(os.Getenv("NODES"), "1000"))
	if err != nil || nodes <= 4 {
		t.Fatalf("NODES=%q must be a number of nodes above 4", os.Getenv("NODES"))
	}
	c := begin(t)
	c.crowd = given(t, "ARRAYS", 1000)
	var took []float64
	for _, n := range []int{4, nodes} {
		c.stopMonitors()
		c.grow(n, c.crowd+10*(n-4))
		c.startMonitors(given(t, "MONITORS", 2))
		t.Logf("%d nodes, %d arrays: all is well %.1f s after the monitors' start", n, c.arrays, c.settle().Seconds())
		took = append(took, c.failover("a cn dies", []*model{c.crowded()}).Seconds())
	}
	ratio := took[1] / took[0]
	t.Logf("%.2f s with %d nodes, %.2f s with 4: %.2f times as long; goal at most 1.5", took[1], nodes, took[0], ratio)
	if ratio > 1.5 {
		t.Error("the goal is missed")
	}
}

// crowded is the controller node with the most primaries.
func (c *cluster) crowded() *model {
	c.Helper()
	most, of := int64(-1), 0
	for i, id := range c.cnIDs {
		if n := c.number("SELECT COUNT(*) FROM vda.vda_cntlr WHERE cn_id = $1 AND is_primary AND NOT deleted", id); n > most {
			most, of = n, i
		}
	}
	return c.cns[of]
}
