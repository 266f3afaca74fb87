package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"vda"
)

// A transaction that lost against another one starts again after a random
// wait that doubles up to maxBackoff, until the context ends or, where it has
// no deadline, for maxRetry.
const (
	minBackoff = 2 * time.Millisecond
	maxBackoff = 250 * time.Millisecond
	maxRetry   = 30 * time.Second
	// reconnects is how often a transaction that lost its connection before
	// its commit starts again on a new one. A connection from the pool may
	// have died while nobody looked.
	reconnects = 2
)

// Update implements Store.
func (s *sqlStore) Update(ctx context.Context, fn func(Tx) error) error {
	return s.retry(ctx, s.write, s.target.dialect.update, true, fn)
}

// View implements Store.
func (s *sqlStore) View(ctx context.Context, fn func(Tx) error) error {
	return s.retry(ctx, s.read, s.target.dialect.view, false, fn)
}

func (s *sqlStore) retry(ctx context.Context, db *sql.DB, opts sql.TxOptions, lock bool, fn func(Tx) error) error {
	giveUp := time.Now().Add(maxRetry)
	backoff := minBackoff
	lost := 0
	var last error // why it was tried again
	for {
		again, err := s.once(ctx, db, opts, lock, fn)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(err, last)
		}
		if again == never {
			return err
		}
		last = err
		if again == afterReconnect {
			if lost++; lost > reconnects {
				return err
			}
			continue
		}
		if time.Now().After(giveUp) {
			return err
		}
		wait := time.NewTimer(backoff/2 + rand.N(backoff))
		select {
		case <-ctx.Done():
			wait.Stop()
			return errors.Join(ctx.Err(), last)
		case <-wait.C:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

type again uint8

const (
	never again = iota
	afterBackoff
	afterReconnect
)

// once runs fn in one transaction and says whether another try can help.
func (s *sqlStore) once(ctx context.Context, db *sql.DB, opts sql.TxOptions, lock bool, fn func(Tx) error) (again, error) {
	inner, err := db.BeginTx(ctx, &opts)
	if err != nil {
		return s.judge(err), s.wrap(err)
	}
	done := false
	defer func() {
		if !done { // fn failed or panicked
			inner.Rollback()
		}
	}()
	t := &sqlTx{ctx: ctx, tx: inner, store: s, lock: lock}
	err = fn(t)
	if t.broken != nil {
		// The database has given the transaction up, whatever fn made of it.
		return s.judge(t.broken), s.wrap(t.broken)
	}
	if err != nil {
		if vda.KindOf(err) == vda.Conflict {
			return afterBackoff, err
		}
		return never, err
	}
	err = inner.Commit()
	done = true
	if err == nil {
		return never, nil
	}
	if s.classOf(err) == classUnreachable && lock {
		return never, &vda.Error{Kind: vda.Unavailable, Op: "database", Object: s.target.where,
			Msg: "connection lost during the commit; whether the change was made is not known", Err: err}
	}
	return s.judge(err), s.wrap(err)
}

func (s *sqlStore) judge(err error) again {
	switch s.classOf(err) {
	case classConflict:
		return afterBackoff
	case classUnreachable:
		return afterReconnect
	}
	return never
}

// sqlTx is a Tx. Its methods stand in the files named after the nouns.
type sqlTx struct {
	ctx    context.Context
	tx     *sql.Tx
	store  *sqlStore
	lock   bool  // lock what is read
	broken error // conflict or lost connection
}

var _ Tx = (*sqlTx)(nil)

// fault notes an error that ends the transaction, and wraps it.
func (t *sqlTx) fault(err error) error {
	if c := t.store.classOf(err); t.broken == nil && (c == classConflict || c == classUnreachable) {
		t.broken = err
	}
	return t.store.wrap(err)
}

func (t *sqlTx) exec(q string, args ...any) (affected int64, err error) {
	res, err := t.tx.ExecContext(t.ctx, t.store.target.dialect.rebind(q), args...)
	if err != nil {
		return 0, t.fault(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, t.fault(err)
	}
	return n, nil
}

func (t *sqlTx) query(q string, args ...any) (*sql.Rows, error) {
	if t.lock {
		q += t.store.target.dialect.lockSuffix
	}
	rows, err := t.tx.QueryContext(t.ctx, t.store.target.dialect.rebind(q), args...)
	if err != nil {
		return nil, t.fault(err)
	}
	return rows, nil
}
