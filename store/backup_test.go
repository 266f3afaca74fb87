package store_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// backupAndRestore takes what is in a database through a backup into SQLite and back
// again.
func backupAndRestore(t *testing.T, uri string) {
	ctx, dir := t.Context(), t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	before, err := store.Status(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	first, err := store.Backup(ctx, uri, file("first"))
	if err != nil {
		t.Fatal(err)
	}
	if first.ClusterID != before.ClusterID || first.Schema != before.Version || first.Rows < 10 {
		t.Errorf("backed up: %+v, of %+v", first, before)
	}
	if fi, err := os.Stat(file("first")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	if _, _, err := store.Restore(ctx, uri, file("first")); vda.KindOf(err) != vda.FailedPrecondition {
		t.Errorf("restored over a cluster: %v", err)
	}
	other := dbtest.SQLite(t)
	if _, st, err := store.Restore(ctx, other, file("first")); err != nil || st.ClusterID != before.ClusterID || st.Version != before.Version {
		t.Fatalf("restored into SQLite: %+v, %v", st, err)
	}
	if _, err := store.Backup(ctx, other, file("second")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Drop(ctx, uri); err != nil {
		t.Fatal(err)
	}
	again, _, err := store.Restore(ctx, uri, file("second"))
	if err != nil || again.Rows != first.Rows || again.ClusterID != first.ClusterID {
		t.Fatalf("restored again: %+v of %+v, %v", again, first, err)
	}
	if _, err := store.Backup(ctx, uri, file("third")); err != nil {
		t.Fatal(err)
	}
	if a, b, c := lastLine(t, file("first")), lastLine(t, file("second")), lastLine(t, file("third")); a != b || a != c {
		t.Errorf("the content has changed:\n%s\n%s\n%s", a, b, c)
	}
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// New events get numbers that no old one has.
	if err := s.Update(ctx, func(tx store.Tx) error { return tx.Record(vda.Event{Kind: vda.EventChange, Text: "after"}) }); err != nil {
		t.Errorf("an event after the restoration: %v", err)
	}
	left, err := filepath.Glob(file(".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// plain is the text of a backup.
func plain(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// lastLine says what is in the tables.
func lastLine(t *testing.T, path string) string {
	t.Helper()
	text := strings.TrimSuffix(plain(t, path), "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// TestBadBackupsAreRefused: nothing that is not a whole backup is restored, and the
// database is empty after it.
func TestBadBackupsAreRefused(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	uri := dbtest.SQLite(t)
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Update(ctx, func(tx store.Tx) error {
		return tx.InsertNode(vda.DiskNode, &vda.Node{ID: "n0", Name: "dn0:9720", Online: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good")
	if _, err := store.Backup(ctx, uri, good); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	packed := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, text)
		z.Close()
		return b.Bytes()
	}
	text := plain(t, good)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 4
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":       {nil, "not a backup"},
		"text":        {[]byte("hello"), "not a backup"},
		"other gzip":  {packed("{}\n"), "not a backup"},
		"half":        {whole[:len(whole)/2], "cut off or damaged"},
		"flipped bit": {flipped, "file "}, // what it shows as depends on where it is
		"no end":      {packed(text[:strings.LastIndex(text, `{"end"`)]), "cut off or damaged"},
		"newer":       {packed(strings.Replace(text, `"schema":`, `"schema":9`, 1)), "newer than this program's"},
		"other kind":  {packed(strings.Replace(text, `"vda_backup":1`, `"vda_backup":2`, 1)), "it has format 2"},
		"changed":     {packed(strings.Replace(text, "dn0:9720", "dn1:9720", 1)), "is not what file"},
		"other table": {packed(strings.Replace(text, `"vda_dn"`, `"sqlite_master"`, 1)), "not a backup"},
		"injection":   {packed(strings.Replace(text, `"listener"`, `"id) VALUES (1); --"`, 1)), "not a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad")
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			to := dbtest.SQLite(t)
			_, _, err := store.Restore(ctx, to, path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if st, err := store.Status(ctx, to); err != nil || st.Version != 0 || st.ClusterID != "" {
				t.Errorf("the database is left with %+v, %v", st, err)
			}
		})
	}
	if _, err := store.Backup(ctx, uri, good); vda.KindOf(err) != vda.AlreadyExists {
		t.Errorf("a backup over another: %v", err)
	}
	if _, err := store.Backup(ctx, uri, filepath.Join(dir, "none", "b")); err == nil || !strings.Contains(err.Error(), "cannot write beside") {
		t.Errorf("a backup into no folder: %v", err)
	}
}
