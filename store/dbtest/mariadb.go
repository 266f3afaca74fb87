package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MariaDB starts a private MariaDB with a database vda_db for vda_user. It is
// nil when VDA_TEST_MYSQL names a server, whose URI is returned in either
// case.
func MariaDB(t testing.TB) (*Server, string) {
	t.Helper()
	if uri := os.Getenv("VDA_TEST_MYSQL"); uri != "" {
		return nil, uri
	}
	path, err := exec.LookPath("mariadbd")
	if err != nil {
		path = "/usr/sbin/mariadbd" // not in every user's PATH
	}
	install, err := exec.LookPath("mariadb-install-db")
	if _, err2 := os.Stat(path); err != nil || err2 != nil {
		missing(t, "no MariaDB server (mariadbd, mariadb-install-db): apt-get install mariadb-server")
	}
	s := newServer(t)
	s.path = path
	s.signal = syscall.SIGTERM
	data := filepath.Join(s.dir, "data")
	socket := filepath.Join(s.dir, "sock")
	s.run(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db",
		"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-log-file-size=8M")
	s.args = []string{"--no-defaults", "--datadir=" + data, "--socket=" + socket, "--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", s.port),
		"--pid-file=" + filepath.Join(s.dir, "pid"), "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
		"--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M", "--innodb-fast-shutdown=2", "--skip-log-bin", "--tmpdir=" + s.dir}
	s.URI = s.uri("mysql", "vda_user", "vda_password", "vda_db")
	s.Start()
	s.await(func(ctx context.Context) error {
		cfg := mysql.NewConfig()
		cfg.User, cfg.Net, cfg.Addr = "root", "unix", socket
		cfg.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return err
		}
		db := sql.OpenDB(connector)
		defer db.Close()
		if err := db.PingContext(ctx); err != nil {
			return err
		}
		for _, q := range []string{"CREATE DATABASE vda_db", "CREATE USER vda_user@'127.0.0.1' IDENTIFIED BY 'vda_password'",
			"GRANT ALL ON vda_db.* TO vda_user@'127.0.0.1'"} {
			if _, err := db.ExecContext(ctx, q); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
		}
		return nil
	})
	return s, s.URI
}
