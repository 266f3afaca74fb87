package portal

import (
	"context"
	"time"
)

// settle waits a little for what a create has made and what is not up at once:
// a controller that has to connect to disks of its array, say. It looks again
// with longer and longer pauses, until the thing is well, within has passed or
// ctx ends, and returns what it saw last.
func settle[T any](ctx context.Context, within time.Duration, now T, err error, well func(T) bool, again func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for pause := 50 * time.Millisecond; err == nil && !well(now); pause *= 2 {
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return now, nil
		case <-wait.C:
		}
		now, err = again()
	}
	return now, err
}
