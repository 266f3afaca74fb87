//go:build e2e

package chaos

import (
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

// TestLedgerOfAMoment: what a snapshot may hold, and what it may not.
func TestLedgerOfAMoment(t *testing.T) {
	l := newLedger(3)
	write := func(b uint64) { l.begin(b, 1); l.end(b, 1) }
	write(0)
	l.begin(1, 1)
	m := l.open()
	l.end(1, 1)
	write(0)
	write(2)
	l.begin(2, 1)
	l.seal()
	write(0)
	for _, row := range []struct {
		seqs []uint64
		good bool
	}{
		{[]uint64{1, 0, 0}, true},
		{[]uint64{1, 1, 0}, true},
		{[]uint64{2, 1, 2}, true},
		{[]uint64{2, 1, 0}, true},
		{[]uint64{0, 0, 0}, false}, // 1 was acknowledged before
		{[]uint64{3, 1, 2}, false}, // 3 was sent after
		{[]uint64{2, 0, 0}, false}, // block 1 was acknowledged before block 0 was sent
		{[]uint64{1, 1, 1}, false},
		{[]uint64{2, 1, 3}, false},
		{[]uint64{2, 1}, false},
	} {
		x := *m
		if errs := x.holds(row.seqs); (len(errs) == 0) != row.good {
			t.Errorf("a snapshot that holds %v: %v", row.seqs, errs)
		}
	}
	if errs := m.holds([]uint64{2, 1, 1}); len(errs) != 0 {
		t.Fatal(errs)
	}
	if errs := m.holds([]uint64{2, 1, 2}); len(errs) != 1 {
		t.Errorf("it holds something else: %v", errs)
	}
}

// TestLedgerOfARollback: after a rollback a block holds what the snapshot shows, or what
// was sent since, and nothing that was written in between.
func TestLedgerOfARollback(t *testing.T) {
	l := newLedger(1)
	write := func() { l.begin(0, 1); l.end(0, 1) }
	write()
	m := l.open()
	l.seal()
	m.holds([]uint64{1})
	write()
	write()
	l.extend(2)
	l.begin(1, 1)
	l.rewind(m)
	ok := func(want ...uint64) {
		t.Helper()
		var good []uint64
		for seq := range uint64(6) {
			block := make([]byte, blockSize)
			if seq > 0 {
				stamp.Put(block, 0, seq)
			}
			if len(l.check(0, block, l.oldest(0, 1))) == 0 {
				good = append(good, seq)
			}
		}
		if !slices.Equal(good, want) {
			t.Errorf("good are %v, want %v", good, want)
		}
	}
	ok(1)
	if seqs := l.begin(0, 1); !slices.Equal(seqs, []uint64{4}) {
		t.Errorf("the next write has %v", seqs)
	}
	ok(1, 4)
	l.end(0, 1)
	ok(4)
	block := make([]byte, blockSize)
	if errs := l.check(1, block, l.oldest(1, 1)); len(errs) != 0 {
		t.Errorf("zeros in what is beyond the snapshot: %v", errs)
	}
	stamp.Put(block, 1, 1)
	if errs := l.check(1, block, l.oldest(1, 1)); len(errs) == 0 {
		t.Error("what was written beyond the snapshot before the rollback is good")
	}
}
