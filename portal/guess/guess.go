// Package guess slows down those who guess secrets. A Limiter counts wrong guesses by a key,
// which is where they come from (Origin) or whose secret is guessed; so many are looked at
// at once, and then one more per some seconds. It knows no secrets, asks nobody, and keeps
// what it counts in memory: a portal that starts again begins at none.
package guess

import (
	"net/netip"
	"sync"
	"time"
)

// Limiter counts wrong guesses. Safe for concurrent use; its fields do not change.
type Limiter struct {
	Most     int           // so many of one key are looked at, at once
	Forgiven time.Duration // after which one of them does not count any more

	mu     sync.Mutex
	counts map[string]count
}

// count is what counts against the next guess of a key.
type count struct {
	n     int
	since time.Time // when n was last reckoned
}

// maxKeys bounds what is remembered: of more keys at once none is.
const maxKeys = 10000

// Try counts a guess as a wrong one, and reports that it may be looked at. Right takes it back.
func (l *Limiter) Try(key string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.at(key, now)
	if c.n >= l.Most {
		return false
	}
	if _, known := l.counts[key]; !known {
		l.makeRoom(now)
	}
	c.n++
	l.counts[key] = c
	return true
}

// Right takes the last Try of a key back, as it was no guess, or could not be looked at.
func (l *Limiter) Right(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, known := l.counts[key]; known && c.n > 0 {
		c.n--
		l.counts[key] = c
	}
}

// at is what counts at a time; the caller holds the lock.
func (l *Limiter) at(key string, now time.Time) count {
	c, known := l.counts[key]
	if !known {
		return count{since: now}
	}
	if n := int(now.Sub(c.since) / l.Forgiven); n > 0 {
		return count{n: max(c.n-n, 0), since: c.since.Add(time.Duration(n) * l.Forgiven)}
	}
	return c
}

// makeRoom forgets what does not count any more, when there is too much; the caller holds
// the lock.
func (l *Limiter) makeRoom(now time.Time) {
	if l.counts == nil {
		l.counts = map[string]count{}
	}
	if len(l.counts) < maxKeys {
		return
	}
	for key := range l.counts {
		if l.at(key, now).n == 0 {
			delete(l.counts, key)
		}
	}
	if len(l.counts) >= maxKeys {
		clear(l.counts)
	}
}

// Origin is what guesses are counted by, lest somebody who makes them keeps all others out:
// an IPv4 address, or the 64 bits of an IPv6 one that a host does not choose. peer is
// "address:port".
func Origin(peer string) string {
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return peer
	}
	addr := ap.Addr().Unmap().WithZone("")
	if p, err := addr.Prefix(64); err == nil && addr.Is6() {
		return p.String()
	}
	return addr.String()
}
