package store_test

import (
	"testing"

	"vda/store"
	"vda/store/dbtest"
	"vda/store/storetest"
)

func conform(t *testing.T, uri string) {
	t.Helper()
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, uri)
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	conform(t, dbtest.SQLite(t))
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	srv, uri := dbtest.Postgres(t)
	conform(t, uri)
	if srv != nil {
		t.Run("Outage", func(t *testing.T) { storetest.Outage(t, uri, srv.Stop, srv.Start) })
	}
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	srv, uri := dbtest.MariaDB(t)
	conform(t, uri)
	if srv != nil {
		t.Run("Outage", func(t *testing.T) { storetest.Outage(t, uri, srv.Stop, srv.Start) })
	}
}
