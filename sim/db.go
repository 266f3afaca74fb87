package sim

import (
	"context"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/sim/simnet"
	"github.com/virtual-disk-array/vda/store"
)

// database is the real store on a machine of its own.
type database struct {
	store.Store
	net     *simnet.Network
	machine string

	mu   sync.Mutex
	down bool          // refuses
	slow time.Duration // of every transaction
	// committed, when not nil, is called after each transaction that changes something,
	// before anyone hears of it.
	committed func()
}

func (d *database) set(down bool, slow time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down, d.slow = down, slow
}

// giveUp is when a driver gives up waiting for a server that is not reached.
const giveUp = 5 * time.Second

func unavailable(why string) error {
	return &vda.Error{Kind: vda.Unavailable, Op: "database", Object: "sim", Msg: why}
}

// procStore is a process's way to the database.
type procStore struct {
	db *database
	p  *simnet.Process
}

// reach returns when a message has got from one machine to the other.
func (s *procStore) reach(ctx context.Context, from, to string) error {
	limit, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	if s.db.net.Travel(limit, from, to) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable("no answer")
}

// trip carries a transaction to the database and its outcome back, which may
// get lost on the way.
func (s *procStore) trip(ctx context.Context, f func() error) error {
	if err := s.p.Gate(nil); err != nil {
		return unavailable(err.Error())
	}
	if err := s.reach(ctx, s.p.Machine, s.db.machine); err != nil {
		return err
	}
	s.db.mu.Lock()
	down, slow := s.db.down, s.db.slow
	s.db.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if down {
		return unavailable("connection refused")
	}
	if err := s.p.Gate(nil); err != nil {
		return unavailable(err.Error())
	}
	err := f()
	if lost := s.reach(ctx, s.db.machine, s.p.Machine); lost != nil {
		return lost
	}
	if dead := s.p.Gate(nil); dead != nil {
		return unavailable(dead.Error())
	}
	return err
}

// Update implements store.Store.
func (s *procStore) Update(ctx context.Context, fn func(tx store.Tx) error) error {
	return s.trip(ctx, func() error {
		err := s.db.Store.Update(ctx, fn)
		s.db.mu.Lock()
		told := s.db.committed
		s.db.mu.Unlock()
		if err == nil && told != nil {
			told()
		}
		return err
	})
}

// View implements store.Store.
func (s *procStore) View(ctx context.Context, fn func(tx store.Reader) error) error {
	return s.trip(ctx, func() error { return s.db.Store.View(ctx, fn) })
}

// Ping implements store.Store.
func (s *procStore) Ping(ctx context.Context) error {
	return s.trip(ctx, func() error { return s.db.Store.Ping(ctx) })
}

// Close implements store.Store; the database outlives its clients.
func (s *procStore) Close() error { return nil }

// hookCommits has f called after each transaction that changes something; nil: nothing.
func (s *sim) hookCommits(f func()) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	s.db.committed = f
}
