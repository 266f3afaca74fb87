package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
	"github.com/virtual-disk-array/vda/syncer"
)

// App is the monitor as a program.
type App struct {
	// Stderr gets the log and, in one line, why the program failed.
	Stderr io.Writer
	// Stdout gets --help.
	Stdout io.Writer
	// Ready, when not nil, gets the address once the program serves.
	Ready chan<- string
}

// Main runs vda_monitor with the arguments after the program's name until ctx
// ends, and returns its exit code.
func (a App) Main(ctx context.Context, args []string) int {
	err := a.run(ctx, args)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(a.Stderr, "vda_monitor:", reason.Full(err))
		return 1
	}
	return 0
}

func (a App) run(ctx context.Context, args []string) error {
	fs := pflag.NewFlagSet("vda_monitor", pflag.ContinueOnError)
	fs.SetOutput(a.Stdout)
	fs.SortFlags = false
	var f daemon.Flags
	f.Add(fs, 9620, "gRPC (health, reflection) and HTTP (/metrics, /healthz)")
	db := dbflag.Add(fs)
	cfg := Config{}
	t := &cfg.Timing
	fs.DurationVar(&t.Period, "heartbeat-period", 500*time.Millisecond, "time between heartbeats to a node")
	fs.DurationVar(&t.Timeout, "heartbeat-timeout", 450*time.Millisecond, "longest a heartbeat may take; below the period")
	fs.IntVar(&t.Misses, "heartbeat-misses", 6, "heartbeats in a row without an answer until a node is down; a refused connection counts as all")
	fs.DurationVar(&t.CnLease, "cn-lease", 0, "how long a primary that has lost a vd goes on after the last heartbeat; below misses times period (default two thirds of that)")
	fs.DurationVar(&t.ReachDelay, "reach-delay", 5*time.Second, "how long a primary must be cut off from a dn that is well before another takes over")
	fs.DurationVar(&t.ReachHold, "reach-hold", 30*time.Second, "how long a primary must have been primary before it is replaced for that")
	fs.DurationVar(&t.RepairAfter, "repair-after", 10*time.Minute, "how long a cn must be down before its controllers are made anew on other cns")
	fs.StringVar(&cfg.Name, "advertise", "", "host:port at which other monitors reach this one (default where it listens)")
	fs.DurationVar(&t.Lease, "lease", 5*time.Second, "how long a monitor that is not heard of keeps its nodes")
	fs.DurationVar(&t.FullPeriod, "full-sync-period", time.Minute, "how often a node gets all its objects, changed or not")
	fs.DurationVar(&t.SyncTimeout, "sync-timeout", 20*time.Second, "longest one sync may take")
	fs.IntVar(&cfg.Parallel, "parallel", 64, "syncs under way at once")
	fs.Usage = func() {
		fmt.Fprintf(a.Stdout, "usage: vda_monitor --db-uri URI [flags]\n\nWatches the nodes of a VDA cluster and makes them what the database says.\n\n%s", fs.FlagUsages())
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err := f.Check(); err != nil {
		return err
	}
	if cfg.Name != "" && !isAddress(cfg.Name) {
		return fmt.Errorf("--advertise %q must be host:port, with a host that other machines reach", cfg.Name)
	}
	cfg.Log = f.Log(a.Stderr)
	if err := t.validate(); err != nil {
		return err
	}
	uri, err := db.Get()
	if err != nil {
		return err
	}
	lis, err := f.Listen(ctx)
	if err != nil {
		return err
	}
	defer lis.Close()
	return a.serve(ctx, cfg, uri, lis)
}

func (a App) serve(ctx context.Context, cfg Config, uri string, lis net.Listener) (err error) {
	open, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cfg.Store, err = store.Open(open, uri)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.Store.Close()) }()
	pool := syncer.NewPool(rpc.DialConfig{})
	defer pool.Close()
	cfg.Dial = pool
	if cfg.Name == "" {
		cfg.Name = lis.Addr().String()
	}
	m, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		m.Run(ctx)
	}()
	defer func() {
		stop()
		<-watched
	}()
	cfg.Log.Info("serving", "addr", lis.Addr().String(), "database", fmt.Sprint(cfg.Store))
	if a.Ready != nil {
		a.Ready <- lis.Addr().String()
	}
	return m.Serve(ctx, lis)
}
