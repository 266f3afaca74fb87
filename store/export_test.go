package store

import (
	"context"
	"database/sql"
)

// Raw opens a database for SQL of a test's own.
func Raw(ctx context.Context, uri string) (*sql.DB, error) {
	s, err := connect(ctx, uri)
	if err != nil {
		return nil, err
	}
	return s.write, nil
}
