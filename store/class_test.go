package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// TestClasses: errors that a test cannot have its server make.
func TestClasses(t *testing.T) {
	for _, tt := range []struct {
		d    *dialect
		err  error
		kind vda.Kind
		says string
	}{
		{&postgresDialect, &pgconn.PgError{Code: "53100", Message: "could not extend file"}, vda.Unavailable, "has no space left"},
		{&postgresDialect, &pgconn.PgError{Code: "57P03", Message: "the database system is in recovery mode"}, vda.Unavailable, "recovering"},
		{&postgresDialect, &pgconn.PgError{Code: "58030", Message: "could not read block 7"}, vda.Unavailable, "fault of its own"},
		{&postgresDialect, &pgconn.PgError{Code: "XX001", Message: "invalid page"}, vda.Unavailable, "fault of its own"},
		{&postgresDialect, &pgconn.PgError{Code: "57014", Message: "canceling statement due to statement timeout"},
			vda.Unavailable, "time limit"},
		{&postgresDialect, &pgconn.PgError{Code: "42703", Message: `column "x" does not exist`}, vda.FailedPrecondition, "another schema"},
		{&postgresDialect, &pgconn.PgError{Code: "42601", Message: "syntax error"}, vda.Internal, "refuses a statement"},
		{&mysqlDialect, &mysql.MySQLError{Number: 1021, Message: "Disk full (/tmp); waiting for someone to free some space..."},
			vda.Unavailable, "has no space left"},
		{&mysqlDialect, &mysql.MySQLError{Number: 1114, Message: "The table 'vda_da' is full"}, vda.Unavailable, "has no space left"},
		{&mysqlDialect, &mysql.MySQLError{Number: 1030, Message: `Got error 28 "No space left on device" from storage engine InnoDB`}, vda.Unavailable, "has no space left"},
		{&mysqlDialect, &mysql.MySQLError{Number: 1030, Message: `Got error 5 "Input/output error" from storage engine InnoDB`}, vda.Unavailable, "fault of its own"},
		{&mysqlDialect, &mysql.MySQLError{Number: 1040, Message: "Too many connections"}, vda.Unavailable, "no connection free"},
		{&mysqlDialect, &mysql.MySQLError{Number: 1047, Message: "WSREP has not yet prepared node for application use"},
			vda.Unavailable, "recovering"},
		{&mysqlDialect, &mysql.MySQLError{Number: 3024, Message: "maximum statement execution time exceeded"}, vda.Unavailable, "time limit"},
		{&mysqlDialect, &mysql.MySQLError{Number: 1064, Message: "You have an error in your SQL syntax"}, vda.Internal, "refuses a statement"},
	} {
		s := &sqlStore{target: &target{dialect: tt.d, where: "here"}}
		err := s.wrap(fmt.Errorf("exec: %w", tt.err))
		if vda.KindOf(err) != tt.kind || !strings.Contains(reason.Of(err), tt.says) || reason.Raw(reason.Full(err)) != "" {
			t.Errorf("%v: %q of kind %v, want %q of kind %v", tt.err, err, vda.KindOf(err), tt.says, tt.kind)
		}
	}
}

// TestConnectingTakesTooLong: a server that takes connections and says nothing has run out
// of the driver's time, and not of the caller's.
func TestConnectingTakesTooLong(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, mode := range []string{"disable", "require"} {
		conf, err := pgconn.ParseConfig("postgresql://secret-user@" + l.Addr().String() + "/d?sslmode=" + mode)
		if err != nil {
			t.Fatal(err)
		}
		conf.ConnectTimeout = 50 * time.Millisecond
		_, err = pgconn.ConnectConfig(t.Context(), conf)
		if err == nil || t.Context().Err() != nil {
			t.Fatal(err)
		}
		s := &sqlStore{target: &target{dialect: &postgresDialect, where: "here"}}
		got := s.wrap(fmt.Errorf("begin: %w", err))
		if vda.KindOf(got) != vda.Unavailable || !strings.Contains(got.Error(), "does not answer in time") ||
			strings.Contains(got.Error(), "secret-user") || reason.Raw(reason.Full(got)) != "" {
			t.Errorf("%v: %q of kind %v", err, got, vda.KindOf(got))
		}
	}
	var d net.Dialer
	d.Deadline = time.Now().Add(-time.Second)
	_, err = d.DialContext(t.Context(), "tcp", l.Addr().String())
	s := &sqlStore{target: &target{dialect: &mysqlDialect, where: "here"}}
	if got := s.wrap(err); vda.KindOf(got) != vda.Unavailable || !strings.Contains(got.Error(), "does not answer in time") {
		t.Errorf("%v: %q of kind %v", err, got, vda.KindOf(got))
	}
	if got := s.wrap(context.DeadlineExceeded); got != context.DeadlineExceeded {
		t.Errorf("the caller's time: %v", got)
	}
}

// TestSQLiteFile: what is the matter with a file is said of the file, not of a
// server.
func TestSQLiteFile(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.db")
	if err := os.WriteFile(junk, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{junk: "is not an SQLite database", dir: "may read and write"} {
		if _, err := Open(t.Context(), "sqlite:///"+path); vda.KindOf(err) != vda.Unavailable || !strings.Contains(reason.Full(err), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "vda.db")+"?_pragma=query_only(1)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "CREATE TABLE t (x)")
	s := &sqlStore{target: &target{dialect: &sqliteDialect, where: "here"}}
	if err = s.wrap(err); !strings.Contains(reason.Of(err), "right to write the file and its folder") {
		t.Errorf("a file that may not be written: %v", err)
	}
}

// TestFullSQLite: a database file that cannot grow is full, not broken, and
// takes writes again when there is room.
func TestFullSQLite(t *testing.T) {
	uri := "sqlite:///" + filepath.Join(t.TempDir(), "vda.db")
	if _, _, err := Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	st, err := Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	limit := func(pages int) {
		t.Helper()
		if _, err := st.(*sqlStore).write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // SQLite takes the present size for less
	insert := func() error {
		for range 1000 {
			id := NewID()
			if err := st.Update(t.Context(), func(tx Tx) error { return tx.InsertNode(vda.DiskNode, &vda.Node{ID: id, Name: id}) }); err != nil {
				return err
			}
		}
		return errors.New("a file of one page takes a thousand rows")
	}
	if err := insert(); vda.KindOf(err) != vda.Unavailable || reason.Of(err) != "the database has no space left on its disk" {
		t.Errorf("full: %v", err)
	}
	limit(1 << 20)
	if err := st.Update(t.Context(), func(tx Tx) error { return tx.InsertNode(vda.DiskNode, &vda.Node{ID: NewID(), Name: "x"}) }); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestMigratedUnderneath: a program that was started before somebody migrated
// the schema neither writes nor reads any more, and says why.
func TestMigratedUnderneath(t *testing.T) {
	uri := "sqlite:///" + filepath.Join(t.TempDir(), "vda.db")
	if _, _, err := Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	st, err := Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	raw, err := connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	shift := func(by int) {
		t.Helper()
		if _, err := raw.write.Exec("UPDATE vda_schema_version SET version_id = version_id + ? WHERE version_id > 0", by); err != nil {
			t.Fatal(err)
		}
	}
	shift(1)
	st.(*sqlStore).looked.Store(0)
	id := NewID()
	insert := func(tx Tx) error { return tx.InsertNode(vda.DiskNode, &vda.Node{ID: id, Name: id}) }
	for what, err := range map[string]error{
		"update": st.Update(t.Context(), insert),
		"view":   st.View(t.Context(), func(tx Reader) error { _, err := tx.ClusterID(); return err }),
		"ping":   st.Ping(context.Background()),
	} {
		if reason.Database(err) == nil || vda.KindOf(err) != vda.FailedPrecondition ||
			!strings.Contains(reason.Of(err), "newer than this program's") {
			t.Errorf("%s after a migration: %v", what, err)
		}
	}
	shift(-1)
	if err := st.View(t.Context(), func(tx Reader) error { _, err := tx.DN(id); return err }); vda.KindOf(err) != vda.NotFound {
		t.Errorf("the refused update has left its row: %v", err)
	}
	if err := st.Update(t.Context(), insert); err != nil {
		t.Errorf("with its own schema again: %v", err)
	}
}
