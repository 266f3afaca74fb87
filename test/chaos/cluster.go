//go:build e2e

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/sandbox/dataplane"
	"github.com/virtual-disk-array/vda/test/e2e/lab"
)

// Addresses of the rack.
const (
	dbAddr     = "192.168.0.10"
	portalAddr = "192.168.0.11"
	hostAddr   = "192.168.0.18"
	dbURI      = "postgresql://vda_user@192.168.0.10:5432/vda_db"
	portalURL  = portalAddr + ":9520"
	hostNQN    = "nqn.2016-06.io.spdk:host0"
	expNQN     = "nqn.2016-06.io.spdk:vda-exp-da0-exp" // and a number

	pdBytes = 128 << 20
	// diskErrorHold is short: what was made to fail is well when the fault is over.
	diskErrorHold = 3 * time.Second
	daBytes       = 48 << 20
)

// machine is a host of the rack with its processes.
type machine struct {
	name, addr string
	kind       string // "dn", "cn", "portal", "monitor", "db", "host"
	h          *lab.Host
	plane      *process    // dn, cn
	daemon     *process    // the agent, portal, monitor or database
	pd, media  string      // dn: the file of its pd, and where its blocks are
	disk       *faultyDisk // dn: behind pd; nil: it does not fail by itself
}

func (m *machine) processes() []*process {
	if m.plane == nil {
		return []*process{m.daemon}
	}
	return []*process{m.plane, m.daemon}
}

type server struct{ name, addr, kind string }

var rack = []server{
	{"db", dbAddr, "db"}, {"portal", portalAddr, "portal"}, {"monitor0", "192.168.0.12", "monitor"}, {"monitor1", "192.168.0.20", "monitor"},
	{"dn0", "192.168.0.14", "dn"}, {"dn1", "192.168.0.15", "dn"},
	{"cn0", "192.168.0.16", "cn"}, {"cn1", "192.168.0.17", "cn"}, {"cn2", "192.168.0.21", "cn"},
	{"cn3", "192.168.0.22", "cn"}, {"host0", hostAddr, "host"},
}

// more are the disk nodes that only a mirrored array needs: one more than a mirror
// has legs.
var more = []server{{"dn2", "192.168.0.23", "dn"}, {"dn3", "192.168.0.24", "dn"}}

// rackOf leaves out controller nodes that have no controller when there is an
// SPDK: its processes poll, and the array is to lie on the nodes of the plan.
func rackOf(cfg clusterConfig) (all []server) {
	cns := 0
	list := slices.Clone(rack)
	if cfg.Redundancy.Mirrored() {
		list = append(list, more[:cfg.Redundancy-1]...)
	}
	for _, a := range list {
		if a.kind == "cn" {
			if cns++; cfg.Plan.UsesSPDK() && cns > cfg.Cntlrs {
				continue
			}
		}
		all = append(all, a)
	}
	return all
}

// nodesOf are the names of the disk and controller nodes.
func nodesOf(cfg clusterConfig) (names []string) {
	for _, a := range rackOf(cfg) {
		if a.kind == "dn" || a.kind == "cn" {
			names = append(names, a.name)
		}
	}
	return names
}

// clusterConfig says what to start.
type clusterConfig struct {
	Dir    string // takes logs
	BinDir string // has the programs; empty: VDA_BIN, else bin/
	Cntlrs int    // controllers of the array
	Exps   int    // its exporters
	Spare  int    // bytes that the array has beyond its size, for snapshots
	Plan   dataplane.Plan
	// Volumes: there is room for snapshots, clones and growth.
	Volumes bool
	// Redundancy of the array; zero: none.
	Redundancy vda.Redundancy
	// SPDKLater: nodes move to SPDK in the course of the test.
	SPDKLater bool
	// Secured: the cluster is secured before it has a node (secured.go).
	Secured bool
}

// cluster is the running rack with one array and the host that uses it.
type cluster struct {
	cfg      clusterConfig
	lab      *lab.Lab
	machines map[string]*machine
	order    []*machine
	host     *hostProcess
	blocks   int // of the array
	grows    int // times that it was to grow
}

// newCluster boots the rack, makes the array and starts the host's load. On
// an error nothing is left running.
func newCluster(ctx context.Context, cfg clusterConfig) (*cluster, error) {
	if cfg.Volumes {
		cfg.Spare += volumeSpare
	}
	c := &cluster{cfg: cfg, machines: map[string]*machine{}, blocks: daBytes / blockSize}
	l, err := lab.New(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	c.lab = l
	if err := c.boot(ctx); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *cluster) boot(ctx context.Context) error {
	for _, a := range rackOf(c.cfg) {
		h, err := c.lab.AddHost(ctx, a.name, a.addr)
		if err != nil {
			return err
		}
		m := &machine{name: a.name, addr: a.addr, kind: a.kind, h: h}
		c.machines[a.name] = m
		c.order = append(c.order, m)
	}
	for _, m := range c.order {
		if err := c.furnish(ctx, m); err != nil {
			return err
		}
	}
	if err := c.startDB(ctx, c.machines["db"]); err != nil {
		return err
	}
	for _, m := range c.order {
		switch m.kind {
		case "portal":
			if _, err := c.output(ctx, m, "/root/vda_db --action create --db-uri "+dbURI); err != nil {
				return err
			}
			if err := c.startPortal(ctx, m); err != nil {
				return err
			}
		case "monitor":
			enrol, tls, err := c.enrolment(ctx, "monitor/"+m.addr+":9620", "--tls-dir", "/root/tls")
			if err != nil {
				return err
			}
			m.daemon = supervise(c.cfg.Dir, m.name, m.h, "", append(append(enrol, "/root/vda_monitor", "--listener", m.addr, "--db-uri", dbURI),
				tls...)...)
		case "dn", "cn":
			if err := c.startNode(ctx, m); err != nil {
				return err
			}
		}
	}
	return c.populate(ctx)
}

// furnish copies the programs that a machine needs.
func (c *cluster) furnish(ctx context.Context, m *machine) error {
	programs := map[string][]string{"portal": {"vda_portal", "vda_db", "vda_cli"}, "monitor": {"vda_monitor"},
		"dn": {"vda_tgt", "vda_rpc", "vda_dn_agent"}, "cn": {"vda_tgt", "vda_rpc", "vda_cn_agent"}}[m.kind]
	files := map[string]string{}
	for _, p := range programs {
		files[p] = filepath.Join(c.cfg.BinDir, p)
	}
	if broken := os.Getenv("BREACH"); broken != "" && m.kind == "cn" {
		files["vda_tgt"] = broken
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	switch {
	case m.kind == "host":
		files["chaos_host"] = self
	case m.kind == "dn" && c.faultyDisks():
		files["chaos_disk"] = self
	}
	for name, path := range files {
		if err := c.copy(ctx, m, path, "/root/"+name); err != nil {
			return err
		}
	}
	return nil
}

// copy puts a program onto a machine.
func (c *cluster) copy(ctx context.Context, m *machine, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := m.h.Command(ctx, "sh", "-c", "cat > "+to+" && chmod 755 "+to)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: copy %s: %w: %s", m.name, from, err, out)
	}
	return nil
}

// startDB makes a new PostgreSQL. Its durability is on: the test kills it.
func (c *cluster) startDB(ctx context.Context, m *machine) error {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return errors.New("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
	}
	bin := bins[len(bins)-1]
	as := "setpriv --reuid=postgres --regid=postgres --clear-groups "
	script := "set -e; mkdir /tmp/pg; chown postgres /tmp/pg; cd /tmp; " + as + bin + "/initdb -D /tmp/pg -A trust -N >/dev/null; " +
		"echo 'host all all 192.168.0.0/24 trust' >> /tmp/pg/pg_hba.conf"
	if _, err := c.output(ctx, m, script); err != nil {
		return err
	}
	m.daemon = supervise(c.cfg.Dir, m.name, m.h, "", append(strings.Fields(as), bin+"/postgres", "-D", "/tmp/pg",
		"-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp", "-c", "shared_buffers=32MB", "-c", "max_connections=60")...)
	return c.until(ctx, m, "for q in 'create user vda_user' 'create database vda_db owner vda_user'; do "+bin+"/psql -h /tmp -U postgres "+
		"-c \"$q\" || "+
		bin+"/psql -h /tmp -U postgres -l | grep vda_db; done", 30*time.Second)
}

// startNode starts a data plane and its agent.
func (c *cluster) startNode(ctx context.Context, m *machine) error {
	enrol, _, err := c.enrolment(ctx, m.kind+"/"+m.agent())
	if err != nil {
		return err
	}
	// SPDK makes its socket before it listens on it, and leaves it behind.
	ready := ""
	for _, call := range dataplane.StartUp {
		ready += fmt.Sprintf("for i in $(seq 300); do test -S /tmp/sock && /root/vda_rpc -s /tmp/sock %s && break; sleep 0.02; done\n",
			strings.Join(call, " "))
	}
	m.plane = supervise(c.cfg.Dir, m.name+" data plane", m.h, ready, c.cfg.Plan.Argv(m.name, "/root/vda_tgt", "/tmp/sock")...)
	m.plane.spdk = c.cfg.Plan.Of(m.name) == dataplane.SPDK
	args := []string{"/root/vda_" + m.kind + "_agent", "--listener", m.addr, "--sock-path", "/tmp/sock",
		"--sock-wait", "60s", "--listener-conf", m.listener(), "--state-dir", "/root/state"}
	if m.kind == "dn" {
		args = append(args, "--aio-dir", "/tmp", "--disk-error-hold", diskErrorHold.String())
	}
	m.daemon = supervise(c.cfg.Dir, m.name+" agent", m.h, "", append(enrol, args...)...)
	return nil
}

func (m *machine) port() string { return map[string]string{"dn": "4420", "cn": "4430"}[m.kind] }

func (m *machine) agent() string {
	return m.addr + map[string]string{"dn": ":9720", "cn": ":9820"}[m.kind]
}

func (m *machine) listener() string {
	return fmt.Sprintf(`{"trtype":"tcp","traddr":"%s","adrfam":"ipv4","trsvcid":"%s"}`, m.addr, m.port())
}

// populate makes nodes, disks, the array and its exporter.
func (c *cluster) populate(ctx context.Context) error {
	portal := c.machines["portal"]
	for _, m := range c.order {
		if m.kind != "dn" && m.kind != "cn" {
			continue
		}
		if err := c.until(ctx, portal, fmt.Sprintf("timeout 1 bash -c '</dev/tcp/%s/%s'", m.addr, strings.Split(m.agent(), ":")[1]),
			30*time.Second); err != nil {
			return err
		}
		if err := c.until(ctx, portal, fmt.Sprintf("/root/vda_cli --addr-port %s %s create --%s-name %s --%s-listener-conf '%s' --location %s",
			portalURL, m.kind, m.kind, m.agent(), m.kind, m.listener(), m.name), 20*time.Second); err != nil {
			return err
		}
		if m.kind == "dn" {
			if err := c.makeDisk(ctx, m); err != nil {
				return err
			}
			if _, err := c.cli(ctx, fmt.Sprintf(`pd create --dn-name %s --pd-name pd0 --pd-conf '{"type":"aio","filename":"%s"}'`, m.agent(),
				m.pd)); err != nil {
				return err
			}
		}
	}
	for _, m := range c.order {
		if m.kind != "dn" {
			continue
		}
		// One that is not ready takes no vd, and its faults would be nobody's.
		if err := c.until(ctx, portal, fmt.Sprintf(`/root/vda_cli --addr-port %s pd get --dn-name %s --pd-name pd0 | grep -q '"error": false'`,
			portalURL, m.agent()), 30*time.Second); err != nil {
			return fmt.Errorf("pd0 of %s is not well: %w", m.name, err)
		}
	}
	// Strict: one vd on each dn, so that a fault of either is one of the array; of a
	// mirrored one, the legs of a column.
	if err := c.until(ctx, portal, fmt.Sprintf(`/root/vda_cli --addr-port %s da create --strict --redundancy %s --da-name da0 `+
		`--cntlr-cnt %d --da-size %d --physical-size %d --da-conf '{"stripe_count":2, "stripe_size_kb":64}'`,
		portalURL, c.cfg.Redundancy, c.cfg.Cntlrs, daBytes, daBytes+c.cfg.Spare), 30*time.Second); err != nil {
		return err
	}
	for i := range c.cfg.Exps {
		if _, err := c.cli(ctx, fmt.Sprintf("exp create --da-name da0 --exp-name exp%d --initiator-nqn %s", i, hostNQN)); err != nil {
			return err
		}
	}
	return nil
}

// faultyDisks reports that the disks of dns can be made to fail: those of a mirrored
// array, which can do without one.
func (c *cluster) faultyDisks() bool { return c.cfg.Redundancy.Mirrored() && hasFuse() }

// makeDisk makes the file of a dn's pd.
func (c *cluster) makeDisk(ctx context.Context, m *machine) error {
	m.media, m.pd = "/tmp/pd0", "/tmp/pd0"
	if c.faultyDisks() {
		m.media, m.pd = "/tmp/media", "/tmp/disk/pd0"
	}
	size := pdBytes
	if c.cfg.Volumes {
		size = volumePD
	}
	if _, err := c.output(ctx, m, fmt.Sprintf("truncate -s %d %s", size, m.media)); err != nil {
		return err
	}
	if m.media == m.pd {
		return nil
	}
	return c.attachDisk(m, m.media, m.pd)
}

// cntlrs are the machines that have a controller of the array, by index.
func (c *cluster) cntlrs(ctx context.Context) ([]*machine, error) {
	out, err := c.cli(ctx, "exp get --da-name da0 --exp-name exp0")
	if err != nil {
		return nil, err
	}
	var reply struct {
		ExpMsg struct {
			EsMsgList []struct {
				CnName   string `json:"cn_name"`
				Error    bool   `json:"error"`
				ErrorMsg string `json:"error_msg"`
			} `json:"es_msg_list"`
		} `json:"exp_msg"`
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		return nil, err
	}
	var ms []*machine
	for _, es := range reply.ExpMsg.EsMsgList {
		for _, m := range c.order {
			if m.kind == "cn" && m.agent() == es.CnName {
				ms = append(ms, m)
			}
		}
	}
	return ms, nil
}

// cli runs vda_cli on the portal's host.
func (c *cluster) cli(ctx context.Context, args string) ([]byte, error) {
	return c.output(ctx, c.machines["portal"], "/root/vda_cli --addr-port "+portalURL+" --timeout 30s "+args)
}

// sql asks the database.
func (c *cluster) sql(ctx context.Context, query string) ([]byte, error) {
	return c.output(ctx, c.machines["db"], `$(ls -d /usr/lib/postgresql/*/bin | tail -1)/psql -h /tmp -U postgres vda_db -Atc "`+query+`"`)
}

// output runs a script on a machine that must succeed.
func (c *cluster) output(ctx context.Context, m *machine, script string) ([]byte, error) {
	if m.kind == "portal" {
		script = c.asUser() + script
	}
	r, err := m.h.Run(ctx, script)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: %s: exit %d: %s%s", m.name, script, r.Code, r.Stderr, r.Stdout)
	}
	return r.Stdout, err
}

// until runs a script again and again until it succeeds.
func (c *cluster) until(ctx context.Context, m *machine, script string, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		_, err := c.output(ctx, m, script)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// close ends everything; the errors are processes that did not end when asked.
func (c *cluster) close() error {
	if c.host != nil {
		c.host.close()
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, m := range c.order {
		for _, p := range m.processes() {
			if p != nil && m.kind != "db" {
				wg.Go(func() {
					err := p.end()
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				})
			}
		}
	}
	wg.Wait()
	for _, m := range c.order {
		if m.disk != nil {
			m.disk.close()
		}
	}
	if db := c.machines["db"]; db != nil && db.daemon != nil {
		db.daemon.kill(0)
		_ = db.daemon.end()
	}
	return errors.Join(append(errs, c.lab.Close())...)
}

// crashes are the processes that ended by themselves.
func (c *cluster) crashes() []string {
	var all []string
	for _, m := range c.order {
		for _, p := range m.processes() {
			if p != nil {
				p.mu.Lock()
				all = append(all, p.crashes...)
				p.mu.Unlock()
			}
		}
	}
	return all
}
