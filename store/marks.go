package store

import (
	"database/sql/driver"
	"fmt"

	"github.com/virtual-disk-array/vda"
)

// asMarks keeps marks of versions as a text.
type asMarks struct{ m *vda.VersionMarks }

// Scan implements sql.Scanner.
func (a asMarks) Scan(src any) (err error) {
	switch v := src.(type) {
	case string:
		*a.m, err = vda.ParseVersionMarks(v)
	case []byte:
		*a.m, err = vda.ParseVersionMarks(string(v))
	default:
		err = fmt.Errorf("%T is not a text of marks", src)
	}
	return err
}

// Value implements driver.Valuer.
func (a asMarks) Value() (driver.Value, error) { return a.m.String(), nil }
