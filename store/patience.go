package store

import (
	"context"
	"sync/atomic"
	"time"
)

// patience ends a transaction for which the database takes too long.
type patience struct {
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer // of a view
	silent atomic.Bool // the timer has ended it
	limit  time.Duration
}

// limited is ctx for one transaction. One that writes ends after the limit: others wait
// for its rows, and EventSettled relies on it. A view, for which nobody waits, ends when
// the database has not answered one statement for so long. It may have thousands of them,
// all of a node's objects: with a limit for the whole, a machine that is a little too slow
// for that would begin again each time, and would never get to the end.
func (s *sqlStore) limited(ctx context.Context, writes bool) (context.Context, *patience) {
	p := &patience{limit: s.limit}
	if writes {
		p.ctx, p.cancel = context.WithTimeout(ctx, s.limit)
		return p.ctx, p
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.timer = time.AfterFunc(s.limit, func() {
		p.silent.Store(true)
		p.cancel()
	})
	return p.ctx, p
}

// answered notes that the database has.
func (p *patience) answered() {
	if p.timer != nil && p.ctx.Err() == nil {
		p.timer.Reset(p.limit)
	}
}

// stop is to be called after the transaction. It returns why that was ended, nil when it was not.
func (p *patience) stop() error {
	defer p.cancel()
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.silent.Load() {
		return context.DeadlineExceeded
	}
	return p.ctx.Err()
}
