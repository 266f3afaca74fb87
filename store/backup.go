package store

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
)

// A backup is gzip over lines of JSON: a backupHeader, then for each table a backupTable
// and its rows, each an array of values in the order of the columns, and a backupEnd.
// Values are what they are in any of the databases, so that a backup of one can be
// restored into another. Monitors are left out: they tell of processes.

const backupFormat = 1

type backupHeader struct {
	Format  int       `json:"vda_backup"`
	Schema  int64     `json:"schema"`
	Cluster string    `json:"cluster"`
	Made    time.Time `json:"made"`
}

type backupTable struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

type backupEnd struct {
	End map[string]content `json:"end"`
}

// content is what is in a table, whatever the order of the rows.
type content struct {
	Rows int    `json:"rows"`
	Sum  string `json:"sum"` // SHA-256 of the rows' lines, joined by exclusive or, in hex
}

type contentSum struct {
	rows int
	sum  [sha256.Size]byte
}

func (c *contentSum) add(line []byte) {
	c.rows++
	for i, b := range sha256.Sum256(line) {
		c.sum[i] ^= b
	}
}

func (c *contentSum) content() content { return content{c.rows, hex.EncodeToString(c.sum[:])} }

// BackupInfo says what a backup holds.
type BackupInfo struct {
	ClusterID string
	Schema    int64 // version
	Made      time.Time
	Rows      int
}

// Backup writes all that the database says about the cluster, as of one moment, to a new
// file, while it is in use. The file is there only when it is whole, has been read back
// and restored into a scratch database with the same content. It is readable by its
// owner alone. The schema may be an older one than this program's.
func Backup(ctx context.Context, uri, path string) (BackupInfo, error) {
	if _, err := os.Lstat(path); err == nil {
		return BackupInfo{}, vda.Errorf(vda.AlreadyExists, "file %s exists already; a backup overwrites nothing", path)
	}
	s, err := connect(ctx, uri)
	if err != nil {
		return BackupInfo{}, err
	}
	defer s.Close()
	st, err := s.status(ctx)
	switch {
	case err != nil:
		return BackupInfo{}, err
	case st.Version > st.Target:
		return BackupInfo{}, s.tooNew(st)
	case st.Version == 0 || st.ClusterID == "":
		return BackupInfo{}, s.noSchema()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return BackupInfo{}, vda.Errorf(vda.FailedPrecondition, "cannot write beside %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // not once it has its name
	defer f.Close()
	h := backupHeader{Format: backupFormat, Schema: st.Version, Cluster: st.ClusterID, Made: time.Now().UTC().Truncate(time.Second)}
	if err := s.dump(ctx, f, h); err != nil {
		return BackupInfo{}, err
	}
	info, err := verifyBackup(ctx, f.Name())
	if err != nil {
		return info, fmt.Errorf("the backup is not good, and was removed: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename it replaces nothing
		return info, vda.Errorf(vda.FailedPrecondition, "cannot make %s: %w", path, err)
	}
	return info, syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dump writes the database as it is at one moment, and syncs the file.
func (s *sqlStore) dump(ctx context.Context, f *os.File, h backupHeader) error {
	out := bufio.NewWriter(f)
	z := gzip.NewWriter(out)
	line := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = z.Write(append(b, '\n'))
		return err
	}
	if err := line(h); err != nil {
		return err
	}
	all, err := s.walk(ctx, func(t backupTable) error { return line(t) }, func(row []byte) error {
		_, err := z.Write(append(row, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	if err := line(backupEnd{all}); err != nil {
		return err
	}
	if err := errors.Join(z.Close(), out.Flush(), f.Sync()); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

func (s *sqlStore) contents(ctx context.Context) (map[string]content, error) {
	return s.walk(ctx, func(backupTable) error { return nil }, func([]byte) error { return nil })
}

// walk reads all tables that there are, in one snapshot, those first that others refer to.
func (s *sqlStore) walk(ctx context.Context, table func(backupTable) error, row func([]byte) error) (map[string]content, error) {
	var there []string
	for _, t := range slices.Backward(tables) {
		if t == versionTable || t == "vda_monitor" {
			continue
		}
		var n int64
		switch err := s.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t).Scan(&n); {
		case err == nil:
			there = append(there, t)
		case s.classOf(err) != classNoSchema:
			return nil, s.wrap(err)
		}
	}
	tx, err := s.read.BeginTx(ctx, &s.target.dialect.view)
	if err != nil {
		return nil, s.wrap(err)
	}
	defer tx.Rollback()
	all := map[string]content{}
	for _, t := range there {
		if all[t], err = s.walkTable(ctx, tx, t, table, row); err != nil {
			return nil, s.wrap(err)
		}
	}
	return all, nil
}

func (s *sqlStore) walkTable(ctx context.Context, tx *sql.Tx, name string, table func(backupTable) error,
	row func([]byte) error) (content, error) {
	rows, err := tx.QueryContext(ctx, "SELECT * FROM "+name)
	if err != nil {
		return content{}, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return content{}, err
	}
	// The order of columns is that of their names: migrations may have added them in
	// another order elsewhere.
	order := make([]int, len(types))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(types[a].Name(), types[b].Name()) })
	t := backupTable{Table: name}
	for _, i := range order {
		t.Columns = append(t.Columns, types[i].Name())
	}
	if err := table(t); err != nil {
		return content{}, err
	}
	raw, dest := make([]any, len(types)), make([]any, len(types))
	for i := range raw {
		dest[i] = &raw[i]
	}
	var sum contentSum
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return content{}, err
		}
		vals := make([]any, 0, len(order))
		for _, i := range order {
			v, err := plainValue(types[i].DatabaseTypeName(), raw[i])
			if err != nil {
				return content{}, fmt.Errorf("%s.%s: %w", name, types[i].Name(), err)
			}
			vals = append(vals, v)
		}
		line, err := json.Marshal(vals)
		if err != nil {
			return content{}, err
		}
		sum.add(line)
		if err := row(line); err != nil {
			return content{}, err
		}
	}
	return sum.content(), rows.Err()
}

// isBool reports that a column of a type of one of the databases holds a BOOLEAN.
func isBool(typeName string) bool {
	switch strings.ToUpper(typeName) {
	case "BOOL", "BOOLEAN", "TINYINT":
		return true
	}
	return false
}

func isInt(typeName string) bool {
	switch strings.ToUpper(typeName) {
	case "BIGINT", "INT8", "INTEGER", "INT", "INT4", "UNSIGNED BIGINT":
		return true
	}
	return false
}

// plainValue is a value as it is in all databases: nil, bool, int64 or string.
func plainValue(typeName string, v any) (any, error) {
	if b, is := v.([]byte); is {
		v = string(b)
	}
	switch v := v.(type) {
	case nil, bool:
		return v, nil
	case int64:
		if isBool(typeName) {
			return v != 0, nil
		}
		return v, nil
	case string:
		switch {
		case isBool(typeName):
			return v != "0" && v != "", nil
		case isInt(typeName):
			return strconv.ParseInt(v, 10, 64)
		}
		return v, nil
	}
	return nil, fmt.Errorf("a value of type %T cannot be backed up", v)
}
