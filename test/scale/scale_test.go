//go:build e2e

package scale

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
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
	beats := c.beats()
	spent, begin := c.spent("monitor"), time.Now()
	time.Sleep(length)
	took := time.Since(begin)
	c.cores, c.mib, c.perBeat = 0, 0, 0
	for i, p := range c.processes {
		u := p.usage()
		if p.name == "vda_monitor" {
			c.cores, c.mib = max(c.cores, float64(u.cpu-before[i].cpu)/float64(took)), max(c.mib, float64(u.rss>>20))
			c.perBeat += u.cpu - before[i].cpu
		}
		c.Logf("  at rest: %-11s %5.1f %% of a core, %4d MiB", p.name, 100*float64(u.cpu-before[i].cpu)/float64(took), u.rss>>20)
	}
	s := c.spent("monitor").less(spent)
	beats = c.beats() - beats
	c.perBeat /= time.Duration(max(beats, 1))
	c.Logf("  at rest: %.0f heartbeats per second, for each of which the monitors take %v of a core, all that they do included",
		float64(beats)/took.Seconds(), c.perBeat)
	for _, v := range []*float64{&s.calls, &s.rows, &s.ms} {
		*v /= took.Seconds()
	}
	c.Logf("  at rest: monitors %.1f statements, %.0f rows, %.1f ms of the database per second%s", s.calls, s.rows, s.ms,
		c.dearest("monitor", 6))
	return s
}

// beats is how many heartbeats the monitors have sent.
func (c *cluster) beats() (n int) {
	c.Helper()
	for _, p := range c.processes {
		if p.name != "vda_monitor" {
			continue
		}
		r, err := http.Get("http://" + p.addr + "/metrics")
		if err != nil {
			c.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			c.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "vda_monitor_heartbeats_total{") {
				f := strings.Fields(line)
				v, err := strconv.ParseFloat(f[len(f)-1], 64)
				if err != nil {
					c.Fatalf("%q: %v", line, err)
				}
				n += int(v)
			}
		}
	}
	return n
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

// step is what a cluster of a size has shown.
type step struct {
	nodes, arrays                    int
	start, one, percent, rack, again time.Duration // until all was well, primaries were elsewhere, and all was well again
	ops                              map[string]figure
	cores, mib                       float64 // of the busiest monitor at rest
	sql                              cost    // of all monitors at rest, per second
	portalMiB                        float64
	perBeat                          time.Duration // of a core, that the monitors take per heartbeat
}

// TestSteps measures clusters of NODES nodes, one size after the other when there are several, with ARRAYS
// arrays, or ten per node, under MONITORS monitors. The last one goes through the loss of nodes and a restart
// of everything. With SVG it draws the curve there; with BEAT monitors send a heartbeat per that time.
func TestSteps(t *testing.T) {
	sizes, monitors := steps(t), given(t, "MONITORS", 2)
	c := begin(t)
	var all []step
	for i, nodes := range sizes {
		arrays := 10 * nodes
		if len(sizes) == 1 {
			arrays = given(t, "ARRAYS", arrays)
		}
		s := step{nodes: nodes, arrays: arrays}
		begin := time.Now()
		c.stopMonitors() // rows are written faster without them, and each size shows how long their start takes
		c.grow(nodes, arrays)
		t.Logf("%d nodes, %d arrays, %d monitors; recorded in %.1f s", nodes, arrays, monitors, time.Since(begin).Seconds())
		c.startMonitors(monitors)
		s.start = c.settle()
		t.Logf("  all is well %.1f s after that", s.start.Seconds())
		s.sql = c.rest(time.Duration(given(t, "REST", 10)) * time.Second)
		s.cores, s.mib, s.perBeat, s.portalMiB = c.cores, c.mib, c.perBeat, float64(c.processes[0].usage().rss>>20)
		s.ops = c.measure(given(t, "EACH", 20))
		t.Logf("  portal: dearest statements%s", c.dearest("portal", 8))
		s.one = c.failover("a cn dies", c.cns[:1])
		if i == len(sizes)-1 {
			var percent, rack []*model
			for k := range max(nodes/200, 1) { // of the cns, no two of which share arrays
				percent = append(percent, c.cns[(10+2*k)%len(c.cns)])
			}
			s.percent = c.failover("1 % of the cns die at once", percent)
			for k := 4; k < len(c.cns); k += racks {
				rack = append(rack, c.cns[k])
			}
			s.rack = c.failover("the cns of a rack die at once", rack)
			s.again = c.restart(monitors)
			t.Logf("  all is well %.1f s after the database, the portal, the monitors and all agents with their data planes had ended",
				s.again.Seconds())
		}
		all = append(all, s)
		t.Logf("  the database has %d MiB", c.number("SELECT pg_database_size(current_database())")>>20)
		c.table(all) // after each size: the next one may be too large for the machine
		if file := os.Getenv("SVG"); file != "" {
			if err := os.WriteFile(file, []byte(curve(all)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// startMonitors starts monitors, with a heartbeat per BEAT if that is set.
func (c *cluster) startMonitors(n int) {
	c.Helper()
	var args []string
	if beat := os.Getenv("BEAT"); beat != "" {
		args = append(args, "--heartbeat-period", beat)
	}
	for range n {
		c.start("vda_monitor", "monitor", args...)
	}
}

// stopMonitors ends those that run.
func (c *cluster) stopMonitors() {
	c.processes = slices.DeleteFunc(c.processes, func(p *process) bool {
		if p.name == "vda_monitor" {
			p.kill()
		}
		return p.name == "vda_monitor"
	})
}

// steps reads NODES.
func steps(t *testing.T) (sizes []int) {
	t.Helper()
	for _, text := range strings.Fields(cmp.Or(os.Getenv("NODES"), "100")) {
		n, err := strconv.Atoi(text)
		if err != nil || n < 20 || len(sizes) > 0 && n <= sizes[len(sizes)-1] {
			t.Fatalf("NODES=%q must be numbers of nodes, 20 at least and each larger than the one before", os.Getenv("NODES"))
		}
		sizes = append(sizes, n)
	}
	return sizes
}

// table prints the steps for docs/scale.md.
func (c *cluster) table(all []step) {
	var b strings.Builder
	row := func(what string, cell func(s *step) string) {
		fmt.Fprintf(&b, "\n| %s |", what)
		for i := range all {
			fmt.Fprintf(&b, " %s |", cell(&all[i]))
		}
	}
	row("", func(s *step) string { return fmt.Sprintf("%d nodes, %d arrays", s.nodes, s.arrays) })
	b.WriteString("\n|" + strings.Repeat("---|", 1+len(all)))
	for _, op := range operations {
		row("`"+op.name+"`: statements, rows, Syncs, bytes, p50, p99", func(s *step) string {
			f := s.ops[op.name]
			return fmt.Sprintf("%.0f, %.0f, %.0f, %.0f, %.1f ms, %.1f ms", f.cost.calls, f.rows, f.calls, f.bytes, ms(f.p50), ms(f.p99))
		})
	}
	seconds := func(of func(s *step) time.Duration) func(s *step) string {
		return func(s *step) string {
			if of(s) == 0 {
				return ""
			}
			return fmt.Sprintf("%.1f s", of(s).Seconds())
		}
	}
	row("the busiest monitor at rest", func(s *step) string { return fmt.Sprintf("%.1f %% of a core, %.0f MiB", 100*s.cores, s.mib) })
	row("all monitors at rest, per heartbeat", func(s *step) string { return fmt.Sprintf("%d µs of a core", s.perBeat.Microseconds()) })
	row("all monitors at rest, per second: statements, rows, time of the database", func(s *step) string {
		return fmt.Sprintf("%.0f, %.0f, %.0f ms", s.sql.calls, s.sql.rows, s.sql.ms)
	})
	row("the portal", func(s *step) string { return fmt.Sprintf("%.0f MiB", s.portalMiB) })
	row("until all is well, from rows alone", seconds(func(s *step) time.Duration { return s.start }))
	row("failover of a cn, in the database", seconds(func(s *step) time.Duration { return s.one }))
	row("of 1 % of the cns", seconds(func(s *step) time.Duration { return s.percent }))
	row("of a rack's cns", seconds(func(s *step) time.Duration { return s.rack }))
	row("restart of everything", seconds(func(s *step) time.Duration { return s.again }))
	c.Log(b.String())
}

// failover kills cns at once and says how long their primaries took to be elsewhere, in the database. Then the
// cns come back, and all has to be well.
func (c *cluster) failover(what string, dead []*model) time.Duration {
	c.Helper()
	var ids []string
	for i, m := range c.cns {
		if slices.Contains(dead, m) {
			ids = append(ids, c.cnIDs[i])
		}
	}
	primaries := func() int64 {
		return c.number("SELECT COUNT(*) FROM vda.vda_cntlr WHERE cn_id = ANY($1) AND is_primary AND NOT deleted", ids)
	}
	arrays := primaries()
	for _, m := range dead {
		m.kill()
	}
	took := c.until("failover", func() bool { return primaries() == 0 })
	c.Logf("  %s: their %d primaries are elsewhere, in the database, after %.1f s", what, arrays, took.Seconds())
	for _, m := range dead {
		if err := c.agents.revive(m); err != nil {
			c.Fatal(err)
		}
	}
	c.settle()
	return took
}

// restart ends the database, the portal, the monitors and all nodes at once, starts them again, and
// waits until each node has been told all its objects and all is well.
func (c *cluster) restart(monitors int) time.Duration {
	c.Helper()
	for _, p := range c.processes {
		p.kill()
	}
	nodes := slices.Concat(c.dns, c.cns)
	for _, m := range nodes {
		m.kill()
	}
	c.server.Stop()
	c.agents.forget()
	begin := time.Now()
	c.server.Start()
	c.sql.Reset()
	c.until("the database answers", func() bool { return c.sql.Ping(c.Context()) == nil })
	for _, m := range nodes {
		if err := c.agents.revive(m); err != nil {
			c.Fatal(err)
		}
	}
	c.processes = nil
	c.startPortal()
	c.startMonitors(monitors)
	told := map[*model]bool{}
	c.until("each node is told", func() bool {
		for _, m := range nodes {
			if !told[m] && len(m.Syncs()) > 0 {
				told[m] = true
			}
		}
		return len(told) == len(nodes)
	})
	c.settle()
	return time.Since(begin)
}
