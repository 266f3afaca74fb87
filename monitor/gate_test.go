package monitor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestGate: Syncs make room while the monitor is held up, what is new passes before what
// is due, and places of those that gave up are not lost.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(64)
		var mu sync.Mutex
		var in []string
		ctx, cancel := context.WithCancel(t.Context())
		come := func(name string, due bool) {
			go func() {
				if g.enter(ctx, due) == nil {
					mu.Lock()
					in = append(in, name)
					mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			slices.Sort(in) // of those let in at once, any may be the first
			if !slices.Equal(in, want) {
				t.Errorf("in are %q, not %q", in, want)
			}
			in = nil
		}
		for i := range gateStart {
			come(fmt.Sprint(i), i%2 == 0)
		}
		expect("0", "1", "2", "3", "4", "5", "6", "7")
		come("due 1", true)
		come("new 1", false)
		come("due 2", true)
		come("new 2", false)
		expect()
		g.adjust(true)
		for range 4 {
			g.leave()
		}
		expect() // four are left, and no more than four may be
		for range 3 {
			g.leave()
		}
		expect("due 1", "new 1", "new 2")
		for range 10 {
			g.adjust(true)
		}
		if used, limit := g.now(); used != 4 || limit != 1 {
			t.Errorf("%d of %d, one must always get through", used, limit)
		}
		come("new 3", false)
		cancel() // due 2 and new 3 give up
		synctest.Wait()
		for range 4 {
			g.leave()
		}
		for range 10 {
			g.adjust(false)
		}
		if used, limit := g.now(); used != 0 || limit != 64 {
			t.Errorf("%d of %d", used, limit)
		}
	})
}
