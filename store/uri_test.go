package store

import (
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
)

func TestParseURI(t *testing.T) {
	for _, c := range []struct{ uri, where, err string }{
		{"sqlite:////var/lib/vda/vda.db", "sqlite /var/lib/vda/vda.db", ""},
		{"sqlite:////a%20b?synchronous=normal", "sqlite /a b", ""},
		{"sqlite:////a?x=1", "", `option "x"`},
		{"sqlite:////a?synchronous=never", "", "synchronous"},
		{"sqlite://host/a", "", "no host"},
		{"sqlite:///", "", "in memory"},
		{"sqlite:///:memory:", "", "in memory"},
		{"sqlite:////%zz", "", "escape"},
		{"postgresql://vda_user:vda_password@192.168.0.10:5432/vda_db", "postgresql 192.168.0.10:5432/vda_db", ""},
		{"postgres://u:p@h/d", "postgresql h:5432/d", ""},
		{"postgresql+psycopg2://u:p@h:1/d?sslmode=disable", "postgresql h:1/d", ""},
		{"POSTGRESQL://u:p@h:1/d", "postgresql h:1/d", ""},
		{"postgresql://u:p@h1:1,h2:2,[::1]:3/d?target_session_attrs=read-write", "postgresql h1:1,h2:2,[::1]:3/d", ""},
		{"postgresql://u:secret/@h/d", "", "not a PostgreSQL URI"},
		{"postgresql://u:secret@h:port/d", "", "not a PostgreSQL URI"},
		{"postgresql://u:secret@h/d?sslmode=sometimes", "", "not a PostgreSQL URI"},
		{"mysql://u:p@h/d", "mysql h:3306/d", ""},
		{"mysql+pymysql://u:p@h:33060/d?charset=utf8mb4", "mysql h:33060/d", ""},
		{"mariadb://u:p@[::1]/d", "mysql [::1]:3306/d", ""},
		{"mysql://u:p@/d?unix_socket=/run/mysqld/mysqld.sock", "mysql /run/mysqld/mysqld.sock/d", ""},
		{"mysql://u:p@h/d?connect_timeout=7", "mysql h:3306/d", ""},
		{"mysql://u:p@h/d?connect_timeout=soon", "", "number of seconds"},
		{"mysql://u:secret@h/", "", "no database name"},
		{"mysql://u:secret@h/d?secret_option=1", "", "secret_option"},
		{"mysql://u:secret#@h/d", "", "not a MySQL URI"},
		{"mysql://u:secret@h:port/d", "", "not a MySQL URI"},
		{"mysql://u:p@h/d?tls=unheard-of", "mysql h:3306/d", ""}, // refused by the driver on connect
		{"oracle://u:secret@h/d", "", `scheme "oracle"`},
		{"vda.db", "", "no scheme"},
		{"", "", "no scheme"},
	} {
		got, err := parseURI(c.uri)
		if c.err != "" {
			if err == nil || vda.KindOf(err) != vda.InvalidArgument || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.uri, err, c.err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") && c.err != "secret_option" {
				t.Errorf("%s: the password is in %q", c.uri, err)
			}
			continue
		}
		if err != nil || got.where != c.where {
			t.Errorf("%s: %v, %v; want %q", c.uri, got, err, c.where)
		}
	}
}

func TestURIOptions(t *testing.T) {
	my, err := parseURI("mysql://us%40er:p%2Fw@h/d?connect_timeout=7")
	if err != nil {
		t.Fatal(err)
	}
	if m := my.mysql; m.User != "us@er" || m.Passwd != "p/w" || m.Timeout != 7*time.Second || !m.ClientFoundRows {
		t.Errorf("mysql: %+v", m)
	}
	pg, err := parseURI("postgresql://us%40er:p%2Fw@h/d")
	if err != nil {
		t.Fatal(err)
	}
	if p := pg.postgres; p.User != "us@er" || p.Password != "p/w" || p.RuntimeParams["search_path"] != "vda" ||
		p.ConnectTimeout != connectTimeout {
		t.Errorf("postgres: %+v", p.Config)
	}
	pg, err = parseURI("postgresql://u@h/d?search_path=mine&connect_timeout=3")
	if err != nil {
		t.Fatal(err)
	}
	if p := pg.postgres; p.RuntimeParams["search_path"] != "mine" || p.ConnectTimeout != 3*time.Second {
		t.Errorf("postgres: %+v", p.RuntimeParams)
	}
	lite, err := parseURI("sqlite:////x?synchronous=off")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"journal_mode%28wal%29", "synchronous%28off%29", "foreign_keys%281%29", "busy_timeout%285000%29"} {
		if !strings.Contains(lite.sqlite, want) {
			t.Errorf("%s lacks %s", lite.sqlite, want)
		}
	}
}

// FuzzParseURI checks that nothing crashes and no error shows a password.
func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"sqlite:////a", "postgresql://u:hunter2@h:1,h2:2/d?sslmode=disable", "mysql://u:hunter2@h:1/d?tls=true",
		"mysql://u:hunter2@[::1/d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		tg, err := parseURI(uri)
		if (tg == nil) == (err == nil) {
			t.Fatalf("target %v, error %v", tg, err)
		}
		if err != nil && strings.Contains(uri, ":hunter2@") && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in %q", err)
		}
	})
}

func TestToken(t *testing.T) {
	for _, k := range [][2]string{{"a", "1"}, {"", "1"}, {"磁\x00\"'", "f"}} {
		name, id, err := readToken(writeToken(k[0], k[1]))
		if err != nil || name != k[0] || id != k[1] {
			t.Errorf("%q became %q %q, %v", k, name, id, err)
		}
	}
	for _, bad := range []string{"x", "!!", writeToken("a", ""), "bnVsbA"} {
		if _, _, err := readToken(bad); vda.KindOf(err) != vda.InvalidArgument {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRebind(t *testing.T) {
	const q = "UPDATE t SET a = ?, b = ? WHERE c = ?"
	if got := postgresDialect.rebind(q); got != "UPDATE t SET a = $1, b = $2 WHERE c = $3" {
		t.Errorf("postgres: %s", got)
	}
	if got := mysqlDialect.rebind(q); got != q {
		t.Errorf("mysql: %s", got)
	}
}
