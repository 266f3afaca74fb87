package portal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/portal/web"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
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
	// WebTokenFile has the token of pages and REST in its first line. "": a token is
	// made, and printed to Err.
	WebTokenFile string
	// NoWeb serves neither pages nor REST.
	NoWeb bool
	// Err gets a token that was made. Default os.Stderr.
	Err io.Writer
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
	fs.StringVar(&m.WebTokenFile, "web-token-file", "",
		"file with the token for web pages and REST in its first line, the same for all portals; without it each makes one, and prints it")
	fs.BoolVar(&m.NoWeb, "no-web", false, "serve no web pages and no REST")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if err := m.Check(); err != nil {
			return err
		}
		if err := program.AboveZero(c.Flags(), "sync-timeout"); err != nil {
			return err
		}
		m.Err = c.ErrOrStderr()
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
	token, err := m.webToken()
	if err != nil {
		return err
	}
	// The address first: a second portal on the port should not touch the
	// database.
	lis, err := m.Listen(ctx)
	if err != nil {
		return err
	}
	defer lis.Close()
	events := syncer.NewEventMetrics()
	db, err := store.Open(ctx, m.DatabaseURI, store.OnEvent(events.Count))
	if err != nil {
		return err
	}
	pool := syncer.NewPool(rpc.DialConfig{})
	sy, err := syncer.New(syncer.Config{Store: db, Dial: pool, Log: log})
	if err != nil {
		return err
	}
	s, err := New(Config{Store: db, Syncer: sy, Failover: sy, Programs: pool, Events: events, Log: log, SyncTimeout: m.SyncTimeout,
		WebToken: token})
	if err != nil {
		return err
	}
	log.Info("serving", "addr", lis.Addr().String())
	if token != "" && m.WebTokenFile == "" {
		m.printToken(lis.Addr().String(), token)
	}
	if m.Ready != nil {
		m.Ready <- lis.Addr().String()
	}
	if err := s.Serve(ctx, lis); err != nil {
		return err
	}
	log.Info("stopped")
	return errors.Join(pool.Close(), db.Close())
}

// webToken is the token of pages and REST, "" for none.
func (m Main) webToken() (string, error) {
	switch {
	case m.NoWeb && m.WebTokenFile != "":
		return "", errors.New("--web-token-file is of no use with --no-web: give one of them")
	case m.NoWeb:
		return "", nil
	case m.WebTokenFile == "":
		return rand.Text(), nil
	}
	b, err := os.ReadFile(m.WebTokenFile)
	if err != nil {
		return "", fmt.Errorf("--web-token-file: %s", reason.Of(err))
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSpace(line)
	if len(line) < web.MinToken {
		return "", fmt.Errorf("--web-token-file %s: its first line has %d characters; a token has %d at least, as \"openssl rand -hex 16\" makes",
			m.WebTokenFile, len(line), web.MinToken)
	}
	return line, nil
}

// printToken tells the person who started the portal, past the log.
func (m Main) printToken(addr, token string) {
	to := m.Err
	if to == nil {
		to = os.Stderr
	}
	// One who reads nothing needs no token.
	_, _ = fmt.Fprintf(to, "web page: http://%s/ with the token %s\n", addr, token)
}
