//go:build e2e

package chaos

import (
	"fmt"

	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

// moment is what a snapshot may hold that is taken between two points of time, which
// open and seal are: all that was acknowledged before open, nothing that was sent after
// seal. In between it is one moment: when it holds a write, it holds all that was
// acknowledged before that was sent.
type moment struct {
	acked []uint64 // by block, at open
	sent  []uint64 // by block, at seal
	steps []step   // in between, in order
	found []uint64 // what it holds, once it has been read
}

// step is a write of a block that was sent or acknowledged.
type step struct {
	block, seq uint64
	acked      bool
}

// note records a step; nil does nothing.
func (m *moment) note(block, seq uint64, acked bool) {
	if m != nil {
		m.steps = append(m.steps, step{block, seq, acked})
	}
}

// open begins a moment.
func (l *ledger) open() *moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &moment{}
	for i := range l.blocks {
		m.acked = append(m.acked, l.blocks[i].acked)
	}
	l.moment = m
	return m
}

// seal ends the moment that is open.
func (l *ledger) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.moment.acked {
		l.moment.sent = append(l.moment.sent, l.blocks[i].sent)
	}
	l.moment = nil
}

// abandon forgets the moment that is open: there is no snapshot of it.
func (l *ledger) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moment = nil
}

// holds says what is wrong with a snapshot of that moment that has these sequence
// numbers, by block. When it has been read before it has to hold the same.
func (m *moment) holds(seqs []uint64) (errs []error) {
	if len(seqs) != len(m.acked) || len(m.sent) != len(m.acked) {
		return []error{fmt.Errorf("%d blocks were read of %d, %d are sealed", len(seqs), len(m.acked), len(m.sent))}
	}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for b, seq := range seqs {
		switch {
		case m.found != nil && seq != m.found[b]:
			bad("block %d holds sequence %d, but %d when it was read first", b, seq, m.found[b])
		case seq < m.acked[b]:
			bad("block %d holds sequence %d, but %d was acknowledged before the snapshot was asked for", b, seq, m.acked[b])
		case seq > m.sent[b]:
			bad("block %d holds sequence %d, but %d was the last that had been sent when the snapshot was there", b, seq, m.sent[b])
		}
	}
	last := -1 // the last write that it holds, in the order of sending
	for i, s := range m.steps {
		if s.block < uint64(len(seqs)) && !s.acked && seqs[s.block] >= s.seq {
			last = i
		}
	}
	for _, s := range m.steps[:last+1] {
		if s.block < uint64(len(seqs)) && s.acked && seqs[s.block] < s.seq {
			x := m.steps[last]
			bad("block %d holds sequence %d and block %d sequence %d, but sequence %d of that was acknowledged before the former was sent",
				x.block, seqs[x.block], s.block, seqs[s.block], s.seq)
		}
	}
	if m.found == nil {
		m.found = seqs
	}
	return errs
}

// rewind says that the array was rolled back to a snapshot that has been read, while
// nobody wrote. Blocks beyond it are zeros.
func (l *ledger) rewind(m *moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.blocks {
		e := &l.blocks[i]
		e.undone, e.acked, e.busy = e.sent, 0, false
		if i < len(m.found) {
			e.acked = m.found[i]
		}
	}
}

// extend adds blocks, which are zeros, to have n.
func (l *ledger) extend(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.blocks) < n {
		l.blocks = append(l.blocks, entry{})
	}
}

// size is how many blocks there are.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.blocks)
}

// sequences are the sequence numbers of data read from first on, and what is wrong with
// them.
func sequences(first uint64, data []byte) (seqs []uint64, errs []error) {
	for at := 0; at < len(data); at += blockSize {
		seq, err := stamp.Generation(data[at:at+blockSize], first+uint64(at/blockSize))
		if err != nil {
			errs = append(errs, err)
		}
		seqs = append(seqs, seq)
	}
	return seqs, errs
}
