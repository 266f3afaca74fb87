//go:build e2e

package scale

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// operation is something a user does; i counts them.
type operation struct {
	name string
	do   func(c *cluster, i int) error
}

var operations = []operation{
	{"da create", func(c *cluster, i int) error {
		_, err := c.portal.CreateDa(c.Context(), &apiv1.CreateDaRequest{DaName: fmt.Sprintf("new%06d", i), CntlrCnt: 2, DaSize: size})
		return err
	}},
	{"exp create", func(c *cluster, i int) error {
		_, err := c.portal.CreateExp(c.Context(), &apiv1.CreateExpRequest{DaName: fmt.Sprintf("new%06d", i), ExpName: "exp0",
			InitiatorNqn: hostNQN})
		return err
	}},
	{"da get", func(c *cluster, i int) error {
		_, err := c.portal.GetDa(c.Context(), &apiv1.GetDaRequest{DaName: fmt.Sprintf("new%06d", i)})
		return err
	}},
	{"a page of da list", func(c *cluster, _ int) error {
		_, err := c.portal.ListDa(c.Context(), &apiv1.ListDaRequest{Limit: 50})
		return err
	}},
	{"a page of exp list", func(c *cluster, _ int) error {
		_, err := c.portal.ListExp(c.Context(), &apiv1.ListExpRequest{Limit: 50})
		return err
	}},
	{"da delete, exp delete", func(c *cluster, i int) error {
		name := fmt.Sprintf("new%06d", i)
		if _, err := c.portal.DeleteExp(c.Context(), &apiv1.DeleteExpRequest{DaName: name, ExpName: "exp0"}); err != nil {
			return err
		}
		_, err := c.portal.DeleteDa(c.Context(), &apiv1.DeleteDaRequest{DaName: name})
		return err
	}},
	{"status", func(c *cluster, _ int) error {
		_, err := c.portal.GetStatus(c.Context(), &apiv1.GetStatusRequest{})
		return err
	}},
}

// figure is what an operation costs.
type figure struct {
	cost         // per operation
	p50, p99     time.Duration
	calls, bytes float64 // of Syncs, per operation
}

// measure does each operation n times.
func (c *cluster) measure(n int) map[string]figure {
	c.Helper()
	all := map[string]figure{}
	for _, op := range operations {
		before, calls, bytes := c.spent("portal"), c.agents.traffic.calls.Load(), c.agents.traffic.bytes.Load()
		var took []time.Duration
		for i := range n {
			begin := time.Now()
			if err := op.do(c, i); err != nil {
				c.Fatalf("%s: %v", op.name, err)
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		f := figure{cost: c.spent("portal").less(before).by(n), p50: took[n/2], p99: took[(n*99)/100],
			calls: float64(c.agents.traffic.calls.Load()-calls) / float64(n), bytes: float64(c.agents.traffic.bytes.Load()-bytes) / float64(n)}
		all[op.name] = f
		c.Logf("  %-22s %6.1f ms p50 %6.1f p99 %6.1f statements %8.1f rows %7.2f ms of the database %5.1f Syncs %7.0f bytes",
			op.name, ms(f.p50), ms(f.p99), f.cost.calls, f.rows, f.ms, f.calls, f.bytes)
	}
	c.settle()
	return all
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// rest watches the cluster for some seconds in which nothing is asked of it, and returns
// what the monitors' statements cost per second.
func (c *cluster) rest(length time.Duration) cost {
	c.Helper()
	c.exec("SELECT pg_stat_statements_reset()")
	before := make([]usage, len(c.processes))
	for i, p := range c.processes {
		before[i] = p.usage()
	}
	spent, begin := c.spent("monitor"), time.Now()
	time.Sleep(length)
	took := time.Since(begin)
	for i, p := range c.processes {
		u := p.usage()
		c.Logf("  at rest: %-11s %5.1f %% of a core, %4d MiB", p.name, 100*float64(u.cpu-before[i].cpu)/float64(took), u.rss>>20)
	}
	s := c.spent("monitor").less(spent)
	for _, v := range []*float64{&s.calls, &s.rows, &s.ms} {
		*v /= took.Seconds()
	}
	c.Logf("  at rest: monitors %.1f statements, %.0f rows, %.1f ms of the database per second%s", s.calls, s.rows, s.ms,
		c.dearest("monitor", 6))
	return s
}

func given(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q must be a number above 0", name, text)
	}
	return n
}

// TestCostOfAChange: what one change costs, and what the monitors ask while nothing
// happens, does not grow with the cluster. A cluster of 20 nodes and 100 arrays is compared
// with one of 240 and 1,600, by what PostgreSQL counts: statements, rows that they return,
// and pages that it looks at for them. Nothing here is about time.
func TestCostOfAChange(t *testing.T) {
	const each, few, nodes = 10, 20, 240
	c := begin(t)
	c.grow(few, 100)
	for range 2 {
		// What nodes are told once per minute, changed or not, is left out.
		c.start("vda_monitor", "monitor", "--full-sync-period", "1h")
	}
	c.settle()
	before := c.measure(each)
	c.grow(nodes, 1600)
	c.settle()
	c.atMost(c.growth(before, nodes-few, each))
	c.exec("VACUUM ANALYZE")
	c.atMost(func() (faults []string) {
		// One look per second of each monitor: its beat, the nodes, the legs.
		rest := c.rest(5 * time.Second)
		if rest.calls > 60 {
			faults = append(faults, fmt.Sprintf("two monitors ask %.1f statements per second while nothing happens", rest.calls))
		}
		if rest.rows > 3*nodes {
			faults = append(faults, fmt.Sprintf("two monitors read %.0f rows per second of %d nodes while nothing happens", rest.rows, nodes))
		}
		return faults
	})
	c.looks()
}

// atMost gives what is bounded three chances: on a machine that stands still for seconds a
// node is taken for dead, or a request is repeated, which has a cost of its own.
func (c *cluster) atMost(measure func() (faults []string)) {
	c.Helper()
	var faults []string
	for range 3 {
		if faults = measure(); len(faults) == 0 {
			return
		}
		c.Logf("  once more: %q", faults)
		c.settle()
	}
	c.Errorf("three times in a row: %q", faults)
}

// growth measures what has become dearer than it was, with so many nodes less.
func (c *cluster) growth(before map[string]figure, added, each int) func() []string {
	return func() (faults []string) {
		after := c.measure(each)
		for _, op := range operations {
			was, is := before[op.name], after[op.name]
			rows := was.cost.rows*1.1 + 3*64 // 64 disks, their dns and 64 cns are looked at for a place
			if op.name == "status" {         // it tells of each node and disk, and of arrays that are not well
				rows = was.cost.rows + 2*float64(added)
			}
			for _, of := range []struct {
				what          string
				was, is, most float64
			}{
				// A transaction that met another one is tried again, a Sync that met one of a
				// monitor is sent again: a tenth and two is for these.
				{"statements", was.cost.calls, is.cost.calls, was.cost.calls*1.1 + 2},
				{"Syncs", was.calls, is.calls, was.calls*1.1 + 1},
				{"rows", was.rows, is.rows, rows},
			} {
				if of.is > of.most {
					faults = append(faults, fmt.Sprintf("%s: %.1f %s, %.1f in the small cluster", op.name, of.is, of.what, of.was))
				}
			}
		}
		return faults
	}
}

// looks checks that monitors find by an index what needs them: legs that are not well, clones,
// and arrays that grow.
func (c *cluster) looks() {
	c.Helper()
	for _, of := range []struct{ what, table, query string }{
		{"legs that are not well", "vda_vd", "SELECT id, da_id, grp_idx%FROM vda_vd %"},
		{"arrays that are copied", "vda_da", "SELECT id, name%FROM vda_da WHERE copying%"},
		{"arrays that grow", "vda_da", "SELECT id, name%FROM vda_da WHERE auto_limit%"},
		{"exporters for clones", "vda_exp", "SELECT id, da_id%FROM vda_exp WHERE live_name >=%"},
	} {
		var calls, pages int64
		c.until("a look for "+of.what, func() bool {
			err := c.sql.QueryRow(c.Context(), `SELECT COALESCE(SUM(calls), 0)::bigint, COALESCE(SUM(shared_blks_hit + shared_blks_read), 0)::bigint
				FROM pg_stat_statements WHERE userid = 'monitor'::regrole AND query LIKE $1`, of.query).Scan(&calls, &pages)
			if err != nil {
				c.Fatal(err)
			}
			return calls > 0
		})
		table := c.number("SELECT pg_relation_size($1::regclass) / 8192", "vda."+of.table)
		c.Logf("  %d looks for %s took %d pages; the table has %d", calls, of.what, pages, table)
		if pages/calls > table/2 {
			c.Errorf("monitors look for %s %d times, in %d pages; the table has %d", of.what, calls, pages, table)
		}
	}
}

// TestSteps measures a cluster of NODES nodes and ARRAYS arrays under MONITORS monitors.
func TestSteps(t *testing.T) {
	nodes, arrays, monitors := given(t, "NODES", 100), given(t, "ARRAYS", 1000), given(t, "MONITORS", 2)
	c := begin(t)
	begin := time.Now()
	c.grow(nodes, arrays)
	t.Logf("%d nodes, %d arrays, %d monitors; recorded in %.1f s", nodes, arrays, monitors, time.Since(begin).Seconds())
	for range monitors {
		c.start("vda_monitor", "monitor")
	}
	t.Logf("  all is well %.1f s after the start of the monitors", c.settle().Seconds())
	c.rest(10 * time.Second)
	c.measure(given(t, "EACH", 30))
	t.Logf("  portal: dearest statements%s", c.dearest("portal", 8))
	c.failover(0, 1)
	c.failover(2, max(nodes/200, 1)) // 1 % of the cns
	t.Logf("  the database has %d MiB", c.number("SELECT pg_database_size(current_database())")>>20)
}

// failover kills n cns at once, every second one from the first on, and says how long
// their primaries took to be elsewhere. The next cn has the other controllers of a cn's
// arrays.
func (c *cluster) failover(first, n int) {
	c.Helper()
	var dead []string
	for i := range n {
		dead = append(dead, c.cnIDs[first+2*i])
	}
	primaries := func() int64 {
		return c.number("SELECT COUNT(*) FROM vda.vda_cntlr WHERE cn_id = ANY($1) AND is_primary AND NOT deleted", dead)
	}
	arrays := primaries()
	for i := range n {
		c.cns[first+2*i].kill()
	}
	took := c.until("failover", func() bool { return primaries() == 0 })
	c.Logf("  %d cns die: their %d primaries are elsewhere, in the database, after %.1f s", n, arrays, took.Seconds())
}
