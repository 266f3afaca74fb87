//go:build e2e

package chaos

import (
	"fmt"
	"sync"

	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

// ledger knows what each block may hold. One write a block is under way at a
// time, so a block holds the last acknowledged write or the one sent since.
// Safe for concurrent use.
type ledger struct {
	mu     sync.Mutex
	blocks []entry
	moment *moment // that is open; nil: none
}

type entry struct {
	acked, sent uint64
	undone      uint64 // what was sent after acked and up to this was rolled back
	busy        bool   // a write is under way
}

func newLedger(blocks int) *ledger { return &ledger{blocks: make([]entry, blocks)} }

// begin takes n blocks from first on for a write and returns their new
// sequence numbers; nil when one of them is being written.
func (l *ledger) begin(first uint64, n int) []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	span := l.blocks[first : first+uint64(n)]
	for i := range span {
		if span[i].busy {
			return nil
		}
	}
	seqs := make([]uint64, n)
	for i := range span {
		span[i].busy = true
		span[i].sent++
		seqs[i] = span[i].sent
		l.moment.note(first+uint64(i), seqs[i], false)
	}
	return seqs
}

// end says that the write was acknowledged.
func (l *ledger) end(first uint64, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range n {
		e := &l.blocks[first+uint64(i)]
		e.acked, e.busy = e.sent, false
		l.moment.note(first+uint64(i), e.acked, true)
	}
}

// again says that the write was acknowledged and begins another one of the
// same blocks.
func (l *ledger) again(first uint64, n int) []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seqs := make([]uint64, n)
	for i := range n {
		e := &l.blocks[first+uint64(i)]
		e.acked = e.sent
		l.moment.note(first+uint64(i), e.acked, true)
		e.sent++
		seqs[i] = e.sent
		l.moment.note(first+uint64(i), e.sent, false)
	}
	return seqs
}

// hold says that the write was acknowledged and keeps the blocks from other
// writers; end gives them back.
func (l *ledger) hold(first uint64, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range n {
		e := &l.blocks[first+uint64(i)]
		e.acked = e.sent
		l.moment.note(first+uint64(i), e.acked, true)
	}
}

// oldest returns the least sequence numbers that a read sent now may return.
func (l *ledger) oldest(first uint64, n int) []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seqs := make([]uint64, n)
	for i := range n {
		seqs[i] = l.blocks[first+uint64(i)].acked
	}
	return seqs
}

// check says what is wrong with data read from first on; least is what oldest
// returned before the read was sent.
func (l *ledger) check(first uint64, data []byte, least []uint64) []error {
	var errs []error
	for i := range least {
		number := first + uint64(i)
		seq, err := stamp.Generation(data[i*blockSize:(i+1)*blockSize], number)
		l.mu.Lock()
		sent, undone := l.blocks[number].sent, l.blocks[number].undone
		l.mu.Unlock()
		switch {
		case err != nil:
		case seq < least[i]:
			err = fmt.Errorf("block %d holds sequence %d, but %d was acknowledged: a write is lost", number, seq, least[i])
		case seq > least[i] && seq <= undone:
			err = fmt.Errorf("block %d holds sequence %d, but it was rolled back to %d", number, seq, least[i])
		case seq > sent:
			err = fmt.Errorf("block %d holds sequence %d, but only %d were sent", number, seq, sent)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
