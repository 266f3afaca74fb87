package dbtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Postgres starts a private PostgreSQL with a database vda_db that vda_user
// may use just as the tutorial grants it; settings are name=value of its own. It is nil when VDA_TEST_POSTGRES
// names a server, whose URI is returned in either case.
func Postgres(t testing.TB, settings ...string) (*Server, string) {
	t.Helper()
	if uri := os.Getenv("VDA_TEST_POSTGRES"); uri != "" {
		return nil, uri
	}
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		missing(t, "no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql")
	}
	bin := bins[len(bins)-1]
	s := newServer(t)
	data := filepath.Join(s.dir, "data")
	s.run(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
	s.path = filepath.Join(bin, "postgres")
	s.args = []string{"-D", data, "-p", fmt.Sprint(s.port), "-h", "127.0.0.1", "-k", s.dir, "-F", "-c", "full_page_writes=off",
		"-c", "deadlock_timeout=100ms", "-c", "max_connections=200", "-c", "shared_buffers=16MB"}
	for _, v := range settings {
		s.args = append(s.args, "-c", v)
	}
	s.signal = syscall.SIGQUIT // immediate shutdown: connections are cut
	s.URI = s.uri("postgresql", "vda_user", "vda_password", "vda_db")
	s.Start()
	s.await(func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, s.uri("postgresql", "postgres", "x", "postgres"))
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		for _, q := range []string{"CREATE DATABASE vda_db", "CREATE USER vda_user WITH ENCRYPTED PASSWORD 'vda_password'",
			"GRANT ALL PRIVILEGES ON DATABASE vda_db TO vda_user"} {
			if _, err := c.Exec(ctx, q); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
		}
		return nil
	})
	return s, s.URI
}
