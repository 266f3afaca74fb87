package store

import (
	"context"
	"fmt"

	"vda"
)

// What Supersede adds. No cluster makes as many changes, or failovers of one
// array, between a backup and its restoration.
const (
	versionLeap = 1 << 32
	termLeap    = 1_000_000
)

// Supersede makes a database that was restored from a backup newer than
// anything its nodes have seen, so that they take it for the truth again. All
// nodes get all their objects next. It deletes nothing, here or there: nodes
// detach what the database doesn't know, and keep it on media.
func Supersede(ctx context.Context, uri string) (SchemaStatus, error) {
	s, err := connect(ctx, uri)
	if err != nil {
		return SchemaStatus{}, err
	}
	defer s.Close()
	st, err := s.status(ctx)
	switch {
	case err != nil:
		return st, err
	case st.Version != st.Target || st.ClusterID == "":
		return st, &vda.Error{Kind: vda.FailedPrecondition, Op: "accept restored database", Object: st.Database, Msg: st.String()}
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return st, s.wrap(err)
	}
	for _, q := range []string{
		fmt.Sprintf("UPDATE vda_dn SET version = version + %d, applied = 0", versionLeap),
		fmt.Sprintf("UPDATE vda_cn SET version = version + %d, applied = 0", versionLeap),
		fmt.Sprintf("UPDATE vda_da SET term = term + %d", termLeap),
	} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			_ = tx.Rollback()
			return st, s.wrap(err)
		}
	}
	if err := tx.Commit(); err != nil {
		return st, s.wrap(err)
	}
	return st, nil
}
