package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
	"github.com/virtual-disk-array/vda/syncer"
)

// Main is a monitor with what it stands on.
type Main struct {
	// Flags say where it serves.
	daemon.Flags
	// Config is the monitor's, but for Store and Dial, which Run makes. Name is
	// by default the address where it listens.
	Config
	// Member says where the monitor's identity is.
	Member member.Flags
	// DatabaseURI names the cluster's database.
	DatabaseURI string
	// Ready, when not nil, gets the address once the monitor serves.
	Ready chan<- string
}

// Program is vda_monitor.
func Program() program.Program {
	m := Main{}
	c := &cobra.Command{
		Use:   "vda_monitor --db-uri URI [flags]",
		Short: "Watch the nodes of a VDA cluster and make them what the database says",
		Long: `vda_monitor asks every node how it is, writes changes of health to the database,
sends nodes what they lack, and moves the primaries of nodes that are down. Several
share the nodes of a cluster. It keeps nothing on disk; SIGTERM stops it.`,
	}
	db := m.flags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if err := m.Check(); err != nil {
			return err
		}
		if m.Name != "" && !isAddress(m.Name) {
			return fmt.Errorf("--advertise %q must be host:port, with a host that other machines reach", m.Name)
		}
		if m.Name != "" && m.Alone() {
			return fmt.Errorf("--advertise %s: other monitors would not reach it there, as it serves this machine alone; give --listener, too",
				m.Name)
		}
		if err := program.AboveZero(c.Flags(), "heartbeat-period", "heartbeat-timeout", "heartbeat-misses", "lease",
			"flap-wait", "full-sync-period", "sync-timeout", "parallel", "keep-events"); err != nil {
			return err
		}
		if err := m.Timing.validate(); err != nil {
			return err
		}
		m.Config.Log = m.Flags.Log(c.ErrOrStderr())
		if m.DatabaseURI, err = db.Get(); err != nil {
			return err
		}
		return m.Run(c.Context())
	}
	return program.Program{Root: c, Serves: true}
}

// flags defines the command line.
func (m *Main) flags(fs *pflag.FlagSet) *dbflag.URI {
	fs.SortFlags = false
	m.Add(fs, 9620, "gRPC (other monitors, health) and HTTP (/metrics, /healthz), on one port")
	db := dbflag.Add(fs)
	m.Member.AddDir(fs)
	m.Member.AddEnrol(fs)
	m.Flags.AddScrape(fs)
	t := &m.Timing
	fs.DurationVar(&t.Period, "heartbeat-period", 500*time.Millisecond, "time between heartbeats to a node")
	fs.DurationVar(&t.Timeout, "heartbeat-timeout", 450*time.Millisecond, "longest a heartbeat may take; below the period")
	fs.IntVar(&t.Misses, "heartbeat-misses", 6, "`N` heartbeats in a row without an answer until a node is down; a refused connection "+
		"counts as all of them")
	fs.DurationVar(&t.CnLease, "cn-lease", 0, "how long a primary that has lost a vd goes on after the last answered heartbeat; "+
		"below misses times period (0: two thirds of that)")
	fs.DurationVar(&t.ReachDelay, "reach-delay", 5*time.Second,
		"how long a primary must be cut off from a dn that is well before another takes over")
	fs.DurationVar(&t.ReachHold, "reach-hold", 30*time.Second, "how long a primary must have been primary before it is replaced for that")
	fs.DurationVar(&t.RepairAfter, "repair-after", 10*time.Minute, "how long a cn must be down before other cns get its controllers")
	fs.DurationVar(&t.ReplaceAfter, "replace-after", 10*time.Minute,
		"how long a leg of a mirrored array must be away before another is made in its place")
	fs.DurationVar(&t.FlapWait, "flap-wait", time.Minute,
		"how long a leg that was lost three times in 10 minutes waits before it is taken back; twice as long each further time, up to 16 times")
	fs.StringVar(&m.Name, "advertise", "", "`HOST:PORT` at which other monitors reach this one, needed when --listener is all of "+
		"this machine's (default where it listens)")
	fs.DurationVar(&t.Lease, "lease", 5*time.Second, "how long a monitor that is not heard of keeps its nodes")
	fs.DurationVar(&t.FullPeriod, "full-sync-period", time.Minute, "how often a node gets all its objects, changed or not")
	fs.DurationVar(&t.SyncTimeout, "sync-timeout", 20*time.Second, "longest one sync may take")
	fs.IntVar(&m.Parallel, "parallel", 64, "`N` syncs under way at once")
	fs.IntVar(&m.KeepEvents, "keep-events", 100_000, "keep the last `N` events; older ones are deleted")
	return db
}

// Run serves until ctx ends.
func (m Main) Run(ctx context.Context) error {
	if m.Config.Log == nil {
		m.Config.Log = slog.Default()
	}
	lis, err := m.Listen(ctx)
	if err != nil {
		return err
	}
	defer lis.Close()
	return m.serve(ctx, lis)
}

func (m Main) serve(ctx context.Context, lis net.Listener) (err error) {
	cfg := m.Config
	open, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cfg.Events = syncer.NewEventMetrics()
	cfg.Store, err = store.Open(open, m.DatabaseURI, store.OnEvent(cfg.Events.Count))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.Store.Close()) }()
	if cfg.ScrapeToken, err = m.Flags.ScrapeToken(); err != nil {
		return err
	}
	id := cfg.Identity
	if id == nil {
		if id, err = m.Member.Open(ctx, pki.Monitor, cfg.Log); err != nil {
			return err
		}
		cfg.Identity = id
	}
	if err := syncer.Secure(open, cfg.Store, id); err != nil {
		return err
	}
	pool := syncer.NewPool(rpc.DialConfig{Identity: id})
	defer pool.Close()
	cfg.Dial = pool
	if cfg.Name == "" {
		cfg.Name = lis.Addr().String()
		if m.Alone() { // on another machine that address would be another monitor's
			_, port, _ := net.SplitHostPort(cfg.Name)
			cfg.Name = net.JoinHostPort("", port)
		}
		if n := id.Name().Name; n != "" {
			cfg.Name = n
		}
	}
	if n := id.Name().Name; n != "" && n != cfg.Name {
		return fmt.Errorf("--advertise %s: the certificate is that of monitor %s; enrol with a token for this address", cfg.Name, n)
	}
	mon, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		mon.Run(ctx)
	}()
	defer func() {
		stop()
		<-watched
	}()
	m.SayAlone(cfg.Log)
	cfg.Log.Info("serving", "addr", lis.Addr().String(), "database", fmt.Sprint(cfg.Store))
	if m.Ready != nil {
		m.Ready <- lis.Addr().String()
	}
	return syncer.Guard(ctx, cfg.Store, id, nil, cfg.Log, func(ctx context.Context) error { return mon.Serve(ctx, lis) })
}
