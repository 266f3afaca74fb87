//go:build e2e

package scale

import (
	"cmp"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

func TestMain(m *testing.M) {
	if os.Getenv(asModels) == "" {
		os.Exit(m.Run())
	}
	if err := serveModels(); err != nil {
		log.Fatal(err)
	}
}

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
		before, syncs := c.spent("portal"), c.seen()
		var took []time.Duration
		for i := range n {
			begin := time.Now()
			if err := op.do(c, i); err != nil {
				c.Fatalf("%s: %v", op.name, err)
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		after := c.seen()
		f := figure{cost: c.spent("portal").less(before).by(n), p50: took[n/2], p99: took[(n*99)/100],
			calls: float64(after.Calls-syncs.Calls) / float64(n), bytes: float64(after.Bytes-syncs.Bytes) / float64(n)}
		all[op.name] = f
		c.Logf("  %-22s %6.1f ms p50 %6.1f p99 %6.1f statements %8.1f rows %7.2f ms of the database %5.1f Syncs %7.0f bytes",
			op.name, ms(f.p50), ms(f.p99), f.cost.calls, f.rows, f.ms, f.calls, f.bytes)
	}
	c.settle()
	return all
}

// seen is what the models have got.
func (c *cluster) seen() Seen {
	c.Helper()
	s, err := c.fleet.seen()
	if err != nil {
		c.Fatal(err)
	}
	return s
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// atRest is what a cluster takes of which nothing is asked.
type atRest struct {
	cost               // of the monitors' statements, per second
	cores, mib float64 // of the busiest monitor
	newest     float64 // cores of the monitor that was started last
	newestSent float64 // heartbeats that this one sent, per second
	database   float64 // cores
	portalMiB  float64
	beats      float64       // per second
	perBeat    time.Duration // of a core, that all monitors take per heartbeat, all else that they do included
}

// rest watches the cluster for a time in which nothing is asked of it.
func (c *cluster) rest(length time.Duration) (r atRest) {
	c.Helper()
	c.exec("SELECT pg_stat_statements_reset()")
	processes := slices.Clone(c.processes)
	for _, p := range c.fleet.processes {
		processes = append(processes, p.process)
	}
	before := make([]usage, len(processes))
	for i, p := range processes {
		before[i] = p.usage()
	}
	database := c.databaseTime()
	beats, newest := c.beats()
	spent, begin := c.spent("monitor"), time.Now()
	time.Sleep(length)
	took := time.Since(begin)
	var monitors time.Duration
	var models float64
	for i, p := range processes {
		u := p.usage()
		cores, mib := (u.cpu-before[i].cpu).Seconds()/took.Seconds(), float64(u.rss>>20)
		switch p.name {
		case "models":
			models += cores
			continue
		case "vda_portal":
			r.portalMiB = mib
		case "vda_monitor":
			r.cores, r.mib, r.newest = max(r.cores, cores), max(r.mib, mib), cores
			monitors += u.cpu - before[i].cpu
		}
		c.Logf("  at rest: %-11s %5.1f %% of a core, %4.0f MiB", p.name, 100*cores, mib)
	}
	r.cost = c.spent("monitor").less(spent)
	n, last := c.beats()
	n, r.newestSent = n-beats, float64(last-newest)/took.Seconds()
	r.beats, r.perBeat = float64(n)/took.Seconds(), monitors/time.Duration(max(n, 1))
	r.database = (c.databaseTime() - database).Seconds() / took.Seconds()
	c.Logf("  at rest: PostgreSQL %.1f %% of a core, the models %.1f %%", 100*r.database, 100*models)
	c.Logf("  at rest: %.0f heartbeats per second, for each of which the monitors take %v of a core, all that they do included",
		r.beats, r.perBeat)
	for _, v := range []*float64{&r.calls, &r.rows, &r.ms} {
		*v /= took.Seconds()
	}
	c.Logf("  at rest: monitors %.1f statements, %.0f rows, %.1f ms of the database per second%s",
		r.calls, r.rows, r.ms, c.dearest("monitor", 12))
	return r
}

// databaseTime is what the database has used so far.
func (c *cluster) databaseTime() (all time.Duration) {
	c.Helper()
	connection, _ := status(int(c.number("SELECT pg_backend_pid()::bigint")))
	server := connection.parent
	own, _ := status(server)
	all = own.cpu + own.ended
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		c.Fatal(err)
	}
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			if s, err := status(pid); err == nil && s.parent == server {
				all += s.cpu
			}
		}
	}
	return all
}

// beats is how many heartbeats the monitors have sent, and the one that was started last.
func (c *cluster) beats() (all, newest int) {
	c.Helper()
	for _, p := range c.processes {
		if p.name == "vda_monitor" {
			newest = c.beatsOf(p)
			all += newest
		}
	}
	return all, newest
}

func (c *cluster) beatsOf(monitor *process) (n int) {
	c.Helper()
	r, err := http.Get("http://" + monitor.addr + "/metrics")
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
	before, node := c.measure(each), c.perNode
	c.grow(nodes, 1600)
	c.settle()
	if is := c.perNode; is.rows > node.rows*1.1+10 || is.calls > node.calls*1.1+10 { // transactions that meet are tried again
		t.Errorf("a node beside up to %d others is registered with %.1f statements and %.1f rows, beside up to %d with %.1f and %.1f", nodes,
			is.calls, is.rows, few, node.calls, node.rows)
	}
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
	disk                             int64 // of the database, in bytes
	rest                             atRest
	often                            atRest // with one monitor that sends heartbeats as often as it does by itself, where BEAT is longer
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
		length := time.Duration(given(t, "REST", 75)) * time.Second
		s.rest = c.rest(length)
		if os.Getenv("BEAT") != "" {
			s.often = c.often(length)
		}
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
		s.disk = c.number("SELECT pg_database_size(current_database())")
		all = append(all, s)
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
		period, err := time.ParseDuration(beat)
		if err != nil {
			c.Fatalf("BEAT=%q must be a duration, as 5s", beat)
		}
		args = append(args, "--heartbeat-period", beat, "--heartbeat-timeout", (period * 9 / 10).String())
	}
	for range n {
		c.start("vda_monitor", "monitor", args...)
	}
}

// often has the last monitor send heartbeats as often as it does by itself, watches the cluster, and has it
// as before again.
func (c *cluster) often(length time.Duration) atRest {
	c.Helper()
	again := func(start func()) {
		last := len(c.processes) - 1
		c.processes[last].kill()
		c.processes = c.processes[:last]
		start()
		// The others take its nodes when its lease has ended, and it takes them back.
		c.until("the monitors share the nodes", func() bool {
			return c.number("SELECT COUNT(*) FROM vda.vda_monitor") == int64(len(c.processes)-1)
		})
		time.Sleep(15 * time.Second)
		c.settle()
	}
	again(func() { c.start("vda_monitor", "monitor") })
	c.Logf("  the last monitor sends a heartbeat per 500 ms:")
	r := c.rest(length)
	again(func() { c.startMonitors(1) })
	return r
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
	row("the busiest monitor at rest", func(s *step) string {
		return fmt.Sprintf("%.1f %% of a core, %.0f MiB", 100*s.rest.cores, s.rest.mib)
	})
	row("a monitor at rest with a heartbeat per 500 ms", func(s *step) string {
		if s.often.cores == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f %% of a core for %.0f of them per second", 100*s.often.newest, s.often.newestSent)
	})
	row("all monitors at rest, per second: heartbeats, statements, rows", func(s *step) string {
		return fmt.Sprintf("%.0f, %.0f, %.0f", s.rest.beats, s.rest.calls, s.rest.rows)
	})
	row("PostgreSQL at rest", func(s *step) string {
		return fmt.Sprintf("%.1f %% of a core, %d MiB on disk", 100*s.rest.database, s.disk>>20)
	})
	row("the portal", func(s *step) string { return fmt.Sprintf("%.0f MiB", s.rest.portalMiB) })
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
	if err := c.fleet.kill(dead); err != nil {
		c.Fatal(err)
	}
	took := c.until("failover", func() bool { return primaries() == 0 })
	c.Logf("  %s: their %d primaries are elsewhere, in the database, after %.1f s", what, arrays, took.Seconds())
	if err := c.fleet.revive(dead); err != nil {
		c.Fatal(err)
	}
	c.Logf("  and all is well %.1f s after they came back", c.settle().Seconds())
	return took
}

// restart ends the database, the portal, the monitors and all nodes at once, starts them again, and
// waits until each node has been told all its objects and all is well.
func (c *cluster) restart(monitors int) time.Duration {
	c.Helper()
	for _, p := range c.processes {
		p.kill()
	}
	if err := c.fleet.kill(c.all()); err != nil {
		c.Fatal(err)
	}
	c.server.Stop()
	begin := time.Now()
	c.server.Start()
	c.sql.Reset()
	c.until("the database answers", func() bool { return c.sql.Ping(c.Context()) == nil })
	if err := c.fleet.revive(c.all()); err != nil {
		c.Fatal(err)
	}
	c.processes = nil
	c.startPortal()
	c.startMonitors(monitors)
	c.until("each node is told", func() bool { return c.seen().Told == len(c.dns)+len(c.cns) })
	c.settle()
	return time.Since(begin)
}
