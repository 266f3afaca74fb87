package cn

import (
	"context"
	"slices"
	"sync"
)

// turns lets one unit at a time act under a name that several may have one
// after the other: a deleted array's exporter and that of its successor, or two
// controllers of one array of which one is a tombstone. The next one looks at the
// data plane when the other has let go. Safe for concurrent use.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the name is free
}

// take waits for its turn under all names, and returns what gives them back.
func (t *turns) take(ctx context.Context, names []string) (release func(), err error) {
	names = slices.Clone(names)
	slices.Sort(names) // all take them in one order, so nobody waits for ever
	names = slices.Compact(names)
	var taken []string
	release = func() { t.free(taken) }
	for _, name := range names {
		for {
			wait := t.try(name)
			if wait == nil {
				taken = append(taken, name)
				break
			}
			select {
			case <-wait:
			case <-ctx.Done():
				release()
				return nil, context.Cause(ctx)
			}
		}
	}
	return release, nil
}

// try takes a name, or returns what is closed when somebody else lets go of it.
func (t *turns) try(name string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch := t.busy[name]; ch != nil {
		return ch
	}
	if t.busy == nil {
		t.busy = map[string]chan struct{}{}
	}
	t.busy[name] = make(chan struct{})
	return nil
}

func (t *turns) free(names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		close(t.busy[name])
		delete(t.busy, name)
	}
}
