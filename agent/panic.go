package agent

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// PanicError is a fault of the agent's own that ended what it was at: one
// unit's pass, and nothing else.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine it happened on
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("a fault of the agent has ended its work on this object (panic: %v); its log has the details; please report them",
		e.Value)
}

// unlooked is what a pass ends in, like a panic, that finds out in the midst of
// it that it cannot look at the data plane (Inventory.all). It is an error of
// the data plane's, and no fault.
type unlooked struct{ err error }

// Guard calls f and returns a panic in it as a PanicError.
func Guard(f func() error) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case *PanicError: // of a Group
			err = v
		case unlooked:
			err = v.err
		default:
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}

// Group runs parts of a pass at once. A panic in one is raised again by Wait, so
// that it ends the pass and not the process. The zero value is ready.
type Group struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	fault error
}

// Go calls f on a goroutine of its own.
func (g *Group) Go(f func()) {
	g.wg.Go(func() {
		if err := Guard(func() error { f(); return nil }); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.fault = err
		}
	})
}

// Wait returns when all have ended.
func (g *Group) Wait() {
	g.wg.Wait()
	switch fault := g.fault.(type) {
	case nil:
	case *PanicError:
		panic(fault)
	default:
		panic(unlooked{fault})
	}
}
