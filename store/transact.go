package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/virtual-disk-array/vda"
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
	var events []vda.Event
	err := s.retry(ctx, s.write, s.target.dialect.update, true, func(t *sqlReader) error {
		tx := &sqlTx{t}
		if err := fn(tx); err != nil {
			return err
		}
		events = t.events
		if err := tx.countLegs(); err != nil {
			return err
		}
		return tx.insertEvents()
	})
	if err == nil && s.onEvent != nil {
		for _, e := range events {
			s.onEvent(e)
		}
	}
	return err
}

// View implements Store.
func (s *sqlStore) View(ctx context.Context, fn func(Reader) error) error {
	return s.retry(ctx, s.read, s.target.dialect.view, false, func(t *sqlReader) error { return fn(t) })
}

func (s *sqlStore) retry(ctx context.Context, db *sql.DB, opts sql.TxOptions, lock bool, fn func(*sqlReader) error) error {
	giveUp := time.Now().Add(maxRetry)
	backoff := minBackoff
	lost := 0
	var last error // why it was tried again
	for {
		if ctx.Err() != nil {
			return s.timeUp(ctx.Err(), 0, nil, last)
		}
		begin := time.Now()
		limited, p := s.limited(ctx, lock)
		again, err := s.once(limited, p.answered, db, opts, lock, fn)
		ended := p.stop()
		switch {
		case err == nil:
			return nil
		case ended != nil && again != never:
			return s.timeUp(ended, time.Since(begin), err, last)
		case again == never:
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
		case <-wait.C:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

type urgentKey struct{}

// Urgent has transactions of the context go before others: connections are kept free for
// them. It is for the few, short ones on which the whole cluster waits.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

// queue waits until a transaction may ask for a connection, and returns what to call at its
// end. The error is ctx's.
func (s *sqlStore) queue(ctx context.Context, db *sql.DB) (leave func(), err error) {
	line := s.line
	if db != s.write {
		line = nil // SQLite's readers are many
	}
	if line == nil || ctx.Value(urgentKey{}) != nil {
		return func() {}, nil
	}
	select {
	case line <- struct{}{}:
		return func() { <-line }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type again uint8

const (
	never again = iota
	afterBackoff
	afterReconnect
	timeIsUp // the context ended in it
)

// once runs fn in one transaction and says whether another try can help.
func (s *sqlStore) once(ctx context.Context, answered func(), db *sql.DB, opts sql.TxOptions, lock bool,
	fn func(*sqlReader) error) (again, error) {
	leave, err := s.queue(ctx, db)
	if err != nil {
		return s.judge(ctx, err), s.wrap(err)
	}
	defer leave()
	inner, err := db.BeginTx(ctx, &opts)
	if err != nil {
		return s.judge(ctx, err), s.wrap(err)
	}
	done := false
	defer func() {
		if !done { // fn failed or panicked
			inner.Rollback()
		}
	}()
	if s.onStatement != nil {
		inTime := answered
		answered = func() {
			inTime()
			s.onStatement()
		}
	}
	t := &sqlReader{ctx: ctx, answered: answered, tx: inner, store: s, lock: lock}
	if !lock {
		// A view of a schema that is not ours would be a lie.
		err = t.checkSchema(false)
	}
	if err == nil {
		err = fn(t)
	}
	if err == nil && lock {
		// At the end, so that no migration can have come in between.
		err = t.checkSchema(true)
	}
	if t.broken != nil {
		// The database has given the transaction up, whatever fn made of it.
		return s.judge(ctx, t.broken), s.wrap(t.broken)
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
	if ctx.Err() != nil && (err == ctx.Err() || err == sql.ErrTxDone) {
		return timeIsUp, err // database/sql has rolled it back: the time was up before the commit was sent
	}
	if lock && (s.classOf(err) == classUnreachable || ctx.Err() != nil && !errors.Is(err, context.Canceled)) {
		e := s.error(classUnreachable, err)
		e.Msg = "was lost during the commit; whether the change was made is not known"
		return never, e
	}
	return s.judge(ctx, err), s.wrap(err)
}

// judge says whether a transaction that ended with an error of the database is
// to be tried again.
func (s *sqlStore) judge(ctx context.Context, err error) again {
	if ctx.Err() != nil {
		return timeIsUp
	}
	switch s.classOf(err) {
	case classConflict:
		return afterBackoff
	case classUnreachable, classStarting, classReadOnly, classConnections:
		return afterReconnect
	}
	return never
}

// sqlReader is a Reader. Its methods, and those of sqlTx, stand in the files
// named after the nouns.
type sqlReader struct {
	ctx      context.Context
	answered func() // the database has
	tx       *sql.Tx
	store    *sqlStore
	lock     bool            // lock what is read
	broken   error           // an error that is about the database, not about a row
	of       *sqlReader      // the transaction's own, whose broken counts; nil: this is it
	events   []vda.Event     // recorded
	recount  map[string]bool // arrays whose columns' legs are to be counted at the end
}

// sqlTx is a Tx.
type sqlTx struct{ *sqlReader }

var (
	_ Reader = (*sqlReader)(nil)
	_ Tx     = (*sqlTx)(nil)
)

// fault notes an error that ends the transaction, and wraps it.
func (t *sqlReader) fault(err error) error {
	if t.of != nil {
		return t.of.fault(err)
	}
	_, ends := about[t.store.classOf(err)]
	if t.broken == nil && (ends || t.ctx.Err() != nil) {
		t.broken = err
	}
	return t.store.wrap(err)
}

func (t *sqlReader) Unlocked() Reader { return t.unlocked() }

func (t *sqlReader) unlocked() *sqlReader {
	if !t.lock {
		return t
	}
	u := *t
	u.lock, u.of = false, t
	return &u
}

func (t *sqlTx) exec(q string, args ...any) (affected int64, err error) {
	res, err := t.tx.ExecContext(t.ctx, t.store.target.dialect.rebind(q), args...)
	if err != nil {
		return 0, t.fault(err)
	}
	t.answered()
	n, err := res.RowsAffected()
	if err != nil {
		return 0, t.fault(err)
	}
	return n, nil
}

func (t *sqlReader) query(q string, args ...any) (*sql.Rows, error) {
	if t.lock {
		q += t.store.target.dialect.lockSuffix
	}
	rows, err := t.tx.QueryContext(t.ctx, t.store.target.dialect.rebind(q), args...)
	if err != nil {
		return nil, t.fault(err)
	}
	t.answered()
	return rows, nil
}
