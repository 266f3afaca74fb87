package store_test

import (
	"testing"

	"vda/store"
	"vda/store/dbtest"
	"vda/store/storetest"
)

func TestSQLite(t *testing.T) {
	uri := dbtest.SQLite(t)
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, uri)
}
