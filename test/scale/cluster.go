//go:build e2e

package scale

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// size of each array, in bytes.
const size = 8 << 20

// racks are the locations that nodes are spread over.
const racks = 10

// cluster is a control plane above models.
type cluster struct {
	*testing.T
	server *dbtest.Server
	fleet  *fleet
	store  store.Store
	sql    *pgxpool.Pool
	uri    string
	portal *client.Client

	processes []*process // the portal, and the monitors
	dns, cns  []*model
	dnIDs     []string // by index, as cnIDs and pdIDs
	cnIDs     []string
	pdIDs     []string
	arrays    int
	crowd     int // how many of these, the first ones, are on one controller node

	perNode cost // of the portal, to register a node with its disk, when the cluster grew last
}

// begin starts PostgreSQL and a portal.
func begin(t *testing.T) *cluster {
	t.Helper()
	server, uri := dbtest.Postgres(t, "shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=off",
		"shared_buffers=1GB", "max_wal_size=4GB", "max_connections=400")
	if server == nil {
		t.Fatal("VDA_TEST_POSTGRES names a server: this test needs one of its own")
	}
	// The user of a statement says which program sent it.
	for _, q := range []string{"CREATE ROLE portal SUPERUSER LOGIN PASSWORD 'vda_password'",
		"CREATE ROLE monitor SUPERUSER LOGIN PASSWORD 'vda_password'", "ALTER ROLE vda_user SUPERUSER"} {
		server.Admin(q)
	}
	c := &cluster{T: t, server: server, uri: uri, fleet: &fleet{}}
	t.Cleanup(c.fleet.close)
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.store, err = store.Open(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.store.Close() })
	if c.sql, err = pgxpool.New(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.sql.Close)
	c.exec("CREATE EXTENSION pg_stat_statements")
	c.startPortal()
	return c
}

func (c *cluster) startPortal() {
	c.Helper()
	p := c.start("vda_portal", "portal")
	portal, err := client.New(client.Config{Portals: []string{p.addr}})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = portal.Close() })
	c.portal = portal
}

func (c *cluster) exec(q string, args ...any) {
	c.Helper()
	if _, err := c.sql.Exec(c.Context(), q, args...); err != nil {
		c.Fatalf("%s: %v", q, err)
	}
}

// number is the one value of a query.
func (c *cluster) number(q string, args ...any) (n int64) {
	c.Helper()
	if err := c.sql.QueryRow(c.Context(), q, args...).Scan(&n); err != nil {
		c.Fatalf("%s: %v", q, err)
	}
	return n
}

// process is a daemon.
type process struct {
	name, addr string
	cmd        *exec.Cmd
	kill       func()
}

// start runs a daemon as a user of the database, and waits until it listens.
func (c *cluster) start(program, user string, args ...string) *process {
	c.Helper()
	return c.serve(program, append([]string{"--db-uri", strings.Replace(c.uri, "vda_user:", user+":", 1)}, args...)...)
}

// serve runs a daemon on a free port, and waits until it listens.
func (c *cluster) serve(program string, args ...string) *process {
	c.Helper()
	addr := c.freeAddr()
	_, port, _ := net.SplitHostPort(addr)
	p := c.spawn(program, append([]string{"--listener", "127.0.0.1", "--port", port}, args...)...)
	p.addr = addr
	c.until(program+" serves", func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	c.processes = append(c.processes, p)
	return p
}

// freeAddr is one of 127.0.0.1 that nobody listens on.
func (c *cluster) freeAddr() string {
	c.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// spawn runs a program, which ends with the test.
func (c *cluster) spawn(program string, args ...string) *process {
	c.Helper()
	log, err := os.Create(filepath.Join(c.TempDir(), program+".log"))
	if err != nil {
		c.Fatal(err)
	}
	bin := os.Getenv("VDA_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	p := &process{name: program}
	p.cmd = exec.Command(filepath.Join(bin, program), args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := child.Start(p.cmd); err != nil {
		c.Fatalf("%s: %v; make build makes it", program, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(ended)
	}()
	p.kill = sync.OnceFunc(func() {
		_ = p.cmd.Process.Kill()
		<-ended
		_ = log.Close()
	})
	c.Cleanup(func() {
		if c.Failed() {
			text, _ := os.ReadFile(log.Name())
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			c.Logf("%s said last:\n%s", program, strings.Join(lines[max(len(lines)-10, 0):], "\n"))
		}
		p.kill()
	})
	return p
}

// until waits for as long as a slow machine may take. To ask takes a tenth of the time at most.
func (c *cluster) until(what string, fn func() bool) time.Duration {
	c.Helper()
	for begin := time.Now(); ; {
		asked := time.Now()
		if fn() {
			return time.Since(begin)
		}
		if time.Since(begin) > 30*time.Minute {
			c.Fatalf("%s: not within 30 minutes", what)
		}
		time.Sleep(max(20*time.Millisecond, 9*time.Since(asked)))
	}
}

// grow adds nodes, half of them dns with one disk each, and arrays.
func (c *cluster) grow(nodes, arrays int) {
	c.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	before, there := c.spent("portal"), len(c.dns)
	for i := there; i < nodes/2; i++ {
		for _, kind := range []string{"dn", "cn"} {
			m, err := c.fleet.add(kind, i)
			if err != nil {
				c.Fatal(err)
			}
			if kind == "dn" {
				c.dns = append(c.dns, m)
			} else {
				c.cns = append(c.cns, m)
			}
			g.Go(func() error { return c.register(m, i) })
		}
	}
	if err := g.Wait(); err != nil {
		c.Fatal(err)
	}
	if n := 2 * (len(c.dns) - there); n > 0 {
		c.perNode = c.spent("portal").less(before).by(n)
	}
	c.ids()
	if n := arrays - c.arrays; n > 0 {
		c.load(n)
	}
	c.exec("ANALYZE")
}

func (c *cluster) register(m *model, i int) error {
	host, _, _ := net.SplitHostPort(m.addr)
	conf := fmt.Sprintf(`{"trtype":"tcp","traddr":%q,"adrfam":"ipv4","trsvcid":"4420"}`, host)
	rack := fmt.Sprint("rack", i%racks)
	if m.kind == "cn" {
		_, err := c.portal.CreateCn(c.Context(), &apiv1.CreateCnRequest{CnName: m.addr, CnListenerConf: conf, Location: rack})
		return err
	}
	_, err := c.portal.CreateDn(c.Context(), &apiv1.CreateDnRequest{DnName: m.addr, DnListenerConf: conf, Location: rack})
	if err == nil {
		_, err = c.portal.CreatePd(c.Context(), &apiv1.CreatePdRequest{DnName: m.addr, PdName: "pd0", PdConf: `{"type":"malloc","size":1099511627776}`})
	}
	return err
}

// ids reads those of nodes and disks.
func (c *cluster) ids() {
	c.Helper()
	at := map[string]string{}
	err := c.store.View(c.Context(), func(tx store.Reader) error {
		dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
		if err != nil {
			return err
		}
		cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
		if err != nil {
			return err
		}
		pds, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
		for i := range dns {
			at[dns[i].Name] = dns[i].ID
		}
		for i := range cns {
			at[cns[i].Name] = cns[i].ID
		}
		for i := range pds {
			at["pd of "+pds[i].DNID] = pds[i].ID
		}
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	c.dnIDs, c.cnIDs, c.pdIDs = nil, nil, nil
	for i := range c.dns {
		dn := at[c.dns[i].addr]
		c.dnIDs, c.cnIDs, c.pdIDs = append(c.dnIDs, dn), append(c.cnIDs, at[c.cns[i].addr]), append(c.pdIDs, at["pd of "+dn])
	}
}

// record writes the rows of n arrays with two controllers and an exporter each, as one
// transaction, by the transitions with which the portal makes them.
func (c *cluster) record(n int) {
	c.Helper()
	err := c.store.Update(c.Context(), func(tx store.Tx) error {
		for i := c.arrays; i < c.arrays+n; i++ {
			on, name := c.place(i), fmt.Sprintf("da%06d", i)
			da, bytes, clusters := shape()
			da.ID, da.Name = store.NewID(), name
			at := placement.VD{PDID: c.pdIDs[on.dn], DNID: c.dnIDs[on.dn], Clusters: clusters, Size: clusters << 20}
			_, err := array.Create(tx, &da, placement.Columns(bytes, []placement.VD{at}),
				[]placement.Cntlr{{CNID: c.cnIDs[on.primary], Primary: true}, {CNID: c.cnIDs[on.secondary]}})
			if err != nil {
				return err
			}
			exp := &vda.Exp{ID: store.NewID(), DAID: da.ID, Name: "exp0", NQN: vda.ExpNQN(name, "exp0"), InitiatorNQN: hostNQN}
			exp.Serial, exp.NSUUID = exp.ID[:20], uuid.NewString()
			if _, err := array.CreateExp(tx, exp); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	c.arrays += n
}

const hostNQN = "nqn.2016-06.io.spdk:host0"

// settle waits until every node has carried everything out and nothing is in error.
func (c *cluster) settle() time.Duration {
	c.Helper()
	said := time.Now()
	return c.until("all is well", func() bool {
		if time.Since(said) > 20*time.Second {
			c.Logf("  not well yet: %s", c.left())
			said = time.Now()
		}
		for _, of := range unwell {
			if c.number("SELECT EXISTS (SELECT FROM vda."+of.where+")::int") > 0 {
				return false
			}
		}
		return true
	})
}

// unwell are rows by which something is not well yet.
var unwell = []struct{ what, where string }{
	{"dns behind", "vda_dn WHERE applied < version"}, {"dns in error", "vda_dn WHERE h_error"},
	{"dns not seen", "vda_dn WHERE data_plane_version = ''"}, {"cns behind", "vda_cn WHERE applied < version"},
	{"cns in error", "vda_cn WHERE h_error"}, {"cns not seen", "vda_cn WHERE data_plane_version = ''"},
	{"arrays not made", "vda_da WHERE NOT created"}, {"arrays in error", "vda_da WHERE h_error"}, {"paths in error", "vda_es WHERE h_error"},
}

// left says what is not well yet.
func (c *cluster) left() string {
	c.Helper()
	var parts []string
	for _, of := range unwell {
		if n := c.number("SELECT COUNT(*) FROM vda." + of.where); n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", of.what))
		}
	}
	return strings.Join(parts, ", ")
}

// usage is what a process has used so far.
type usage struct {
	parent int
	cpu    time.Duration
	ended  time.Duration // of its children that have ended
	rss    int64         // bytes
}

func (p *process) usage() usage {
	u, _ := status(p.cmd.Process.Pid)
	return u
}

// status is what the kernel says of a process.
func status(pid int) (u usage, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if err != nil || len(f) < 22 {
		return u, fmt.Errorf("process %d: %q, %w", pid, text, err)
	}
	at := func(i int) int64 {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		return n
	}
	const tick = time.Second / 100
	return usage{int(at(1)), time.Duration(at(11)+at(12)) * tick, time.Duration(at(13)+at(14)) * tick, at(21) * int64(os.Getpagesize())}, nil
}

// cost is what a user's statements were.
type cost struct {
	calls, rows float64
	ms          float64 // in the database
}

func (a cost) less(b cost) cost { return cost{a.calls - b.calls, a.rows - b.rows, a.ms - b.ms} }

func (a cost) by(n int) cost {
	return cost{a.calls / float64(n), a.rows / float64(n), a.ms / float64(n)}
}

// spent is what a user's statements have cost so far.
func (c *cluster) spent(user string) (s cost) {
	c.Helper()
	err := c.sql.QueryRow(c.Context(), `SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(rows), 0), COALESCE(SUM(total_exec_time), 0)
		FROM pg_stat_statements WHERE userid = $1::regrole`, user).Scan(&s.calls, &s.rows, &s.ms)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// dearest are the statements of a user that cost most since the last reset.
func (c *cluster) dearest(user string, n int) string {
	c.Helper()
	rows, err := c.sql.Query(context.Background(), `SELECT calls, rows, total_exec_time, regexp_replace(query, '\s+', ' ', 'g')
		FROM pg_stat_statements WHERE userid = $1::regrole ORDER BY total_exec_time DESC LIMIT $2`, user, n)
	if err != nil {
		c.Fatal(err)
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		var calls, rowCount int64
		var ms float64
		var query string
		if err := rows.Scan(&calls, &rowCount, &ms, &query); err != nil {
			c.Fatal(err)
		}
		if at := strings.Index(query, " FROM "); strings.HasPrefix(query, "SELECT") && at > 60 {
			query = "SELECT … " + query[at+1:]
		}
		fmt.Fprintf(&b, "\n  %7d calls %9d rows %9.1f ms  %.110s", calls, rowCount, ms, query)
	}
	return b.String()
}
