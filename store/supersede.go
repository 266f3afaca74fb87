package store

import (
	"context"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/pki"
)

// What Supersede adds at least. No cluster makes as many changes, or failovers
// of one array, between a backup and its restoration.
const (
	versionLeap = 1 << 32
	termLeap    = 1_000_000
)

// leapsFrom is when leaps began to grow with time: a millisecond adds one to
// that of versions, a second one to that of terms. So a backup that is restored a
// second time leaps above where its nodes went after the first. Both stay far
// below what nodes refuse (vda.MaxVersionAhead) for 30 years.
var leapsFrom = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// trashKept is how long an array that a backup has in the trash is kept at least once
// the backup is restored: it may have been brought back since, and be in use.
const trashKept = 7 * 24 * time.Hour

// keepTrash says that no array in the trash of a restored database goes soon.
func keepTrash(now time.Time) string {
	us := now.Add(trashKept).UnixMicro()
	return fmt.Sprintf("UPDATE vda_da SET purge_us = %d WHERE purge_us <> 0 AND purge_us < %d", us, us)
}

func leaps(now time.Time) (version, term int64) {
	since := max(now.Sub(leapsFrom), 0)
	return versionLeap + since.Milliseconds(), termLeap + int64(since.Seconds())
}

// Supersede makes a database that was restored from a backup newer than
// anything its nodes have seen, so that they take it for the truth again. All
// nodes get all their objects next. It deletes none of these, here or there: nodes
// detach what the database does not know, and keep it on media.
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
	versionLeap, termLeap := leaps(time.Now())
	for _, q := range []string{
		fmt.Sprintf("UPDATE vda_dn SET version = version + %d, applied = 0, marks = ''", versionLeap),
		fmt.Sprintf("UPDATE vda_cn SET version = version + %d, applied = 0, marks = ''", versionLeap),
		// The versions of vds and controllers stay, and none is carried out as the leap has it: no dn has fenced its
		// vds for the new term.
		"UPDATE vda_vd SET applied = 0",
		"UPDATE vda_cntlr SET applied = 0",
		fmt.Sprintf("UPDATE vda_da SET term = term + %d", termLeap),
		// A rollback of an array that the backup has as ordered was carried out since, and hosts have
		// written: it is not carried out again. One that was not begun is given up.
		fmt.Sprintf("UPDATE vda_snap SET rollback_state = %d WHERE rollback_state = %d", vda.RollbackDone, vda.RollbackAsked),
		keepTrash(time.Now()),
		// Those of members serve once, and may have since; a revocation since is not known.
		fmt.Sprintf("DELETE FROM vda_token WHERE kind <> '%s'", pki.User),
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
