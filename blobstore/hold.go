package blobstore

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/blobstore/format"
)

// ErrHoldEnded says that a blob's I/O is not held any more, or could not be in time.
var ErrHoldEnded = fmt.Errorf("the hold of the blob's I/O has ended: %w", syscall.ETIMEDOUT)

// Hold holds back all I/O of a blob until it is released, for a limited time: its caller
// may die. So what is seen of several blobs, of several stores and processes too,
// while all are held is of one moment, provided that each release says that the hold was
// still in force. Methods are safe for concurrent use.
type Hold struct {
	b     *Blob
	begun time.Time

	mu    sync.Mutex
	timer *time.Timer
	ended time.Time // zero while it is in force
}

// Hold begins a hold and returns when none of the blob's I/O is under way. The time limit
// runs from its beginning. ErrHoldEnded when what is under way does not end in time;
// nothing is held then.
func (b *Blob) Hold(limit time.Duration) (*Hold, error) {
	h := &Hold{b: b, begun: time.Now()}
	parked, ok := b.gate.freezeBy(h.begun.Add(limit))
	if !ok {
		b.store.resubmit(b, parked)
		return nil, fmt.Errorf("I/O has not ended in %v: %w", limit, ErrHoldEnded)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(time.Until(h.begun.Add(limit)), func() { h.Release() })
	return h, nil
}

// Ended reports that the hold is not in force any more.
func (h *Hold) Ended() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.ended.IsZero()
}

// Release ends the hold. It returns how long I/O was held, and whether it was until now.
func (h *Hold) Release() (held time.Duration, inForce bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended.IsZero() {
		return h.ended.Sub(h.begun), false
	}
	h.timer.Stop()
	h.ended = time.Now()
	h.b.store.thaw(h.b)
	return h.ended.Sub(h.begun), true
}

// Snapshot is Blob.Snapshot of what is held. ErrHoldEnded when it is not held any more.
func (h *Hold) Snapshot(xattrs []format.Xattr) (*Blob, error) { return h.b.snapshotIn(h, xattrs) }
