package nvmftgt

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
)

// drainPool leaves no buffer in the process's pool; the returned function
// gives them back.
func drainPool(t *testing.T) func() {
	t.Helper()
	bdev.Buffers.SetLimit(0)
	return func() { bdev.Buffers.SetLimit(1 << 30) }
}
