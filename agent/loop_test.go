package agent

import (
	"context"
	"errors"
	"slices"
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

// A pass that is asked for while another is under way, or follows an error, begins at a
// moment of its own, and goes by name: lists would be taken for it alone.
func TestLoopPassesThatFollowGoByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var named []bool
		l := NewLoop(LoopConfig{Pass: func(ctx context.Context, _ string) (r Result) {
			named = append(named, byName(ctx))
			time.Sleep(time.Second)
			if len(named) == 2 {
				r.Fail("x", errors.New("not yet"))
			}
			return r
		}})
		defer l.Close()
		l.Kick("x", false)
		synctest.Wait()
		l.Kick("x", false) // follows the first, and fails
		time.Sleep(time.Minute)
		l.Kick("x", false) // with others, for all it knows
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(named, []bool{false, true, true, false}) {
			t.Errorf("by name: %v", named)
		}
	})
}

// KickIdle leaves alone what is looked at now.
func TestLoopKicksIdleUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var long, short atomic.Int32
		l := NewLoop(LoopConfig{Pass: func(ctx context.Context, key string) (r Result) {
			if key == "short" {
				short.Add(1)
				return r
			}
			long.Add(1)
			time.Sleep(time.Hour)
			return r
		}})
		defer l.Close()
		l.Kick("long", false)
		l.Kick("short", false)
		time.Sleep(time.Minute)
		l.KickIdle()
		time.Sleep(24 * time.Hour)
		if long.Load() != 1 || short.Load() != 2 {
			t.Errorf("%d and %d passes, want 1 and 2", long.Load(), short.Load())
		}
	})
}

// Lists that take long are asked for less often: checks are further apart, and who wants
// lists one after the other waits and shares.
func TestListsTakeAPartOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const length = time.Second
		var lists atomic.Int32
		p := &Plane{status: PlaneStatus{Ready: true}}
		p.lister.list = func(context.Context) (*Inventory, error) {
			lists.Add(1)
			time.Sleep(length)
			return &Inventory{}, nil
		}
		n := &Node{Cfg: Config{CheckInterval: time.Second}, Plane: p}
		n.Loop = NewLoop(LoopConfig{Pass: func(ctx context.Context, _ string) (r Result) {
			if _, err := n.Inventory(ctx); err != nil {
				t.Error(err)
			}
			return r
		}})
		defer n.Loop.Close()
		for _, key := range []string{"a", "b", "c"} {
			n.Loop.Kick(key, false)
		}
		time.Sleep(time.Minute)
		begun := lists.Load()
		ctx, cancel := context.WithCancel(t.Context())
		go n.check(ctx)
		time.Sleep(10 * time.Minute)
		cancel()
		if got := lists.Load() - begun; got < 10 || got > 10*60/checkShare*2 {
			t.Errorf("checks took %d lists of %v in 10 min", got, length)
		}
		time.Sleep(time.Minute)
		begun = lists.Load()
		done := make(chan struct{})
		for i := range 1000 { // one each 10 ms
			go func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				at := time.Now()
				if inv, err := p.Inventory(t.Context(), at); err != nil || inv.At.Before(at) {
					t.Errorf("lists of %v for %v: %v", inv.At, at, err)
				}
				done <- struct{}{}
			}()
		}
		for range 1000 {
			<-done
		}
		if got := lists.Load() - begun; got > 9 { // without a pause 11 and more
			t.Errorf("%d lists of %v in 10 s", got, length)
		}
	})
}

// Inventories by name wait for their turn as long as lists would cost more.
func TestInventoriesByNameWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := asking{turns: make(chan struct{}, 1)}
		leave, mine, err := a.enter(t.Context(), 10, 0)
		if err != nil || !mine {
			t.Fatalf("a turn that is free is not given: %v", err)
		}
		if _, mine, err := a.enter(t.Context(), 10, 29); err != nil || mine {
			t.Errorf("10 questions in place of 29 things: %v, %v", mine, err)
		}
		second := make(chan func(), 1)
		go func() {
			leave, mine, err := a.enter(t.Context(), 10, 30)
			if err != nil || !mine {
				t.Errorf("10 questions in place of 30 things: %v, %v", mine, err)
			}
			second <- leave
		}()
		synctest.Wait()
		if _, mine, err := a.enter(t.Context(), 1, 30); err != nil || mine {
			t.Errorf("one more question in place of 30 things while 10 wait: %v, %v", mine, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := a.enter(ctx, 1, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a turn that does not come: %v", err)
		}
		leave()
		(<-second)()
		if leave, mine, err = a.enter(t.Context(), 1, 0); err != nil || !mine || a.waiting != 0 {
			t.Errorf("the turn is not given back: %v, %v, %d wait", mine, err, a.waiting)
		}
		leave()
	})
}
