package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/sandbox/dataplane"
)

// Config of a sandbox.
type Config struct {
	// BinDir holds the programs.
	BinDir string
	// Dir is where everything goes; it must be empty.
	Dir string
	// Out gets the story: commands, progress, summary.
	Out io.Writer
	// Terminal: Out is one, so that a progress line may be overwritten.
	Terminal bool
	// Plan says which node runs on which data plane. Zero: all on vda_tgt.
	Plan dataplane.Plan
	// Plain leaves out certificates, users and keys: anyone who reaches a port can give
	// orders.
	Plain bool
}

// Nodes are the disk and controller nodes of a sandbox.
var Nodes = []string{"dn0", "dn1", "dn2", "cn0", "cn1"}

// node is a disk or controller node: a data plane and its agent.
type node struct {
	kind   string // "dn" or "cn"
	name   string // "dn0"
	agent  string // host:port
	socket string
	port   int // of NVMe/TCP
	plane  *process
}

// listenerConf is the node's --listener-conf.
func (n *node) listenerConf() string {
	return fmt.Sprintf(`{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"%d"}`, n.port)
}

// Cluster is a running cluster. It is not safe for concurrent use.
type Cluster struct {
	cfg       Config
	portal    string // host:port
	webToken  string // of a plain cluster's page
	tokenFile string // of the user of a secured cluster
	db        string // URI
	nodes     []*node
	processes []*process // in the order of their start
}

// Start starts a cluster of three disk nodes and two controller nodes: a
// SQLite database, a portal, a monitor, and a data plane and an agent per node.
// On an error nothing is left running.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	c := &Cluster{cfg: cfg}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	ports, err := freePorts(2*len(Nodes) + 2)
	if err != nil {
		return err
	}
	c.db = "sqlite:///" + filepath.Join(c.cfg.Dir, "vda.db")
	if err := c.command(ctx, "vda_db", "--action", "create", "--db-uri", c.db); err != nil {
		return err
	}
	c.portal = fmt.Sprintf("127.0.0.1:%d", ports[2*len(Nodes)])
	if c.cfg.Plain {
		err = c.startPlain(ctx, ports[2*len(Nodes)])
	} else {
		err = c.startSecured(ctx, ports[2*len(Nodes)])
	}
	if err != nil {
		return err
	}
	for i, name := range Nodes {
		n := &node{kind: name[:2], name: name, agent: fmt.Sprintf("127.0.0.1:%d", ports[2*i]), port: ports[2*i+1],
			socket: filepath.Join(c.cfg.Dir, name+".sock")}
		c.nodes = append(c.nodes, n)
		if err := c.startNode(ctx, n, ports[2*i]); err != nil {
			return err
		}
	}
	port := ports[2*len(Nodes)+1]
	args := []string{"--db-uri", c.db}
	if !c.cfg.Plain {
		args = append(args, "--tls-dir", filepath.Join(c.cfg.Dir, "monitor-tls"))
	}
	env, err := c.enrolment(ctx, fmt.Sprintf("monitor/127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	return c.daemon(ctx, "monitor", port, env, "vda_monitor", args...)
}

// startPlain starts the portal of a plain cluster.
func (c *Cluster) startPlain(ctx context.Context, port int) error {
	c.webToken = rand.Text()
	file := filepath.Join(c.cfg.Dir, "web-token")
	if err := os.WriteFile(file, []byte(c.webToken+"\n"), 0o600); err != nil {
		return err
	}
	return c.daemon(ctx, "portal", port, nil, "vda_portal", "--db-uri", c.db, "--web-token-file", file)
}

// WebPage is the address of a plain cluster's page, and the token to log in with.
func (c *Cluster) WebPage() (url, token string) { return "http://" + c.portal + "/", c.webToken }

// Kill kills the data plane of a node, as kill -9 does. It stays down.
func (c *Cluster) Kill(name string) error {
	for _, n := range c.nodes {
		if n.name == name {
			n.plane.kill()
			c.processes = slices.DeleteFunc(c.processes, func(p *process) bool { return p == n.plane })
			return nil
		}
	}
	return fmt.Errorf("there is no node %s", name)
}

// startNode starts a node as the tutorial does.
func (c *Cluster) startNode(ctx context.Context, n *node, port int) error {
	if err := c.startPlane(ctx, n); err != nil {
		return err
	}
	args := []string{"--sock-path", n.socket, "--listener-conf", n.listenerConf(), "--state-dir", filepath.Join(c.cfg.Dir, n.name+"-state")}
	if n.kind == "dn" {
		args = append(args, "--aio-dir", c.cfg.Dir)
	}
	env, err := c.enrolment(ctx, n.kind+"/"+n.agent)
	if err != nil {
		return err
	}
	return c.daemon(ctx, n.name+" agent", port, env, "vda_"+n.kind+"_agent", args...)
}

// startPlane starts a node's data plane, again if it was killed.
func (c *Cluster) startPlane(ctx context.Context, n *node) error {
	if n.plane != nil {
		c.processes = slices.DeleteFunc(c.processes, func(p *process) bool { return p == n.plane })
		if err := os.Remove(n.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	argv := c.cfg.Plan.Argv(n.name, filepath.Join(c.cfg.BinDir, "vda_tgt"), n.socket)
	p, err := c.launch(n.name+" data plane", nil, argv[0], argv[1:]...)
	if err != nil {
		return err
	}
	n.plane = p
	// SPDK hangs in its shutdown now and then, when a host has just left.
	p.mayHang = c.cfg.Plan.Of(n.name) == dataplane.SPDK
	if err := p.waitUntil(ctx, exists(n.socket)); err != nil {
		return err
	}
	for _, call := range dataplane.StartUp {
		if err := c.command(ctx, "vda_rpc", append([]string{"-s", n.socket}, call...)...); err != nil {
			return err
		}
	}
	return nil
}

// daemon starts a program that serves on port, with more variables in its environment,
// and waits until it does.
func (c *Cluster) daemon(ctx context.Context, name string, port int, env []string, program string, args ...string) error {
	p, err := c.launch(name, env, filepath.Join(c.cfg.BinDir, program),
		append([]string{"--listener", "127.0.0.1", "--port", fmt.Sprint(port)}, args...)...)
	if err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.waitUntil(ready, reachable(fmt.Sprintf("127.0.0.1:%d", port)))
}

func (c *Cluster) launch(name string, env []string, path string, args ...string) (*process, error) {
	said := ""
	for _, e := range env { // secrets
		said += strings.SplitAfter(e, "=")[0] + "… "
	}
	c.say("  start %-15s %s%s", name, said, strings.Join(append([]string{filepath.Base(path)}, args...), " "))
	p, err := start(c.cfg.Dir, name, env, append([]string{path}, args...)...)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return p, err
}

// command runs a program to its end.
func (c *Cluster) command(ctx context.Context, program string, args ...string) error {
	_, err := c.output(ctx, program, args...)
	return err
}

func (c *Cluster) output(ctx context.Context, program string, args ...string) ([]byte, error) {
	c.say("  $ %s", shellLine(program, args))
	return c.quiet(ctx, program, args...)
}

// quiet is output for what is asked over and over.
func (c *Cluster) quiet(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.cfg.BinDir, program), args...)
	var out, errOut bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(), &out, &errOut
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", shellLine(program, args), err, errOut.Bytes(), out.Bytes())
	}
	return out.Bytes(), nil
}

// cli runs vda_cli and decodes its JSON into reply, which may be nil.
func (c *Cluster) cli(ctx context.Context, reply any, args ...string) error {
	out, err := c.output(ctx, "vda_cli", c.asUser(args...)...)
	if err != nil || reply == nil {
		return err
	}
	if err := json.Unmarshal(out, reply); err != nil {
		return fmt.Errorf("vda_cli %s printed no JSON: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// asUser is what vda_cli is given.
func (c *Cluster) asUser(args ...string) []string {
	all := []string{"--addr-port", c.portal}
	if c.tokenFile != "" {
		all = append(all, "--token-file", c.tokenFile)
	}
	return append(all, args...)
}

// Stop stops every process, the last started first, and reports those that
// did not stop cleanly.
func (c *Cluster) Stop() error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		errs = append(errs, c.processes[i].stop(10*time.Second))
	}
	c.processes = nil
	return errors.Join(errs...)
}

func (c *Cluster) say(format string, args ...any) { fmt.Fprintf(c.cfg.Out, format+"\n", args...) }

// shellLine is the command as one would type it.
func shellLine(program string, args []string) string {
	words := []string{program}
	for _, a := range args {
		if strings.ContainsAny(a, ` "'{}$*?;&|<>`) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// makeFile makes a sparse file for an aio disk.
func makeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
