package store

import (
	"bufio"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
)

// verifyBackup restores a backup into a scratch database.
func verifyBackup(ctx context.Context, path string) (BackupInfo, error) {
	dir, err := os.MkdirTemp("", "vda-backup-")
	if err != nil {
		return BackupInfo{}, err
	}
	defer os.RemoveAll(dir)
	scratch, err := parseSQLite("/" + filepath.Join(dir, "scratch.db") + "?synchronous=off")
	if err != nil {
		return BackupInfo{}, err
	}
	s, err := connectTo(ctx, scratch)
	if err != nil {
		return BackupInfo{}, err
	}
	defer s.Close()
	return s.restore(ctx, path)
}

// Restore fills a database that has no VDA schema with a backup, and brings an older
// schema to this program's. What it has written is compared with the backup; when it
// fails, the database is as empty as before.
func Restore(ctx context.Context, uri, path string) (BackupInfo, SchemaStatus, error) {
	t, err := parseURI(uri)
	if err != nil {
		return BackupInfo{}, SchemaStatus{}, err
	}
	s, err := connectTo(ctx, t)
	if err != nil {
		return BackupInfo{}, SchemaStatus{}, err
	}
	defer s.Close()
	st, err := s.status(ctx)
	if err != nil {
		return BackupInfo{}, st, err
	}
	if st.Version != 0 {
		return BackupInfo{}, st, &vda.Error{Kind: vda.FailedPrecondition, Op: "restore", Object: st.Database,
			Msg: "holds cluster " + st.ClusterID + "; a backup is restored into a database without a VDA schema: name another, or back up " +
				"this one and run vda_db --action drop"}
	}
	info, err := s.restore(ctx, path)
	if err == nil {
		err = s.makeSchema(ctx) // what is newer than the backup's
	}
	if err == nil { // monitors may start before Supersede is run
		_, err = s.write.ExecContext(ctx, keepTrash(time.Now()))
		err = s.wrap(err)
	}
	if err == nil {
		st, err = s.status(ctx)
	}
	return info, st, err
}

func (s *sqlStore) restore(ctx context.Context, path string) (info BackupInfo, err error) {
	f, err := os.Open(path)
	if err != nil {
		return info, vda.Errorf(vda.InvalidArgument, "file %s: %w", path, err)
	}
	defer f.Close()
	r, h, err := openBackup(f)
	if err != nil {
		return info, fmt.Errorf("file %s: %w", path, err)
	}
	info = BackupInfo{ClusterID: h.Cluster, Schema: h.Schema, Made: h.Made}
	p, err := s.provider()
	if err != nil {
		return info, err
	}
	var newest int64
	for _, m := range p.ListSources() {
		newest = max(newest, m.Version)
	}
	if h.Schema > newest {
		return info, vda.Errorf(vda.FailedPrecondition, "file %s has schema version %d, newer than this program's %d: restore it with the "+
			"vda_db that made it, or a later one", path, h.Schema, newest)
	}
	defer func() {
		var others int // made by somebody else meanwhile
		after := context.WithoutCancel(ctx)
		q := s.target.dialect.rebind("SELECT COUNT(*) FROM vda_cluster WHERE id <> ?")
		if err != nil && s.write.QueryRowContext(after, q, h.Cluster).Scan(&others) == nil && others == 0 {
			err = errors.Join(err, s.dropTables(after))
		}
	}()
	if err := s.makeNamespace(ctx); err != nil {
		return info, err
	}
	if _, err := p.UpTo(ctx, h.Schema); err != nil {
		return info, s.wrap(err)
	}
	want, err := s.fill(ctx, r)
	if err != nil {
		return info, fmt.Errorf("file %s: %w", path, err)
	}
	is, err := s.contents(ctx)
	if err != nil {
		return info, err
	}
	for table := range is {
		if is[table] != want[table] {
			return info, vda.Errorf(vda.Internal, "what was written to table %s is not what file %s holds: %d rows of %d", table, path,
				is[table].Rows, want[table].Rows)
		}
		info.Rows += is[table].Rows
	}
	if len(is) != len(want) {
		return info, vda.Errorf(vda.InvalidArgument, "file %s has %d tables; schema version %d has %d", path, len(want), h.Schema, len(is))
	}
	return info, nil
}

func (s *sqlStore) dropTables(ctx context.Context) error {
	for _, t := range tables {
		if _, err := s.write.ExecContext(ctx, "DROP TABLE IF EXISTS "+t); err != nil {
			return s.wrap(err)
		}
	}
	return nil
}

var errNoBackup = vda.Errorf(vda.InvalidArgument, "it is not a backup that vda_db made, or it is damaged")

// lineReader reads lines of any length.
type lineReader struct{ *bufio.Reader }

func (r lineReader) next() ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument, "it is cut off or damaged (%w)", err)
	}
	return line[:len(line)-1], nil
}

func openBackup(f io.Reader) (lineReader, backupHeader, error) {
	var h backupHeader
	z, err := gzip.NewReader(f)
	if err != nil {
		return lineReader{}, h, errNoBackup
	}
	r := lineReader{bufio.NewReader(z)}
	line, err := r.next()
	if err != nil {
		return r, h, err
	}
	if err := json.Unmarshal(line, &h); err != nil || h.Format == 0 || h.Schema == 0 || h.Cluster == "" {
		return r, h, errNoBackup
	}
	if h.Format != backupFormat {
		return r, h, vda.Errorf(vda.FailedPrecondition, "it has format %d, and this program knows format %d: use the vda_db that made it, "+
			"or a later one", h.Format, backupFormat)
	}
	return r, h, nil
}

// fill writes the rows of a backup in one transaction and returns what the backup says
// that they are.
func (s *sqlStore) fill(ctx context.Context, r lineReader) (map[string]content, error) {
	tx, err := s.write.BeginTx(ctx, &s.target.dialect.update)
	if err != nil {
		return nil, s.wrap(err)
	}
	defer tx.Rollback()
	var insert *sql.Stmt
	var t backupTable
	for {
		line, err := r.next()
		if err != nil {
			return nil, err
		}
		var end backupEnd
		switch {
		case len(line) > 0 && line[0] == '[':
			if insert == nil {
				return nil, errNoBackup
			}
			vals, err := readRow(line)
			if err != nil || len(vals) != len(t.Columns) {
				return nil, errNoBackup
			}
			if _, err := insert.ExecContext(ctx, vals...); err != nil {
				return nil, s.wrap(err)
			}
			continue
		case json.Unmarshal(line, &end) == nil && end.End != nil:
			if n, err := io.Copy(io.Discard, r); err != nil || n > 0 { // the checksum of gzip is at the end
				return nil, errNoBackup
			}
			if err := s.afterFill(ctx, tx, end.End); err != nil {
				return nil, s.wrap(err)
			}
			return end.End, s.wrap(tx.Commit())
		}
		t = backupTable{}
		if err := json.Unmarshal(line, &t); err != nil || !slices.Contains(tables, t.Table) || !areNames(t.Columns) {
			return nil, errNoBackup
		}
		q := "INSERT INTO " + t.Table + " (" + strings.Join(t.Columns, ", ") + ") VALUES (" + marks(len(t.Columns)) + ")"
		if insert, err = tx.PrepareContext(ctx, s.target.dialect.rebind(q)); err != nil {
			return nil, s.wrap(err)
		}
		defer insert.Close()
	}
}

// areNames reports that columns can stand in a statement.
func areNames(columns []string) bool {
	for _, c := range columns {
		if c == "" || strings.Trim(c, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return false
		}
	}
	return len(columns) > 0
}

func readRow(line []byte) ([]any, error) {
	dec := json.NewDecoder(strings.NewReader(string(line)))
	dec.UseNumber()
	var vals []any
	if err := dec.Decode(&vals); err != nil {
		return nil, err
	}
	for i, v := range vals {
		switch v := v.(type) {
		case nil, bool, string:
		case json.Number:
			n, err := v.Int64()
			if err != nil {
				return nil, err
			}
			vals[i] = n
		default:
			return nil, fmt.Errorf("%T in a row", v)
		}
	}
	return vals, nil
}

// afterFill has PostgreSQL number new events above those that were restored, as the
// others do by themselves.
func (s *sqlStore) afterFill(ctx context.Context, tx *sql.Tx, all map[string]content) error {
	if _, has := all["vda_event"]; !has || s.target.postgres == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx,
		"SELECT setval(pg_get_serial_sequence('vda_event', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM vda_event), false)")
	return err
}
