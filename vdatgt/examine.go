package vdatgt

import (
	"context"
	"maps"
	"slices"
	"sync"
	"syscall"
)

// examiner shows new bdevs to the modules, in the background.
type examiner struct {
	t    *Target
	look func(name string) // has the modules look at a bdev

	mu      sync.Mutex
	auto    bool
	wanted  map[string]bool               // by bdev_examine, while auto is off
	pending map[chan struct{}]examination // under way, by what is closed at the end
	stopped bool
}

// examination says why one was begun.
type examination struct {
	asked bool // by bdev_examine, of a bdev that was there; else the bdev has appeared
}

func (e *examiner) init(t *Target) {
	e.t, e.auto, e.wanted, e.pending = t, true, map[string]bool{}, map[chan struct{}]examination{}
	e.look = func(name string) {
		t.raids.Examine(name)
		t.examineLvstore(name)
	}
}

// setAuto turns the examination of every new bdev on or off.
func (e *examiner) setAuto(on bool) {
	e.mu.Lock()
	e.auto = on
	e.mu.Unlock()
}

// settings returns whether every new bdev is examined, and which were asked
// for while they were not.
func (e *examiner) settings() (auto bool, wanted []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.auto, slices.Sorted(maps.Keys(e.wanted))
}

// appeared is the registry's hook for a new bdev. It must not block: a module
// may hold its own lock while it registers.
func (e *examiner) appeared(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.auto || e.wanted[name] {
		e.start(name, examination{})
	}
}

// examine has the bdev looked at now or, when it is not there, as soon as it
// appears.
func (e *examiner) examine(name string) {
	_, there := e.t.reg.Get(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wanted[name] = true
	if there {
		e.start(name, examination{asked: true})
	}
}

// start runs one examination; e.mu is held.
func (e *examiner) start(name string, why examination) {
	if e.stopped {
		return
	}
	done := make(chan struct{})
	e.pending[done] = why
	go func() {
		defer func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			delete(e.pending, done)
			close(done)
		}()
		e.look(name)
	}()
}

// wait returns when all has been examined that bdev_examine had begun to before, and all
// that appeared before or meanwhile, as it may come of what is waited for; ECANCELED when
// ctx ends first. What others have examined from now on is not waited for: of many
// arrays that come back together none waits for the last.
func (e *examiner) wait(ctx context.Context) error {
	if err := e.await(ctx, e.underWay(func(examination) bool { return true })); err != nil {
		return err
	}
	return e.waitAppeared(ctx)
}

// waitAppeared is wait for what has appeared alone.
func (e *examiner) waitAppeared(ctx context.Context) error {
	for {
		all := e.underWay(func(why examination) bool { return !why.asked })
		if len(all) == 0 {
			return nil
		}
		if err := e.await(ctx, all); err != nil {
			return err
		}
	}
}

// underWay returns the examinations that are.
func (e *examiner) underWay(of func(examination) bool) (all []chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for done, why := range e.pending {
		if of(why) {
			all = append(all, done)
		}
	}
	return all
}

func (e *examiner) await(ctx context.Context, all []chan struct{}) error {
	for _, done := range all {
		select {
		case <-done:
		case <-ctx.Done():
			return syscall.ECANCELED
		}
	}
	return nil
}

// stop lets no further examination begin and waits for those under way.
func (e *examiner) stop() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	_ = e.wait(context.Background()) // the background context never ends
}
