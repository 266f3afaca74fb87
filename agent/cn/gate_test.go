package cn

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// However many legs are on a dn that hangs, connections to others are made: a quarter of
// those that are made at once may be to one. One that waits for its turn may be given up.
func TestAHungServerLeavesTurnsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(maxAttaching, maxAttachingTo)
		var hung []func()
		begun := make(chan func(), 100)
		ctx, cancel := context.WithCancelCause(t.Context())
		givenUp := errors.New("given up")
		ended := 0
		ends := make(chan error, 100)
		for range 100 {
			go func() {
				leave, err := g.enter(ctx, "hung:4420")
				if err != nil {
					ends <- err
					return
				}
				begun <- leave
			}()
		}
		take := func() {
			synctest.Wait()
			for len(begun) > 0 {
				hung = append(hung, <-begun)
			}
		}
		if take(); len(hung) != maxAttachingTo {
			t.Errorf("%d attempts to one data plane at once, want %d", len(hung), maxAttachingTo)
		}
		for _, at := range []string{"a:4420", "b:4420", "c:4420"} {
			for range maxAttachingTo {
				leave, err := g.enter(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
			}
		}
		hung[0]()
		if take(); len(hung) != maxAttachingTo+1 {
			t.Errorf("%d have begun when one has ended", len(hung))
		}
		cancel(givenUp)
		synctest.Wait()
		for len(ends) > 0 {
			if err := <-ends; !errors.Is(err, givenUp) {
				t.Error(err)
			}
			ended++
		}
		if ended != 100-len(hung) {
			t.Errorf("%d that waited were given up, %d have begun, of 100", ended, len(hung))
		}
		for _, leave := range hung[1:] {
			leave()
		}
		if len(g.to) != 3 || len(g.all) != 3*maxAttachingTo {
			t.Errorf("%d data planes and %d attempts are left, want those of three that are connected to", len(g.to), len(g.all))
		}
	})
}
