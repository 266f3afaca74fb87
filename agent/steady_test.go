package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/agent/plane"
	"github.com/virtual-disk-array/vda/spdk"
)

// fragile is a data plane that dies when calls meet that SPDK does not survive.
type fragile struct {
	mu    sync.Mutex
	under map[string]int
	met   []string
	calls int
}

func (f *fragile) Call(_ context.Context, method string, _, _ any) error {
	kind := "closes"
	if strings.Contains(method, "_get_") {
		kind = "lists"
	}
	f.mu.Lock()
	f.calls++
	f.under[kind]++
	if f.under["closes"] > 0 && f.under["lists"] > 0 {
		f.met = append(f.met, method)
	}
	f.mu.Unlock()
	time.Sleep(3 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under[kind]--
	return nil
}

func newSteady(f *fragile) *steady {
	d := plane.Kind{}.Driver(plane.Config{})
	return &steady{c: f, timeout: time.Minute, log: slog.New(slog.DiscardHandler), closes: d.Closes, lists: d.Lists}
}

// TestCallsThatCrashSPDKDoNotMeet: SPDK dies when paths or lvstores are listed while one goes away,
// whichever call came first. Neither kind keeps the other away for ever, and one that waits is over
// when its caller's time is.
func TestCallsThatCrashSPDKDoNotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fragile{under: map[string]int{}}
		api := spdk.API{Caller: newSteady(f)}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range 100 {
					if err := api.BdevNvmeDetachController(t.Context(), "x"); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(1+i) * time.Millisecond)
				}
			})
			wg.Go(func() {
				for n := range 100 {
					var err error
					if n%2 == 0 {
						_, err = api.BdevNvmeGetIOPaths(t.Context())
					} else {
						_, err = api.BdevLvolGetLvstores(t.Context())
					}
					if err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(1+i) * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if len(f.met) > 0 || f.calls != 800 {
			t.Errorf("%d of %d calls met one that they must not meet: %v ...", len(f.met), f.calls, f.met[:min(3, len(f.met))])
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := &fragile{under: map[string]int{}}
		s := newSteady(f)
		api := spdk.API{Caller: s}
		if err := s.enterClosing(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := api.BdevNvmeGetIOPaths(ctx); !errors.Is(err, context.DeadlineExceeded) || f.calls > 0 {
			t.Errorf("beside a call that closes: %v, %d calls", err, f.calls)
		}
		s.leave(&s.closing)
		if _, err := api.BdevNvmeGetIOPaths(t.Context()); err != nil || f.calls != 1 {
			t.Errorf("afterwards: %v, %d calls", err, f.calls)
		}
		if err := s.enterListing(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := api.BdevNvmeDetachController(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || f.calls > 1 {
			t.Errorf("beside a call that lists: %v, %d calls", err, f.calls)
		}
		if err := s.enterListing(t.Context()); err != nil { // what gave up does not keep others away
			t.Error(err)
		}
	})
}
