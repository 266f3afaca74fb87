package portal

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
	"github.com/virtual-disk-array/vda/syncer"
)

// Main is a portal with what it stands on.
type Main struct {
	// Flags say where it serves.
	daemon.Flags
	// DatabaseURI names the cluster's database.
	DatabaseURI string
	// SyncTimeout is Config.SyncTimeout.
	SyncTimeout time.Duration
	// Log gets what the portal does. Default slog.Default().
	Log *slog.Logger
	// Ready, when not nil, gets the address once the portal serves.
	Ready chan<- string
}

// Program is vda_portal.
func Program() program.Program {
	m := Main{}
	c := &cobra.Command{
		Use:   "vda_portal --db-uri URI [flags]",
		Short: "Serve VDA's gRPC API",
		Long: `vda_portal serves VDA's gRPC API, with health and reflection. It keeps nothing but
what is in the database; SIGTERM stops it once the requests under way have ended.`,
	}
	fs := c.Flags()
	fs.SortFlags = false
	m.Add(fs, 9520, "gRPC, and HTTP (/metrics, /healthz)")
	db := dbflag.Add(fs)
	fs.DurationVar(&m.SyncTimeout, "sync-timeout", 20*time.Second,
		"how long a reply waits for nodes; vda_monitor finishes what takes longer")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if err := m.Check(); err != nil {
			return err
		}
		if err := program.AboveZero(c.Flags(), "sync-timeout"); err != nil {
			return err
		}
		m.Log = m.Flags.Log(c.ErrOrStderr())
		if m.DatabaseURI, err = db.Get(); err != nil {
			return err
		}
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
	// The address first: a second portal on the port should not touch the
	// database.
	lis, err := m.Listen(ctx)
	if err != nil {
		return err
	}
	defer lis.Close()
	db, err := store.Open(ctx, m.DatabaseURI)
	if err != nil {
		return err
	}
	pool := syncer.NewPool(rpc.DialConfig{})
	sy, err := syncer.New(syncer.Config{Store: db, Dial: pool, Log: log})
	if err != nil {
		return err
	}
	s, err := New(Config{Store: db, Syncer: sy, Failover: sy, Programs: pool, Log: log, SyncTimeout: m.SyncTimeout})
	if err != nil {
		return err
	}
	log.Info("serving", "addr", lis.Addr().String())
	if m.Ready != nil {
		m.Ready <- lis.Addr().String()
	}
	if err := s.Serve(ctx, lis); err != nil {
		return err
	}
	log.Info("stopped")
	return errors.Join(pool.Close(), db.Close())
}
