package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoopRetriesUntilItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passes atomic.Int32
		l := NewLoop(LoopConfig{Pass: func(context.Context, string) (r Result) {
			if passes.Add(1) < 4 {
				r.Fail("x", errors.New("not yet"))
			}
			return r
		}})
		defer l.Close()
		gen := l.Kick("x", true)
		if r, ok := l.Wait(context.Background(), "x", gen); !ok || r.Errs["x"] != "not yet" {
			t.Errorf("first result %v, %v", r, ok)
		}
		time.Sleep(10 * time.Second)
		if n := passes.Load(); n != 4 {
			t.Errorf("%d passes", n)
		}
		if e := l.Errors(); len(e) > 0 {
			t.Errorf("errors %v", e)
		}
	})
}

func TestLoopCutsAPassShortWhenItsObjectChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passes atomic.Int32
		l := NewLoop(LoopConfig{Pass: func(ctx context.Context, _ string) (r Result) {
			if passes.Add(1) == 1 {
				<-ctx.Done()
				r.Fail("x", context.Cause(ctx))
			}
			return r
		}})
		defer l.Close()
		l.Kick("x", true)
		time.Sleep(time.Minute)
		l.Kick("x", false) // not a change: waits its turn
		time.Sleep(time.Minute)
		if n := passes.Load(); n != 1 {
			t.Fatalf("%d passes", n)
		}
		gen := l.Kick("x", true)
		if r, ok := l.Wait(context.Background(), "x", gen); !ok || len(r.Errs) > 0 {
			t.Errorf("%v, %v", r, ok)
		}
	})
}

func TestLoopNeverRunsTwoPassesOfAUnitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, total atomic.Int32
		l := NewLoop(LoopConfig{Pass: func(context.Context, string) Result {
			if now.Add(1) > 1 {
				t.Error("two passes at once")
			}
			total.Add(1)
			time.Sleep(time.Second)
			now.Add(-1)
			return Result{}
		}})
		defer l.Close()
		for range 100 {
			l.Kick("x", false)
		}
		if _, err := l.Settle(context.Background(), "x"); err != nil || total.Load() > 2 {
			t.Errorf("settled %v after %d passes for 100 kicks", err, total.Load())
		}
	})
}

func TestLoopWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoop(LoopConfig{Pass: func(ctx context.Context, _ string) Result {
			<-ctx.Done()
			return Result{}
		}})
		defer l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, ok := l.Wait(ctx, "x", l.Kick("x", true)); ok {
			t.Error("a pass under way counts as finished")
		}
	})
}

func TestListerSharesListsButNoOldOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lists atomic.Int32
		l := lister{list: func(context.Context) (*Inventory, error) {
			lists.Add(1)
			time.Sleep(100 * time.Millisecond)
			return &Inventory{}, nil
		}}
		for wave := range 3 {
			done := make(chan struct{})
			for range 100 {
				go func() {
					at := time.Now()
					inv, err := l.get(context.Background(), at)
					if err != nil || inv.At.Before(at) {
						t.Errorf("lists of %v for %v: %v", inv.At, at, err)
					}
					done <- struct{}{}
				}()
			}
			for range 100 {
				<-done
			}
			if n := int(lists.Load()); n > 2*(wave+1) {
				t.Errorf("%d lists for %d waves", n, wave+1)
			}
			time.Sleep(time.Second)
		}
	})
}

// A caller that waits for another unit's pass is told when there will be none.
func TestSettleEndsWithTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoop(LoopConfig{Pass: func(ctx context.Context, _ string) (r Result) {
			<-ctx.Done()
			time.Sleep(time.Second)
			return r
		}})
		l.Kick("x", false)
		settled := make(chan error, 1)
		go func() {
			_, err := l.Settle(context.Background(), "x")
			settled <- err
		}()
		synctest.Wait()
		l.Close()
		if err := <-settled; !errors.Is(err, context.Canceled) {
			t.Errorf("settled with %v", err)
		}
		if _, err := l.Settle(context.Background(), "unknown"); err != nil {
			t.Error(err)
		}
	})
}
