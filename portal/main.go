package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"vda/store"
	"vda/syncer"
)

// flags are vda_portal's command line.
type flags struct {
	listener    string
	port        int
	dbURI       string
	dbURIFile   string
	syncTimeout time.Duration
	logLevel    string
}

// uriEnv names the database where no command line shows its password.
const uriEnv = "VDA_DB_URI"

// stopTime bounds how long a stopping portal waits for requests under way.
const stopTime = 10 * time.Second

// Main runs vda_portal until SIGTERM or SIGINT and returns its exit status: 0,
// or 1 after one line that says what is wrong.
func Main(args []string, getenv func(string) string, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, args, getenv, stderr)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(stderr, "vda_portal:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return 1
}

func parseFlags(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{}
	set := pflag.NewFlagSet("vda_portal", pflag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.listener, "listener", "0.0.0.0", "`ADDRESS` to serve gRPC on")
	set.IntVar(&f.port, "port", 9520, "TCP port to serve gRPC on")
	set.StringVar(&f.dbURI, "db-uri", "", "`URI` of the database: postgresql://USER:PASSWORD@HOST:PORT/DB, mysql://… or sqlite:////PATH")
	set.StringVar(&f.dbURIFile, "db-uri-file", "", "`FILE` that holds the URI, so that no password stands on the command line; the environment variable "+uriEnv+" does too")
	set.DurationVar(&f.syncTimeout, "sync-timeout", 20*time.Second, "how long a reply waits for nodes; vda_monitor finishes what takes longer")
	set.StringVar(&f.logLevel, "log-level", "info", "what to log on standard error: debug, info, warn or error")
	set.Usage = func() {
		fmt.Fprintf(stderr, "vda_portal serves VDA's gRPC API, with health and reflection. It keeps nothing but\nwhat is in the database; SIGTERM stops it once the requests under way have ended.\n\nUsage:\n  vda_portal --db-uri URI [flags]\n\nFlags:\n%s", set.FlagUsages())
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected %q: every value belongs to a flag", set.Arg(0))
	}
	if f.port < 1 || f.port > 65535 {
		return nil, fmt.Errorf("--port %d: a port is 1 to 65535", f.port)
	}
	return f, nil
}

// uri is the database's, from the one place that has it.
func (f *flags) uri(getenv func(string) string) (string, error) {
	switch {
	case f.dbURI != "" && f.dbURIFile != "":
		return "", errors.New("--db-uri and --db-uri-file are both given; give one")
	case f.dbURI != "":
		return f.dbURI, nil
	case f.dbURIFile != "":
		b, err := os.ReadFile(f.dbURIFile)
		if err != nil {
			return "", fmt.Errorf("--db-uri-file: %w", err)
		}
		uri := strings.TrimSpace(string(b))
		if uri == "" {
			return "", fmt.Errorf("--db-uri-file %s is empty; it must hold the database's URI", f.dbURIFile)
		}
		return uri, nil
	case getenv(uriEnv) != "":
		return getenv(uriEnv), nil
	}
	return "", fmt.Errorf("no database: give --db-uri, --db-uri-file or %s", uriEnv)
}

func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	f, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: it must be debug, info, warn or error", f.logLevel)
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	uri, err := f.uri(getenv)
	if err != nil {
		return err
	}
	// The address first: a second portal on the port should not touch the
	// database.
	lis, err := listen(ctx, f.listener, f.port)
	if err != nil {
		return err
	}
	defer lis.Close()
	db, err := store.Open(ctx, uri)
	if err != nil {
		return err
	}
	pool := syncer.NewPool()
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

// listen takes the port. Go sets no SO_REUSEPORT, so a port that another
// portal serves is refused.
func listen(ctx context.Context, host string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--port %d is in use on %s: another process serves it", port, host)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on --listener %s --port %d: %w", host, port, err)
	}
	return lis, nil
}
