package store_test

import (
	"testing"

	"vda/store"
	"vda/store/dbtest"
	"vda/store/storetest"
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
