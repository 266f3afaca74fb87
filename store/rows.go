package store

import "context"

// Dumper is a Store that can show its tables as they are, for a support bundle.
type Dumper interface {
	// Rows calls row for each row of each table, all of one moment, table by table: values
	// is a JSON array in the order of the columns. The table of monitors is left out.
	Rows(ctx context.Context, row func(table string, columns []string, values []byte) error) error
}

// Rows implements Dumper.
func (s *sqlStore) Rows(ctx context.Context, row func(table string, columns []string, values []byte) error) error {
	var at backupTable
	_, err := s.walk(ctx, func(t backupTable) error {
		at = t
		return nil
	}, func(line []byte) error { return row(at.Table, at.Columns, line) })
	return err
}
