package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/csi/controller"
	"github.com/virtual-disk-array/vda/csi/linux"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/daemon/httpd"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
)

// Main is a plugin with what it stands on.
type Main struct {
	// Flags say where metrics and health are served.
	daemon.Flags
	// Endpoint is the socket of the driver.
	Endpoint string
	// Services is controller, node or all.
	Services string
	// HostRoot is where the root of the machine is, with its programs and /etc/nvme: "/"
	// when the plugin is not in a container.
	HostRoot string
	// Location of the node; "": what locationFile below HostRoot says, if it is there.
	Location string
	// Portals of the cluster, host:port.
	Portals []string
	// TokenFile has the token of a user with the role csi; "" in a plain cluster.
	TokenFile string
	// Log gets what the plugin does. Default slog.Default().
	Log *slog.Logger
}

// services are what a plugin may offer.
var services = []string{"controller", "node", "all"}

// Program is vda_csi.
func Program() program.Program {
	m := Main{}
	c := &cobra.Command{
		Use:   "vda_csi --portals HOST:PORT,... [flags]",
		Short: "Serve VDA's volumes to Kubernetes and other orchestrators",
		Long: `vda_csi is the driver of the Container Storage Interface (CSI): an orchestrator's
sidecars call it on a socket. It keeps nothing: what there is stands in the cluster.`,
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&m.Endpoint, "endpoint", "unix:///csi/csi.sock", "`SOCKET` of the driver")
	fs.StringVar(&m.Services, "services", "all", "which `SERVICES` it offers: controller, node or all")
	fs.StringSliceVar(&m.Portals, "portals", nil, "`HOST:PORT` of portals, with commas between several")
	fs.StringVar(&m.TokenFile, "token-file", "", "`FILE` with the token of a user with the role csi, of a secured cluster; "+
		"a secret's token goes first")
	fs.StringVar(&m.HostRoot, "host-root", "/", "`DIR` where the node's root is mounted, for its programs and /etc/nvme")
	fs.StringVar(&m.Location, "location", "", "`LOCATION` of the node, for topologies (default: the first line of the node's /etc/vda/location, if it is there)")
	m.Add(fs, 9920, "HTTP (/metrics, /healthz)")
	program.Choices(c, "services", services...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := m.Check(); err != nil {
			return err
		}
		if !slices.Contains(services, m.Services) {
			return fmt.Errorf("--services %q must be %s", m.Services, strings.Join(services, " or "))
		}
		if len(m.Portals) == 0 {
			return errors.New("--portals is missing: give the host:port of one at least, like 192.168.0.11:9520")
		}
		m.Log = m.Flags.Log(c.ErrOrStderr())
		return m.Run(c.Context())
	}
	return program.Program{Root: c}
}

// Run serves until ctx ends.
func (m Main) Run(ctx context.Context) error {
	log := m.Log
	if log == nil {
		log = slog.Default()
	}
	cfg := Config{Metrics: NewMetrics(), Log: log}
	token, err := m.token()
	if err != nil {
		return err
	}
	if m.Services != "node" {
		ctl, err := controller.New(controller.Config{Portals: m.Portals, Token: token, Log: log})
		if err != nil {
			return fmt.Errorf("--portals: %s", reason.Of(err))
		}
		defer ctl.Close()
		cfg.Controller, cfg.Groups = ctl, ctl
	}
	if m.Services != "controller" {
		n, end, err := m.node(token, log)
		if err != nil {
			return err
		}
		defer end()
		cfg.Node = n
		cfg.Metrics.ofNode(n)
		follow, stop := context.WithCancel(ctx)
		defer stop()
		go n.Follow(follow)
	}
	http, err := m.Listen(ctx)
	if err != nil {
		return err
	}
	lis, err := Listen(ctx, m.Endpoint)
	if err != nil {
		return errors.Join(err, http.Close())
	}
	m.SayAlone(log)
	log.Info("serving", "endpoint", m.Endpoint, "services", m.Services, "metrics", http.Addr().String())
	err = both(ctx, func(ctx context.Context) error { return NewServer(cfg).Serve(ctx, lis) },
		func(ctx context.Context) error { return m.metrics(ctx, http, cfg.Metrics, log) })
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// node is the Node service of this machine; end closes its connections to portals.
func (m Main) node(token *pki.UserToken, log *slog.Logger) (n *node.Node, end func(), err error) {
	host, err := linux.NewHost(m.HostRoot)
	if err != nil {
		return nil, nil, err
	}
	w := &ways{own: m.Portals, token: token, clients: map[string]*client.Client{}}
	if _, err := w.portal(""); err != nil {
		return nil, nil, fmt.Errorf("--portals: %s", reason.Of(err))
	}
	if why := host.Problem(); why != "" {
		log.Error("this node cannot use volumes", "why", why)
	}
	location, err := m.location()
	if err != nil {
		return nil, nil, err
	}
	n = node.New(node.Config{Host: host, FileSystems: linux.NewFileSystems(m.HostRoot), Location: location, Ways: w.of, Log: log})
	return n, w.close, nil
}

// locationFile is where a node may say where it is: pods of a DaemonSet have the same flags on
// all nodes.
const locationFile = "etc/vda/location"

// location is where the node is, "" when nobody says it.
func (m Main) location() (string, error) {
	if m.Location != "" {
		return m.Location, checkLocation("--location", m.Location)
	}
	b, err := os.ReadFile(filepath.Join(m.HostRoot, locationFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("the node's location: %s", reason.Of(err))
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSpace(line)
	if line == "" {
		return "", nil
	}
	return line, checkLocation("/"+locationFile, line)
}

var labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

// checkLocation refuses what cannot be a value of a topology. Orchestrators would refuse the
// node, with a word about labels.
func checkLocation(field, location string) error {
	if labelValue.MatchString(location) {
		return nil
	}
	return vda.Errorf(vda.InvalidArgument, "%s %q must be a value of a topology: up to 63 letters, digits, '-', '_' and '.', with a letter "+
		"or digit at both ends", field, vda.Shorten(location, 40))
}

// ways asks portals for the controllers of volumes: those that a volume's id names, or the
// driver's own. Safe for concurrent use.
type ways struct {
	own   []string
	token *pki.UserToken // nil for none

	mu      sync.Mutex
	clients map[string]*client.Client // by the portals of ids
}

// of returns the addresses of the controllers of a volume's exporter.
func (w *ways) of(ctx context.Context, v volume.ID, exporter string) (addresses []string, err error) {
	p, err := w.portal(v.Portals)
	if err != nil {
		return nil, err
	}
	reply, err := p.GetExp(ctx, &apiv1.GetExpRequest{DaName: v.Array, ExpName: exporter})
	if err != nil {
		return nil, err
	}
	for _, es := range reply.ExpMsg.EsMsgList {
		l, err := vda.ParseListener("cn_listener_conf", es.CnListenerConf)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, l.String())
	}
	return addresses, nil
}

func (w *ways) portal(list string) (*client.Client, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.clients[list]; p != nil {
		return p, nil
	}
	cfg := client.Config{Portals: w.own}
	if list != "" {
		cfg.Portals = strings.Split(list, ",")
	}
	if w.token != nil {
		cfg.Secure(*w.token)
	}
	p, err := client.New(cfg)
	if err != nil {
		return nil, err
	}
	w.clients[list] = p
	return p, nil
}

func (w *ways) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.clients {
		_ = p.Close()
	}
}

// both runs two servers until ctx ends or one of them fails.
func both(ctx context.Context, one, other func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- other(ctx)
	}()
	err := one(ctx)
	cancel()
	return errors.Join(err, <-done)
}

func (m Main) metrics(ctx context.Context, lis net.Listener, metrics *Metrics, log *slog.Logger) error {
	return httpd.Serve(ctx, lis, httpd.Config{Registry: metrics.Registry, Log: log})
}

// token reads --token-file.
func (m Main) token() (*pki.UserToken, error) {
	if m.TokenFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(m.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("--token-file: %s", reason.Of(err))
	}
	t, err := pki.ParseUserToken(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("--token-file %s: it is not what vda_db --action user has printed", m.TokenFile)
	}
	return &t, nil
}
