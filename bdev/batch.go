package bdev

import (
	"sync/atomic"
	"time"
)

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
	tick  uint32 // requests submitted with it, see timedEvery
	lane  uint32 // which shard of counters this goroutine uses; 0: none yet
}

// lanes numbers batches, so that goroutines spread over shards.
var lanes atomic.Uint32

// epoch makes Now monotonic.
var epoch = time.Now()

// now reads the monotonic clock in nanoseconds; never 0.
func now() int64 { return int64(time.Since(epoch)) + 1 }

// Now is the time of this pass in nanoseconds on a monotonic clock, read once
// a pass.
func (b *Batch) Now() int64 {
	if b.now == 0 {
		b.now = now()
	}
	return b.now
}

// Add has f flushed at the end of the pass. The flusher keeps a mark of its
// own so that it is added once.
func (b *Batch) Add(f Flusher) { b.dirty = append(b.dirty, f) }

// AddOnce is Add for a flusher without a mark: it looks whether f is waiting
// already.
func (b *Batch) AddOnce(f Flusher) {
	for _, d := range b.dirty {
		if d == f {
			return
		}
	}
	b.dirty = append(b.dirty, f)
}

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

// shard returns the number of this batch's shard among mask+1.
func (b *Batch) shard(mask uint32) uint32 {
	if b.lane == 0 {
		b.lane = lanes.Add(1) | 1<<31
	}
	return b.lane & mask
}
