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
	t *Target

	mu      sync.Mutex
	auto    bool
	wanted  map[string]bool // by bdev_examine, while auto is off
	pending int             // examinations under way
	idle    chan struct{}   // closed when pending falls to 0; nil while it is 0
	stopped bool
}

func (e *examiner) init(t *Target) {
	e.t, e.auto, e.wanted = t, true, map[string]bool{}
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
		e.start(name)
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
		e.start(name)
	}
}

// start runs one examination; e.mu is held.
func (e *examiner) start(name string) {
	if e.stopped {
		return
	}
	if e.pending == 0 {
		e.idle = make(chan struct{})
	}
	e.pending++
	go func() {
		defer e.done()
		e.t.raids.Examine(name)
		e.t.examineLvstore(name)
	}()
}

func (e *examiner) done() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending--
	if e.pending == 0 {
		close(e.idle)
		e.idle = nil
	}
}

// wait returns when nothing is being examined; ECANCELED when ctx ends first.
func (e *examiner) wait(ctx context.Context) error {
	for {
		e.mu.Lock()
		idle := e.idle
		e.mu.Unlock()
		if idle == nil {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return syscall.ECANCELED
		}
	}
}

// stop lets no further examination begin and waits for those under way.
func (e *examiner) stop() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	_ = e.wait(context.Background()) // the background context never ends
}
