package store

import (
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// table maps a noun's struct to its rows. Generic functions over it do what
// every noun needs: get, list, insert, update by id, delete.
type table[T any] struct {
	name string   // vda_dn
	noun string   // dn, as messages have it
	cols []string // read and written; the first is id
	// keys are columns that are written but not read: a name while its row
	// is no tombstone, else NULL, so that a unique index ignores tombstones.
	keys []string
	// fixed are columns that insert writes and update leaves alone.
	fixed  []string
	dest   func(*T) []any // where to scan cols to
	values func(*T) []any // what to write to cols and keys
	label  func(*T) string
	tagged bool // users may give it labels and a description, which go with the row
}

func (tb *table[T]) selectSQL(where string) string {
	return "SELECT " + strings.Join(tb.cols, ", ") + " FROM " + tb.name + " WHERE " + where
}

func getRow[T any](t *sqlReader, tb *table[T], what, where string, args ...any) (*T, error) {
	rows, err := listRows(t, tb, where, args...)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, notFound(tb.noun, what)
	}
	return &rows[0], nil
}

func notFound(noun, what string) error {
	return &vda.Error{Kind: vda.NotFound, Object: noun + " " + what, Msg: "does not exist"}
}

// listRows returns the rows of a condition, which may end in ORDER BY.
func listRows[T any](t *sqlReader, tb *table[T], where string, args ...any) ([]T, error) {
	rows, err := t.query(tb.selectSQL(where), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := rows.Scan(tb.dest(&v)...); err != nil {
			return nil, t.fault(err)
		}
		all = append(all, v)
	}
	if err := rows.Err(); err != nil {
		return nil, t.fault(err)
	}
	return all, nil
}

// pageRows lists by name and id, one page of it.
func pageRows[T any](t *sqlReader, tb *table[T], c cond, p Page, key func(*T) (name, id string)) ([]T, string, error) {
	if p.After != "" {
		name, id, err := readToken(p.After)
		if err != nil {
			return nil, "", err
		}
		c.and("(name > ? OR (name = ? AND id > ?))", name, name, id)
	}
	where := c.String() + " ORDER BY name, id"
	if p.Limit > 0 {
		where += " LIMIT " + itoa(uint64(p.Limit)+1)
	}
	rows, err := listRows(t, tb, where, c.args...)
	if err != nil {
		return nil, "", err
	}
	if p.Limit <= 0 || len(rows) <= p.Limit {
		return rows, "", nil
	}
	rows = rows[:p.Limit]
	name, id := key(&rows[p.Limit-1])
	return rows, writeToken(name, id), nil
}

func writeToken(name, id string) string {
	b, _ := json.Marshal([2]string{name, id}) // two strings always can
	return base64.RawURLEncoding.EncodeToString(b)
}

func readToken(token string) (name, id string, err error) {
	var key [2]string
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &key)
	}
	if err != nil || key[1] == "" {
		return "", "", vda.Errorf(vda.InvalidArgument, "token %q was not returned by a list", token)
	}
	return key[0], key[1], nil
}

func insertRow[T any](t *sqlTx, tb *table[T], v *T) error {
	cols := slices.Concat(tb.cols, tb.keys)
	q := "INSERT INTO " + tb.name + " (" + strings.Join(cols, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(cols)-1) + ")"
	_, err := t.exec(q, tb.values(v)...)
	return tb.named(v, err)
}

// updateRow writes all columns but the fixed ones where id is v's and the
// further condition holds, and reports whether there was such a row.
func updateRow[T any](t *sqlTx, tb *table[T], v *T, and string, args ...any) (bool, error) {
	var set []string
	var vals []any
	all := tb.values(v)
	for i, col := range slices.Concat(tb.cols, tb.keys) {
		if i == 0 || slices.Contains(tb.fixed, col) {
			continue
		}
		set = append(set, col+" = ?")
		vals = append(vals, all[i])
	}
	vals = append(append(vals, all[0]), args...)
	n, err := t.exec("UPDATE "+tb.name+" SET "+strings.Join(set, ", ")+" WHERE id = ?"+and, vals...)
	return n > 0, tb.named(v, err)
}

func deleteRow[T any](t *sqlTx, tb *table[T], id string) error {
	n, err := t.exec("DELETE FROM "+tb.name+" WHERE id = ?", id)
	if vda.KindOf(err) == vda.FailedPrecondition {
		return &vda.Error{Kind: vda.FailedPrecondition, Object: tb.noun + " " + id, Msg: "is in use", Err: err}
	}
	if err == nil && n == 0 {
		return notFound(tb.noun, id)
	}
	if err == nil && tb.tagged {
		return t.forgetTags(id)
	}
	return err
}

// named puts the object into an error about a duplicate.
func (tb *table[T]) named(v *T, err error) error {
	if err == nil || vda.KindOf(err) != vda.AlreadyExists {
		return err
	}
	return &vda.Error{Kind: vda.AlreadyExists, Object: tb.noun + " " + tb.label(v), Msg: "exists already", Err: errors.Unwrap(err)}
}

// cond gathers conditions joined by AND.
type cond struct {
	parts []string
	args  []any
}

func (c *cond) and(part string, args ...any) {
	c.parts = append(c.parts, part)
	c.args = append(c.args, args...)
}

func (c *cond) String() string {
	if len(c.parts) == 0 {
		return "TRUE"
	}
	return strings.Join(c.parts, " AND ")
}

// orNull is a name's key: NULL for a tombstone.
func orNull(name string, deleted bool) any {
	if deleted {
		return nil
	}
	return name
}

// us scans and writes a time as microseconds since 1970, 0 for no time.
type us struct{ t *time.Time }

// Scan implements sql.Scanner.
func (u us) Scan(src any) error {
	var n int64
	switch v := src.(type) {
	case int64:
		n = v
	case []byte:
		if _, err := fmt.Sscan(string(v), &n); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%T is not a time in microseconds", src)
	}
	if n == 0 {
		*u.t = time.Time{}
	} else {
		*u.t = time.UnixMicro(n).UTC()
	}
	return nil
}

// Value implements driver.Valuer.
func (u us) Value() (driver.Value, error) {
	if u.t.IsZero() {
		return int64(0), nil
	}
	return u.t.UnixMicro(), nil
}

// micros scans and writes a duration as microseconds.
type micros struct{ d *time.Duration }

// Scan implements sql.Scanner.
func (m micros) Scan(src any) error {
	var at time.Time
	if err := (us{&at}).Scan(src); err != nil || at.IsZero() {
		*m.d = 0
		return err
	}
	*m.d = time.Duration(at.UnixMicro()) * time.Microsecond
	return nil
}

// Value implements driver.Valuer.
func (m micros) Value() (driver.Value, error) { return m.d.Microseconds(), nil }

// asJSON scans and writes a listener as JSON.
type asJSON struct{ v any }

// Scan implements sql.Scanner.
func (j asJSON) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return json.Unmarshal([]byte(v), j.v)
	case []byte:
		return json.Unmarshal(v, j.v)
	}
	return fmt.Errorf("%T is not JSON", src)
}

// Value implements driver.Valuer.
func (j asJSON) Value() (driver.Value, error) {
	b, err := json.Marshal(j.v)
	return string(b), err
}

// maybeJSON is asJSON for a listener that there may not be, "" for none.
type maybeJSON struct{ v *vda.Listener }

// Scan implements sql.Scanner.
func (j maybeJSON) Scan(src any) error {
	*j.v = vda.Listener{}
	switch v := src.(type) {
	case string:
		if v == "" {
			return nil
		}
	case []byte:
		if len(v) == 0 {
			return nil
		}
	}
	return asJSON{j.v}.Scan(src)
}

// Value implements driver.Valuer.
func (j maybeJSON) Value() (driver.Value, error) {
	if *j.v == (vda.Listener{}) {
		return "", nil
	}
	return asJSON{j.v}.Value()
}

// lines scans and writes short texts without line ends as one, nil as "".
type lines struct{ l *[]string }

// Scan implements sql.Scanner.
func (l lines) Scan(src any) error {
	var text string
	switch v := src.(type) {
	case string:
		text = v
	case []byte:
		text = string(v)
	default:
		return fmt.Errorf("%T is not text", src)
	}
	*l.l = nil
	if text != "" {
		*l.l = strings.Split(text, "\n")
	}
	return nil
}

// Value implements driver.Valuer.
func (l lines) Value() (driver.Value, error) { return strings.Join(*l.l, "\n"), nil }

// keysJSON scans and writes the keys of hosts as JSON, none as "".
type keysJSON struct{ l *[]vda.HostKeys }

// Scan implements sql.Scanner. Its error does not repeat what is in the column.
func (k keysJSON) Scan(src any) error {
	var text []byte
	switch v := src.(type) {
	case string:
		text = []byte(v)
	case []byte:
		text = v
	default:
		return fmt.Errorf("%T is not text", src)
	}
	*k.l = nil
	if len(text) > 0 && json.Unmarshal(text, k.l) != nil {
		return errors.New("the keys of an exp's hosts are not what VDA has written")
	}
	return nil
}

// Value implements driver.Valuer.
func (k keysJSON) Value() (driver.Value, error) {
	if len(*k.l) == 0 {
		return "", nil
	}
	b, err := json.Marshal(*k.l)
	return string(b), err
}

// maxMsg bounds a stored error message, bytes.
const maxMsg = 4096

// CleanMsg makes an error message one that every database takes: valid UTF-8, no
// NUL, no endless length; and one that a person can read.
func CleanMsg(s string) string {
	s = reason.Words(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", ""))
	if len(s) <= maxMsg {
		return s
	}
	s = s[:maxMsg]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}
