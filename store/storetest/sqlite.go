package storetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// SQLite returns the URI of a SQLite file of its own with the schema in it. The schema is made
// once per process and copied, as to make it takes a second under the race detector: all
// these databases say that they are of the same cluster.
func SQLite(t testing.TB) string {
	t.Helper()
	uri := dbtest.SQLite(t)
	file, _, _ := strings.Cut(strings.TrimPrefix(uri, "sqlite:///"), "?")
	SQLiteAt(t, file)
	return uri
}

// SQLiteAt is SQLite with a file of the caller's, which syncs what is written.
func SQLiteAt(t testing.TB, file string) (uri string) {
	t.Helper()
	b, err := made()
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "sqlite:///" + file
}

// made is the content of such a file.
var made = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "schema")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "vda.db")
	if _, _, err := store.Create(context.Background(), "sqlite:///"+file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})
