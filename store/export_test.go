package store

import (
	"context"
	"database/sql"

	"github.com/virtual-disk-array/vda"
)

// Raw opens a database for SQL of a test's own.
func Raw(ctx context.Context, uri string) (*sql.DB, error) {
	t, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	s, err := connectTo(ctx, t)
	if err != nil {
		return nil, err
	}
	return s.write, nil
}

// SuspectSQL is the condition by which SuspectDAs finds arrays.
const SuspectSQL = suspect

// WriteInView tries to write in the read-only transaction that a view is for the
// database, past the type that keeps a view from it.
func WriteInView(ctx context.Context, uri string) error {
	st, err := Open(ctx, uri)
	if err != nil {
		return err
	}
	defer st.Close()
	return st.View(ctx, func(r Reader) error {
		tx := &sqlTx{r.(*sqlReader)}
		return tx.InsertNode(vda.DiskNode, &vda.Node{ID: NewID(), Name: "written-in-a-view:9720"})
	})
}
