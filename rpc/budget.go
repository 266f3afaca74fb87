package rpc

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

// smallRequest is the longest message, in bytes, that may use the part of the
// budget which is kept from long ones: heartbeats, and what operators ask for.
const smallRequest = 64 << 10

// budget shares out the bytes that the requests of all connections may take.
// Long messages get three quarters of them, and those of one address three
// quarters of that, so that nobody keeps short ones or another address out.
// First come, first served. Safe for concurrent use.
type budget struct {
	total    int64
	patience time.Duration      // how long a request waits for others to give bytes back
	met      func(refused bool) // is told of requests that wait, and of those refused

	mu       sync.Mutex
	used     int64
	peak     int64 // highest used
	big      int64 // the part of used that long messages have
	bigPeers map[string]int64
	waiting  []*claim
}

// claim is what one request asks for.
type claim struct {
	peer    string // address
	bytes   int64
	small   bool
	granted chan struct{}
}

func newBudget(total int64, met func(refused bool)) *budget {
	return &budget{total: total, patience: 5 * time.Second, met: met, bigPeers: map[string]int64{}}
}

// most is what one address may have for long messages, and so the most that one
// request may ever take.
func (b *budget) most() int64 { return b.total / 16 * 9 }

// take gets bytes for a request, waiting for others but not for ever. The error
// is RESOURCE_EXHAUSTED, or ctx's.
func (b *budget) take(ctx context.Context, peer string, bytes int64, small bool) error {
	c := &claim{peer: peer, bytes: bytes, small: small, granted: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	b.serve()
	b.mu.Unlock()
	select {
	case <-c.granted:
		return nil
	default:
	}
	b.met(false)
	timer := time.NewTimer(b.patience)
	defer timer.Stop()
	select {
	case <-c.granted:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	b.withdraw(c)
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	b.met(true)
	return busy("the requests under way take as much memory as the limit of %d bytes lets them", b.total)
}

// withdraw gives c up.
func (b *budget) withdraw(c *claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, c); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	} else {
		b.put(c.peer, c.bytes, c.small) // it was granted at the last moment
	}
	b.serve()
}

// give returns bytes that take got.
func (b *budget) give(peer string, bytes int64, small bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(peer, bytes, small)
	b.serve()
}

// put books bytes back; the caller holds the lock.
func (b *budget) put(peer string, bytes int64, small bool) {
	b.used -= bytes
	if small {
		return
	}
	b.big -= bytes
	if b.bigPeers[peer] -= bytes; b.bigPeers[peer] == 0 {
		delete(b.bigPeers, peer)
	}
}

// serve grants what fits, in order; the caller holds the lock. No long message
// overtakes one that waits for bytes of the whole, but one that waits for those
// of its own address stops no other's.
func (b *budget) serve() {
	stopped := false
	b.waiting = slices.DeleteFunc(b.waiting, func(c *claim) bool {
		switch {
		case b.used+c.bytes > b.total:
			stopped = stopped || !c.small
			return false
		case c.small:
		case stopped:
			return false
		case b.bigPeers[c.peer]+c.bytes > b.most():
			return false
		case b.big+c.bytes > b.total/4*3:
			stopped = true
			return false
		default:
			b.big += c.bytes
			b.bigPeers[c.peer] += c.bytes
		}
		b.used += c.bytes
		b.peak = max(b.peak, b.used)
		close(c.granted)
		return true
	})
}

// bytes is what requests take now, and the most they took at once.
func (b *budget) bytes() (used, peak int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.peak
}
