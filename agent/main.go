package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/rpc"
)

// Main is an agent with what it stands on.
type Main struct {
	App
	Config
	// Ready, when not nil, gets the address once the agent serves.
	Ready chan<- string

	// Lis, when not nil, is where the agent serves, in place of what Config's
	// Flags say; Run closes it. Prepare, when not nil, changes the node before
	// it meets its data plane. Both are for agents whose machine is made up.
	Lis     net.Listener
	Prepare func(*Node)
	// Authorize, when not nil, decides who may call, in place of the rule that portals and monitors of the cluster
	// may: for tests that they find an agent without that rule.
	Authorize func(context.Context, rpc.Call) error
}

// Program is the agent as a program.
func (a App) Program() program.Program {
	return a.program(func(c *cobra.Command, cfg Config) error {
		if cfg.ForgetVersions {
			return a.forget(cfg, c.ErrOrStderr())
		}
		return Main{App: a, Config: cfg}.Run(c.Context())
	})
}

// program reads the command line for run.
func (a App) program(run func(*cobra.Command, Config) error) program.Program {
	c := &cobra.Command{
		Use:   a.Name + " --sock-path PATH --listener-conf JSON [flags]",
		Short: "Make one data plane match the desired state that portal and monitor send",
		Long: a.Name + ` makes one data plane, vda_tgt or spdk_tgt, match the desired state that portal
and monitor send, and reports what is. SIGTERM stops it; the data plane goes on.`,
	}
	f := flags{app: a}
	f.add(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := f.config(c.Flags())
		if err != nil {
			return err
		}
		cfg.Log = cfg.Flags.Log(c.ErrOrStderr())
		return run(c, cfg)
	}
	return program.Program{Root: c, Serves: true}
}

// flags are the command line of an agent.
type flags struct {
	Config
	app                      App
	conf, backend, transport string
}

func (f *flags) add(fs *pflag.FlagSet) {
	c := &f.Config
	fs.SortFlags = false
	c.Add(fs, f.app.Port, "gRPC, and HTTP (/metrics, /healthz)")
	fs.StringVar(&c.Socket, "sock-path", "", "`PATH` of the JSON-RPC socket of the data plane, spdk_tgt or vda_tgt (required)")
	fs.DurationVar(&c.SocketWait, "sock-wait", 0,
		"how long to wait at start for a data plane that is not there yet (default 0s: not at all)")
	fs.StringVar(&f.conf, "listener-conf", "", fmt.Sprintf("`JSON` of the NVMe/TCP address of the data plane (required), such as "+
		`'{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"%d"}'`, f.app.SvcPort))
	if f.app.Kind == "cn" {
		fs.StringVar(&f.backend, "backend-listener-conf", "", "`JSON` of another NVMe/TCP address of the data plane, for other controllers alone, "+
			"which --listener-conf is kept free of; what cn create --cn-backend-listener-conf says (default: they connect to --listener-conf)")
	}
	fs.StringVar(&f.transport, "transport-conf", "{}",
		"`JSON` of parameters of nvmf_create_transport, for a data plane that has no TCP transport yet")
	if f.app.Kind == "cn" {
		fs.Uint32Var(&c.RebuildMB, "rebuild-mbps", 0, "at most `N` MiB per second copied to legs of mirrors, repaired and compared, of all "+
			"arrays whose primary is here together, beside --rebuild-mbps of each array; 0 is no bound")
	}
	fs.StringVar(&c.StateDir, "state-dir", "",
		fmt.Sprintf("`DIR` for what the agent must remember (default /var/lib/vda/%s-PORT)", f.app.Name))
	fs.BoolVar(&c.ForgetVersions, "forget-versions", false, "instead of serving, forget the version and terms in --state-dir, "+
		"so that the next request is taken whatever its own are; see docs/daemons")
	program.Typed(fs, "forget-versions")
	fs.StringVar(&c.PlaneUnit, "data-plane-unit", "", "`UNIT` of systemd that the data plane runs as: of one that does not give its log away, "+
		"as spdk_tgt, or does not answer, a support bundle has the unit's journal (default none)")
	c.Member.AddEnrol(fs)
	c.AddScrape(fs)
	if f.app.Kind == "dn" {
		fs.DurationVar(&c.DiskErrorHold, "disk-error-hold", time.Hour, "how long a pd is in error after the last I/O error of its disk: "+
			"it takes no new vds, and no leg of a mirror is copied to it")
		fs.StringArrayVar(&c.AioDirs, "aio-dir", nil, "`DIR` below which the files and block devices of aio pds may lie, symbolic links "+
			"resolved; may be given again, and then replaces the default (default /dev and disks in --state-dir)")
	}
}

// config is what the command line asks for.
func (f *flags) config(fs *pflag.FlagSet) (Config, error) {
	c := f.Config
	if c.StateDir == "" {
		c.StateDir = filepath.Join("/var/lib/vda", fmt.Sprintf("%s-%d", f.app.Name, c.Port))
	}
	if c.ForgetVersions {
		return c, nil
	}
	for _, name := range []string{"sock-path", "listener-conf"} {
		if !fs.Changed(name) {
			return c, fmt.Errorf("--%s is required", name)
		}
	}
	if err := c.Check(); err != nil {
		return c, err
	}
	if err := decodeStrict(f.conf, &c.Address); err != nil {
		return c, fmt.Errorf(`--listener-conf %s: %w; it must be a JSON object with trtype, traddr, adrfam and trsvcid`, f.conf, err)
	}
	if f.backend != "" {
		if err := decodeStrict(f.backend, &c.Backend); err != nil {
			return c, fmt.Errorf("--backend-listener-conf %s: %w; it must be a JSON object with trtype, traddr, adrfam and trsvcid", f.backend, err)
		}
	}
	if err := decodeStrict(f.transport, &c.Transport); err != nil {
		return c, fmt.Errorf("--transport-conf %s: %w; it must be a JSON object", f.transport, err)
	}
	if t, ok := c.Transport["trtype"]; ok {
		if s, _ := t.(string); !strings.EqualFold(s, "tcp") {
			return c, fmt.Errorf(`--transport-conf: trtype %v must be "tcp"`, t)
		}
		delete(c.Transport, "trtype")
	}
	if c.Listener != "" && net.ParseIP(c.Listener) == nil {
		if _, err := net.LookupHost(c.Listener); err != nil {
			return c, fmt.Errorf("--listener %q must be an address of this machine", c.Listener)
		}
	}
	return c, c.Validate()
}

// Run serves until ctx ends.
func (m Main) Run(ctx context.Context) (err error) {
	cfg := m.Config
	if err := cfg.Validate(); err != nil {
		return err
	}
	lis := m.Lis
	if lis == nil {
		if lis, err = cfg.Listen(ctx); err != nil {
			return err
		}
	}
	defer lis.Close()
	state, err := OpenState(cfg.StateDir, m.Kind)
	if err != nil {
		return err
	}
	plane, err := NewPlane(cfg, m.Kind)
	if err != nil {
		return errors.Join(err, state.Close())
	}
	plane.State = state
	cfg.Member.Dir = filepath.Join(cfg.StateDir, identityDir)
	id, err := cfg.Member.Open(ctx, m.Kind, cfg.Log)
	if err != nil {
		return errors.Join(err, state.Close())
	}
	n := &Node{Cfg: cfg, State: state, Plane: plane, Log: cfg.Log}
	if m.Prepare != nil {
		m.Prepare(n)
	}
	if err := plane.Connect(ctx); err != nil {
		return errors.Join(err, plane.Close(), state.Close())
	}
	svc, err := m.Start(ctx, n)
	if err != nil {
		return errors.Join(err, plane.Close(), state.Close())
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	cfg.SayAlone(cfg.Log)
	cfg.Log.Info("serving", "addr", lis.Addr().String(), "data_plane", plane.Status().Version, "state_dir", cfg.StateDir)
	if m.Ready != nil {
		m.Ready <- lis.Addr().String()
	}
	keep, stop := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		member.Keep(keep, id, nil, cfg.Log)
	}()
	defer func() {
		stop()
		<-kept
	}()
	return m.serve(ctx, lis, svc, n, id)
}
