package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/reason"
)

// Result is what a pass over one unit found.
type Result struct {
	Errs map[string]string // by object id: what is wrong now
	Ails map[string]string // by object id: what is wrong with that on which it lies, though it is as desired
	Gone []string          // ids of tombstones that were carried out
}

// Fail notes an error of an object; the first one stays.
func (r *Result) Fail(id string, err error) {
	if r.Errs == nil {
		r.Errs = map[string]string{}
	}
	if _, has := r.Errs[id]; !has {
		r.Errs[id] = reason.Full(err)
	}
}

// Ail notes that an object is as desired, and that what it lies on is not
// well; the first one stays.
func (r *Result) Ail(id string, err error) {
	if r.Ails == nil {
		r.Ails = map[string]string{}
	}
	if _, has := r.Ails[id]; !has {
		r.Ails[id] = reason.Full(err)
	}
}

// errSuperseded cancels a pass whose object has changed meanwhile.
var errSuperseded = errors.New("superseded by a newer desired state")

// LoopConfig configures a Loop.
type LoopConfig struct {
	// Pass makes one unit match its desired state. It must return soon after
	// ctx ends. Passes of one unit never overlap.
	Pass func(ctx context.Context, key string) Result
	// PassTimeout bounds one pass. Default 10 minutes: zeroing a big disk is
	// one pass.
	PassTimeout time.Duration
	// IDs returns the objects that a unit reports, for a pass that ends in a
	// panic. Default: the key's part after the last slash.
	IDs func(key string) []string
	// Log hears of panics. Default slog.Default().
	Log *slog.Logger
	// RetryMin and RetryMax bound the pause after a pass with errors, which
	// doubles each time. Defaults 250 ms and 5 s.
	RetryMin, RetryMax time.Duration
}

// Loop runs the passes of its units, each on a goroutine that lives as long
// as there is work. Safe for concurrent use.
type Loop struct {
	cfg    LoopConfig
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	units  map[string]*unit
	closed bool
}

type unit struct {
	key        string
	want, done uint64 // generations: asked for, and finished
	running    bool
	named      bool                    // the next pass goes by name: see ByName
	cancel     context.CancelCauseFunc // of the running pass
	result     Result
	finished   chan struct{} // closed after each pass
	pause      time.Duration
	timer      *time.Timer
}

// NewLoop returns a loop without units.
func NewLoop(cfg LoopConfig) *Loop {
	if cfg.PassTimeout <= 0 {
		cfg.PassTimeout = 10 * time.Minute
	}
	if cfg.RetryMin <= 0 {
		cfg.RetryMin = 250 * time.Millisecond
	}
	if cfg.RetryMax <= 0 {
		cfg.RetryMax = 5 * time.Second
	}
	if cfg.IDs == nil {
		cfg.IDs = func(key string) []string { return []string{key[strings.LastIndexByte(key, '/')+1:]} }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	l := &Loop{cfg: cfg, units: map[string]*unit{}}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// Close ends running passes and waits for them.
func (l *Loop) Close() {
	l.mu.Lock()
	l.closed = true
	for _, u := range l.units {
		if u.timer != nil {
			u.timer.Stop()
		}
	}
	l.mu.Unlock()
	l.cancel(context.Canceled)
	l.wg.Wait()
}

// Kick asks for a pass over a unit, which is made when it is new, and returns
// the generation to Wait for. With changed a pass under way is cut short.
func (l *Loop) Kick(key string, changed bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kick(key, changed, false)
}

// KickNamed is Kick for a pass over an object that a request has named, one of
// few: see ByName.
func (l *Loop) KickNamed(key string, changed bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kick(key, changed, true)
}

// KickAlike is Kick, without a change, for a pass that goes by name if the pass
// does to which ctx belongs.
func (l *Loop) KickAlike(ctx context.Context, key string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kick(key, false, byName(ctx))
}

// kick is called with l.mu held.
func (l *Loop) kick(key string, changed, named bool) uint64 {
	u := l.units[key]
	if u == nil {
		u = &unit{key: key, finished: make(chan struct{})}
		l.units[key] = u
	}
	u.want++
	// What is asked for while a pass is under way follows it at a moment of its own, with nobody to share lists with.
	u.named = u.named || named || u.cancel != nil
	if l.closed {
		return u.want
	}
	if changed {
		u.pause = 0
		if u.cancel != nil {
			u.cancel(errSuperseded)
		}
	}
	if !u.running {
		u.running = true
		l.wg.Go(func() { l.work(u) })
	}
	return u.want
}

// KickAll asks for a pass over every unit.
func (l *Loop) KickAll() {
	for _, key := range l.Keys() {
		l.Kick(key, false)
	}
}

// KickIdle asks for a pass over every unit of which none is under way.
func (l *Loop) KickIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, u := range l.units {
		if !u.running {
			l.kick(key, false, false)
		}
	}
}

// Len returns the number of units; a nil Loop has none.
func (l *Loop) Len() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.units)
}

// Keys returns the units' keys in no order.
func (l *Loop) Keys() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := make([]string, 0, len(l.units))
	for k := range l.units {
		keys = append(keys, k)
	}
	return keys
}

// Forget drops a unit after its running pass, which is not cut short.
func (l *Loop) Forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.units[key]; u != nil {
		if u.timer != nil {
			u.timer.Stop()
		}
		delete(l.units, key)
	}
}

// Wait returns the result of the first pass that began when gen had been asked
// for or later, an empty one for a unit that does not exist, or false when ctx
// ends or the loop is closed first.
func (l *Loop) Wait(ctx context.Context, key string, gen uint64) (Result, bool) {
	l.mu.Lock()
	u := l.units[key]
	l.mu.Unlock()
	if u == nil {
		return Result{}, true
	}
	for {
		l.mu.Lock()
		done, r, ch := u.done, u.result, u.finished
		l.mu.Unlock()
		if done >= gen {
			return r, true
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return Result{}, false
		case <-l.ctx.Done():
			return Result{}, false
		}
	}
}

// Settle waits for the passes that have been asked for so far and returns the
// last result; an error when ctx ends or the loop is closed first.
func (l *Loop) Settle(ctx context.Context, key string) (Result, error) {
	l.mu.Lock()
	u := l.units[key]
	if u == nil {
		l.mu.Unlock()
		return Result{}, nil
	}
	gen := u.want
	l.mu.Unlock()
	r, ok := l.Wait(ctx, key, gen)
	if !ok {
		return r, cmp.Or(context.Cause(ctx), context.Cause(l.ctx))
	}
	return r, nil
}

// Last returns the result of a unit's last pass; false before the first.
func (l *Loop) Last(key string) (Result, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.units[key]; u != nil && u.done > 0 {
		return u.result, true
	}
	return Result{}, false
}

// Note shows r as the unit's result while its pass goes on, for passes that
// take long.
func (l *Loop) Note(key string, r Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.units[key]; u != nil {
		u.result = r
	}
}

// Errors returns, by object id, what the last passes of all units found
// wrong.
func (l *Loop) Errors() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := map[string]string{}
	for _, u := range l.units {
		maps.Copy(errs, u.result.Ails)
		maps.Copy(errs, u.result.Errs)
	}
	return errs
}

// work makes passes over a unit until it has made one for each generation asked
// for; one pass is enough for all that were asked for before it began. A pass that
// was cut short by a change has no result: the next one follows at once.
func (l *Loop) work(u *unit) {
	for {
		l.mu.Lock()
		if u.done == u.want || l.ctx.Err() != nil {
			u.running = false
			l.mu.Unlock()
			return
		}
		gen := u.want
		ctx, cancel := context.WithCancelCause(l.ctx)
		u.cancel = cancel
		if u.named {
			ctx, u.named = ByName(ctx), false
		}
		if u.timer != nil {
			u.timer.Stop()
		}
		l.mu.Unlock()

		pass, stop := context.WithTimeout(ctx, l.cfg.PassTimeout)
		r := l.pass(pass, u.key)
		stop()
		cut := context.Cause(ctx) == errSuperseded
		cancel(nil)

		l.mu.Lock()
		u.cancel = nil
		if cut && u.want > gen {
			l.mu.Unlock()
			continue
		}
		u.done, u.result = gen, r
		close(u.finished)
		u.finished = make(chan struct{})
		l.scheduleRetry(u)
		l.mu.Unlock()
	}
}

// pass makes one pass. A panic in it is its result.
func (l *Loop) pass(ctx context.Context, key string) (r Result) {
	err := Guard(func() error {
		r = l.cfg.Pass(ctx, key)
		return nil
	})
	if err == nil {
		return r
	}
	r = Result{}
	before, _ := l.Last(key)
	for _, id := range l.cfg.IDs(key) {
		r.Fail(id, err)
	}
	if maps.Equal(before.Errs, r.Errs) {
		return r // it is in the log
	}
	if fault := (*PanicError)(nil); errors.As(err, &fault) {
		l.cfg.Log.Error("a pass ended in a panic", "unit", key, "panic", fmt.Sprint(fault.Value), "stack", string(fault.Stack))
	}
	return r
}

// scheduleRetry is called with l.mu held.
func (l *Loop) scheduleRetry(u *unit) {
	if len(u.result.Errs) == 0 {
		u.pause = 0
		return
	}
	if u.want > u.done || l.closed || l.units[u.key] != u {
		return
	}
	u.pause = min(max(2*u.pause, l.cfg.RetryMin), l.cfg.RetryMax)
	u.timer = time.AfterFunc(u.pause, func() {
		l.mu.Lock()
		live := l.units[u.key] == u
		l.mu.Unlock()
		if live {
			l.KickNamed(u.key, false) // it has an error of its own, at a moment of its own
		}
	})
}
