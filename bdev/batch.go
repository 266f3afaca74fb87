package bdev

import "time"

// Flusher is something that gathers work during a batch, such as a
// connection with replies to send.
type Flusher interface {
	// FlushBatch does the gathered work. It may complete requests and so
	// add to b; it is called with no lock held.
	FlushBatch(b *Batch)
}

// Batch gathers work of one pass of one goroutine. It is not safe for
// concurrent use; every goroutine that submits or completes has its own.
type Batch struct {
	dirty []Flusher
	now   int64
}

// epoch makes Now monotonic.
var epoch = time.Now()

// Now is the time of this pass in nanoseconds on a monotonic clock, read once
// a pass.
func (b *Batch) Now() int64 {
	if b.now == 0 {
		b.now = int64(time.Since(epoch)) + 1
	}
	return b.now
}

// Add has f flushed at the end of the pass. The flusher keeps a mark of its
// own so that it is added once.
func (b *Batch) Add(f Flusher) { b.dirty = append(b.dirty, f) }

// Flush ends the pass: it flushes everything that was added, including what
// the flushing itself adds.
func (b *Batch) Flush() {
	for i := 0; i < len(b.dirty); i++ {
		f := b.dirty[i]
		b.dirty[i] = nil
		f.FlushBatch(b)
	}
	b.dirty = b.dirty[:0]
	b.now = 0
}
