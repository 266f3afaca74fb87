package agent

import (
	"context"
	"time"
)

// clearStep is how many bytes are cleared between two pauses.
const clearStep = 64 << 20

// Clear deallocates, which gives space back, and where deallocated blocks do
// not read as zeros it writes zeros first.
func (d *nvmeDisk) Clear(ctx context.Context, progress func(done uint64)) error {
	zeroes := d.ns.Identity().Zeroes
	for off, size := int64(0), d.ns.Size(); off < size; {
		n, begin := min(clearStep, size-off), time.Now()
		if !zeroes {
			if err := d.ns.WriteZeroes(ctx, off, n); err != nil {
				return err
			}
		}
		if err := d.ns.Deallocate(ctx, off, n); err != nil {
			switch {
			case ctx.Err() != nil:
				return err
			case zeroes: // not supported after all
				zeroes = false
				continue
			}
		}
		off += n
		if progress != nil {
			progress(uint64(off))
		}
		if err := rest(ctx, time.Since(begin)); err != nil {
			return err
		}
	}
	return d.ns.Flush(ctx)
}

// rest sleeps as long as the work took.
func rest(ctx context.Context, work time.Duration) error {
	t := time.NewTimer(work)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
