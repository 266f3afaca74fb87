package dbtest

import (
	"path/filepath"
	"testing"
)

// SQLite returns the URI of a database file in a new temporary directory.
// Nothing is in it yet. Writes are not synced: a test does not pull the plug.
func SQLite(t testing.TB) string {
	return "sqlite:///" + filepath.Join(t.TempDir(), "vda.db") + "?synchronous=off"
}
