//go:build e2e

package chaos

import (
	"testing"

	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

func TestLedgerFindsWhatIsWrong(t *testing.T) {
	l := newLedger(4)
	block := make([]byte, blockSize)
	put := func() []uint64 { s := l.begin(2, 1); l.end(2, 1); return s }
	put()
	put()
	if s := l.begin(2, 1); s[0] != 3 {
		t.Fatalf("third write has sequence %d", s[0])
	}
	if l.begin(1, 2) != nil {
		t.Error("a block was given to two writes at once")
	}
	least := l.oldest(2, 1)
	for name, c := range map[string]struct {
		fill func()
		good bool
	}{
		"the acknowledged one":  {func() { stamp.Put(block, 2, 2) }, true},
		"the one under way":     {func() { stamp.Put(block, 2, 3) }, true},
		"a lost write":          {func() { stamp.Put(block, 2, 1) }, false},
		"one that was not sent": {func() { stamp.Put(block, 2, 4) }, false},
		"zeros":                 {func() { clear(block) }, false},
		"another block":         {func() { stamp.Put(block, 3, 2) }, false},
		"a damaged one":         {func() { stamp.Put(block, 2, 2); block[4000] ^= 1 }, false},
		"no stamp":              {func() { clear(block); block[4000] = 1 }, false},
		"half of the one before": {func() {
			b := make([]byte, blockSize)
			stamp.Put(b, 2, 2)
			stamp.Put(block, 2, 3)
			copy(block[2048:], b[2048:])
		}, false},
	} {
		c.fill()
		if errs := l.check(2, block, least); (len(errs) == 0) != c.good {
			t.Errorf("%s: %v", name, errs)
		}
	}
}
