package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
	"github.com/virtual-disk-array/vda/syncer"
)

// flags are vda_portal's command line.
type flags struct {
	daemon.Flags
	db          *dbflag.URI
	syncTimeout time.Duration
}

// stopTime bounds how long a stopping portal waits for requests under way.
const stopTime = 10 * time.Second

// Main runs vda_portal until SIGTERM or SIGINT and returns its exit status: 0,
// or 1 after one line that says what is wrong.
func Main(args []string, stderr io.Writer) int {
	ctx, stop := daemon.Context()
	defer stop()
	err := run(ctx, args, stderr)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(stderr, "vda_portal:", reason.Full(err))
	return 1
}

func parseFlags(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{}
	set := pflag.NewFlagSet("vda_portal", pflag.ContinueOnError)
	set.SetOutput(stderr)
	set.SortFlags = false
	f.Add(set, 9520, "gRPC")
	f.db = dbflag.Add(set)
	set.DurationVar(&f.syncTimeout, "sync-timeout", 20*time.Second, "how long a reply waits for nodes; vda_monitor finishes what takes longer")
	set.Usage = func() {
		fmt.Fprintf(stderr, "vda_portal serves VDA's gRPC API, with health and reflection. It keeps nothing but\nwhat is in the database; SIGTERM stops it once the requests under way have ended.\n\nUsage:\n  vda_portal --db-uri URI [flags]\n\nFlags:\n%s", set.FlagUsages())
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected %q: every value belongs to a flag", set.Arg(0))
	}
	return f, f.Check()
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	f, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	log := f.Log(stderr)
	uri, err := f.db.Get()
	if err != nil {
		return err
	}
	// The address first: a second portal on the port should not touch the
	// database.
	lis, err := f.Listen(ctx)
	if err != nil {
		return err
	}
	defer lis.Close()
	db, err := store.Open(ctx, uri)
	if err != nil {
		return err
	}
	pool := syncer.NewPool(rpc.DialConfig{})
	sy, err := syncer.New(syncer.Config{Store: db, Dial: pool, Log: log})
	if err != nil {
		return err
	}
	s, err := New(Config{Store: db, Syncer: sy, Failover: sy, Log: log, SyncTimeout: f.syncTimeout})
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		s.Stop(grace)
	}()
	log.Info("serving", "addr", lis.Addr().String())
	if err := s.Serve(lis); err != nil {
		return err
	}
	<-s.done
	log.Info("stopped")
	return errors.Join(pool.Close(), db.Close())
}
