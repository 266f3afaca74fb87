package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
)

// TestBusyDeletions: a deletion that is refused as busy is tried again for as long as its call has time,
// and with time left for the answer; any other error is the answer at once.
func TestBusyDeletions(t *testing.T) {
	busy := vda.Errorf(vda.Conflict, "nodes have not let go of it yet")
	for name, c := range map[string]struct {
		err    error
		until  time.Duration // after which it is err no more, 0 for ever
		limit  time.Duration // of the call, 0 for none
		want   codes.Code
		before time.Duration // when it is answered
	}{
		"busy for a moment":           {busy, 3 * time.Second, 0, codes.OK, 6 * time.Second},
		"busy, and the call has time": {busy, 5 * time.Second, 10 * time.Second, codes.OK, 10 * time.Second},
		"busy for longer":             {busy, 0, 10 * time.Second, codes.Aborted, 9 * time.Second},
		"busy for ever":               {busy, 0, 0, codes.Aborted, busyTime},
		"exported":                    {vda.Errorf(vda.FailedPrecondition, "it is exported"), 0, 0, codes.FailedPrecondition, time.Millisecond},
		"gone":                        {vda.Errorf(vda.NotFound, "there is none"), 0, 0, codes.OK, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, begin := t.Context(), time.Now()
				if c.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.limit)
					defer cancel()
				}
				err := deleted(ctx, func(context.Context) error {
					if c.until > 0 && time.Since(begin) >= c.until {
						return nil
					}
					return c.err
				})
				if took := time.Since(begin); status.Code(err) != c.want || took >= c.before {
					t.Errorf("%v after %v, want %v before %v", err, took, c.want, c.before)
				}
			})
		})
	}
}
