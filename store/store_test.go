package store_test

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// conform runs every suite on an empty database. srv, when not nil, is its
// server, which may go away. prepare is SQL that a foreign table needs.
func conform(t *testing.T, srv *dbtest.Server, uri string, prepare ...string) {
	t.Helper()
	t.Run("Schema", func(t *testing.T) {
		db, err := store.Raw(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		raw := storetest.Exec(t, db)
		for _, q := range prepare {
			raw(q)
		}
		storetest.Schema(t, uri, raw)
	})
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, uri)
	t.Run("ViewIsReadOnly", func(t *testing.T) {
		if err := store.WriteInView(t.Context(), uri); err == nil {
			t.Error("the database let a view write")
		}
	})
	t.Run("Backup", func(t *testing.T) { backupAndRestore(t, uri) })
	if srv != nil {
		t.Run("Outage", func(t *testing.T) { storetest.Outage(t, uri, srv.Stop, srv.Start) })
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	conform(t, nil, dbtest.SQLite(t))
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	srv, uri := dbtest.Postgres(t)
	conform(t, srv, uri, "CREATE SCHEMA IF NOT EXISTS vda")
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	srv, uri := dbtest.MariaDB(t)
	conform(t, srv, uri)
}

// TestReaderOnlyReads: what a view gets has no method that writes, so a view
// that writes does not compile.
func TestReaderOnlyReads(t *testing.T) {
	reader, tx := reflect.TypeFor[store.Reader](), reflect.TypeFor[store.Tx]()
	if !tx.Implements(reader) || reader.Implements(tx) {
		t.Error("a Tx is not a Reader with more")
	}
	writes := regexp.MustCompile("^(Insert|Update|Delete|Set|Bump|Raise|Take|Give|Beat|Upsert)[A-Z]|^Record$")
	for m := range reader.NumMethod() {
		if name := reader.Method(m).Name; writes.MatchString(name) {
			t.Errorf("a view can %s", name)
		}
	}
	for m := range tx.NumMethod() {
		name := tx.Method(m).Name
		if _, reads := reader.MethodByName(name); !reads && !writes.MatchString(name) {
			t.Errorf("%s reads and a view lacks it, or writes by a name that this test does not know", name)
		}
	}
}

// The first of two servers takes connections and says nothing, as one that
// hangs does: the other is used.
func TestPostgresHostThatHangs(t *testing.T) {
	t.Parallel()
	_, uri := dbtest.Postgres(t)
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	both := strings.Replace(uri, "@", "@"+hung.Addr().String()+",", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// A server among several has a second to answer, which one that is well can miss on a busy machine.
	again := func(what string, try func() error) {
		t.Helper()
		for err := try(); err != nil; err = try() {
			if ctx.Err() != nil || vda.KindOf(err) != vda.Unavailable {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	again("create", func() error {
		_, _, err := store.Create(ctx, both)
		return err
	})
	var s store.Store
	again("open", func() (err error) {
		s, err = store.Open(ctx, both)
		return err
	})
	defer s.Close()
	if !strings.Contains(fmt.Sprint(s), hung.Addr().String()+",") {
		t.Errorf("%v does not name both hosts", s)
	}
}
