package target

import (
	"testing"

	"vda/bdev"
)

// drainPool leaves no buffer of 128 KiB in the process's pool; the returned
// function gives them back.
func drainPool(t *testing.T) func() {
	t.Helper()
	bdev.Buffers.SetLimit(0)
	var all [][]byte
	for {
		b := bdev.Buffers.Get(128 << 10)
		if b == nil {
			break
		}
		all = append(all, b)
	}
	return func() {
		bdev.Buffers.SetLimit(1 << 30)
		for _, b := range all {
			bdev.Buffers.Put(b)
		}
	}
}
