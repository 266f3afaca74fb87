package disk

import (
	"context"
	"fmt"
	"slices"
)

// Zeroer zeros parts of a disk.
type Zeroer interface {
	Size() uint64 // bytes
	// Zero makes n bytes from off on read as zeros.
	Zero(ctx context.Context, off, n uint64) error
}

// WipePlaces zeros every place of a block device at which Look looks, so that
// it is blank, and no copy of what was on it is found at its end. It goes from
// the end to the start, where stamps are: cut off, it has left each place as it
// was or zero.
func WipePlaces(ctx context.Context, z Zeroer) error {
	for _, p := range slices.Backward(places(z.Size())) {
		if err := z.Zero(ctx, p.off, p.n); err != nil {
			return fmt.Errorf("its %d bytes at %d cannot be wiped: %w", p.n, p.off, err)
		}
	}
	return nil
}
