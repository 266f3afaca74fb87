//go:build e2e

package chaos

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// TestSwitchBetweenDataPlanes switches an array with two exporters SWITCHES
// times (20 unless said) with da failover, to and fro between the two
// controller nodes, under the host's verifying load: with SPDK_TGT one of them
// runs spdk_tgt and the other vda_tgt, unless DATA_PLANE says otherwise, and
// each goes on with what the other has written.
func TestSwitchBetweenDataPlanes(plain *testing.T) {
	t := verdict.New(plain)
	if os.Getenv("SPDK_TGT") != "" && os.Getenv("DATA_PLANE") == "" {
		t.Setenv("DATA_PLANE", "mixed")
	}
	c := start(t, clusterConfig{Cntlrs: 2, Exps: 2})
	pauses := map[string][]time.Duration{} // by the new primary
	from := c.primaryNow(t)
	for i := range number(t, "SWITCHES", 20) {
		begin := time.Now()
		if _, err := c.cli(t.Context(), "da failover --da-name da0"); err != nil {
			t.Fatalf("switch %d, from %s: %v", i+1, from.name, err)
		}
		to := c.served(t, from, 10*time.Second)
		if !c.whole(recovery) {
			t.Fatalf("switch %d, from %s to %s: not all paths come back: %+v", i+1, from.name, to.name, c.host.now())
		}
		w, _ := c.host.worst(begin, time.Now())
		what := to.name + " on " + string(c.cfg.Plan.Of(to.name))
		pauses[what] = append(pauses[what], w.End.Sub(w.Start))
		from = to
	}
	for what, p := range pauses {
		slices.Sort(p)
		t.Logf("%d switches to %s, longest I/O in s: min %s, median %s, max %s", len(p), what, ms(p[0]), ms(quantile(p, 50)), ms(p[len(p)-1]))
	}
	finish(t, c)
}
