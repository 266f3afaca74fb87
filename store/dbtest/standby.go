package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresStandby starts a private PostgreSQL, as Postgres does, and a standby
// that follows it by streaming replication. Commits wait for the standby, so
// that a failover loses none. The URI names both servers.
func PostgresStandby(t testing.TB) (primary, standby *Server, uri string) {
	t.Helper()
	if os.Getenv("VDA_TEST_POSTGRES") != "" {
		t.Setenv("VDA_TEST_POSTGRES", "") // one that is not ours cannot be killed
	}
	primary, _ = Postgres(t)
	bin := filepath.Dir(primary.path)
	standby = newServer(t)
	data := filepath.Join(standby.dir, "data")
	standby.run(filepath.Join(bin, "pg_basebackup"), "-D", data, "-d", primary.uri("postgresql", "postgres", "x", "postgres"), "-X", "stream",
		"-c", "fast", "-R", "--no-sync")
	standby.path, standby.signal = primary.path, syscall.SIGQUIT
	standby.args = []string{"-D", data, "-p", fmt.Sprint(standby.port), "-h", "127.0.0.1", "-k", standby.dir, "-F",
		"-c", "full_page_writes=off",
		"-c", "deadlock_timeout=100ms", "-c", "max_connections=200", "-c", "shared_buffers=16MB", "-c", "hot_standby=on"}
	standby.Start()
	primary.admin("ALTER SYSTEM SET synchronous_standby_names = '*'")
	primary.admin("SELECT pg_reload_conf()")
	primary.await(func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, primary.uri("postgresql", "postgres", "x", "postgres"))
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		n := 0
		if err := c.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&n); err == nil && n != 1 {
			return fmt.Errorf("%d standbys follow", n)
		}
		return err
	})
	return primary, standby, fmt.Sprintf("postgresql://vda_user:vda_password@127.0.0.1:%d,127.0.0.1:%d/vda_db?target_session_attrs=read-write",
		primary.port, standby.port)
}

// admin runs one statement as the server's owner.
func (s *Server) admin(statement string) { s.AdminIn("postgres", statement) }

// AdminIn is Admin in one database of PostgreSQL.
func (s *Server) AdminIn(database, statement string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := pgx.Connect(ctx, s.uri("postgresql", "postgres", "x", database))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, statement); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
}

// Recover starts PostgreSQL again so that it recovers for ever and takes no
// connection; it returns once it refuses them.
func (s *Server) Recover() {
	s.t.Helper()
	s.Stop()
	if err := os.WriteFile(filepath.Join(s.args[1], "standby.signal"), nil, 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.args = append(s.args, "-c", "hot_standby=off")
	s.Start()
	s.await(func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, s.uri("postgresql", "postgres", "x", "postgres"))
		if err == nil {
			c.Close(ctx)
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			return nil
		}
		return fmt.Errorf("it does not refuse: %v", err)
	})
}

// Promote makes a standby the primary.
func (s *Server) Promote() { s.admin("SELECT pg_promote(true, 60)") }

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	s.cmd.Process.Signal(syscall.SIGKILL)
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		s.t.Errorf("%s did not end", filepath.Base(s.path))
	}
	s.cmd = nil
}
