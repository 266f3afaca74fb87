package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
	"github.com/virtual-disk-array/vda/store/storetest"
)

func create(t *testing.T, uri string) {
	t.Helper()
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
}

// TestFaultsPostgres: what a PostgreSQL server can be the matter with is an
// error of the database, in words that name neither it nor its user.
func TestFaultsPostgres(t *testing.T) {
	t.Setenv("VDA_TEST_POSTGRES", "") // a server of others must not be broken
	srv, uri := dbtest.Postgres(t)
	create(t, uri)
	open := func(uri string) func() error {
		return func() error { _, err := store.Open(t.Context(), uri); return err }
	}
	for _, f := range []storetest.Fault{
		{Name: "hung", URI: uri, Kind: vda.Unavailable, Says: "does not answer in time", Begin: srv.Hang, Limit: time.Second},
		{Name: "statement_timeout", URI: uri + "?statement_timeout=300", Kind: vda.Unavailable, Says: "statement_timeout", Locked: true},
		{Name: "lock_timeout", URI: uri + "?lock_timeout=50", Kind: vda.Conflict, Says: "is busy", Locked: true, Limit: 4 * time.Second},
		{Name: "read-only", URI: uri + "?default_transaction_read_only=on", Kind: vda.Unavailable, Says: "is read-only"},
		{Name: "too many connections", URI: uri, Kind: vda.Unavailable, Says: "no connection free", Open: func() error {
			srv.Admin("ALTER ROLE vda_user CONNECTION LIMIT 0")
			defer srv.Admin("ALTER ROLE vda_user CONNECTION LIMIT -1")
			return open(uri)()
		}},
		{Name: "login", Kind: vda.FailedPrecondition, Says: "refuses the login", Open: open(strings.Replace(uri, "/vda_db", "/another", 1))},
		{Name: "rights", URI: uri, Kind: vda.FailedPrecondition, Says: "lacks a right", Begin: func() func() {
			srv.AdminIn("vda_db", "REVOKE ALL ON vda.vda_dn FROM vda_user")
			return func() { srv.AdminIn("vda_db", "GRANT ALL ON vda.vda_dn TO vda_user") }
		}},
		{Name: "recovery", Kind: vda.Unavailable, Says: "is starting, recovering", Open: func() error {
			srv.Recover()
			return open(uri)()
		}},
	} {
		t.Run(f.Name, f.Check)
	}
}

// TestFaultsMariaDB is the same of MariaDB.
func TestFaultsMariaDB(t *testing.T) {
	t.Setenv("VDA_TEST_MYSQL", "")
	srv, uri := dbtest.MariaDB(t)
	create(t, uri)
	global := func(name, value, before string) func() func() {
		return func() func() {
			srv.Admin("SET GLOBAL " + name + "=" + value)
			return func() { srv.Admin("SET GLOBAL " + name + "=" + before) }
		}
	}
	for _, f := range []storetest.Fault{
		{Name: "hung", URI: uri, Kind: vda.Unavailable, Says: "does not answer in time", Begin: srv.Hang, Limit: time.Second},
		{Name: "read-only", URI: uri, Kind: vda.Unavailable, Says: "is read-only", Begin: global("read_only", "1", "0")},
		{Name: "too many connections", Kind: vda.Unavailable, Says: "no connection free", Open: func() error {
			defer global("max_connections", "10", "151")()()
			for range 20 { // each keeps its connection
				s, err := store.Open(t.Context(), uri)
				if err != nil {
					return err
				}
				defer s.Close()
			}
			return nil
		}},
		{Name: "max_statement_time", URI: uri, Kind: vda.Unavailable, Says: "a time limit of its own", Open: func() error {
			defer global("max_statement_time", "0.3", "0")()()
			return storetest.Fault{Name: "max_statement_time", URI: uri, Locked: true}.Meet(t)
		}},
		{Name: "login", Kind: vda.FailedPrecondition, Says: "refuses the login", Open: func() error {
			_, err := store.Open(t.Context(), strings.Replace(uri, "/vda_db", "/another", 1))
			return err
		}},
	} {
		t.Run(f.Name, f.Check)
	}
}

// TestFaultsSQLite is the same of a file.
func TestFaultsSQLite(t *testing.T) {
	uri := dbtest.SQLite(t)
	create(t, uri)
	for _, f := range []storetest.Fault{
		{Name: "locked", URI: uri, Kind: vda.Conflict, Says: "is busy", Limit: 15 * time.Second, Begin: func() func() {
			db, err := store.Raw(t.Context(), uri)
			if err != nil {
				t.Fatal(err)
			}
			tx, err := db.Begin()
			if err == nil {
				_, err = tx.Exec("DELETE FROM vda_monitor")
			}
			if err != nil {
				t.Fatal(err)
			}
			return func() { tx.Rollback(); db.Close() }
		}},
	} {
		t.Run(f.Name, f.Check)
	}
}
