package mirror

import (
	"context"
	"sync"
	"time"
)

// News is what vda_mirror_watch returns. The tags doc are the reference.
type News struct {
	Changes uint64   `json:"changes" doc:"counts changes of all mirrors of this process; of the next call"`
	All     bool     `json:"all" doc:"mirrors has all there are; false: only those below, and others are as they were"`
	Mirrors []Status `json:"mirrors" doc:"those that have changed since, or of which bytes are copied, repaired or scrubbed, or legs lost or not connected"`
}

// news counts what happens to mirrors, for anyone who waits for it. Its lock is
// taken last.
type news struct {
	mu    sync.Mutex
	first uint64        // where this process began to count
	n     uint64        // of the last change
	gone  uint64        // of the last mirror that was taken apart
	next  chan struct{} // closed at the next change
}

// begin starts to count where no process before this one can have come to.
func (n *news) begin() {
	n.first = uint64(time.Now().UnixMicro())
	n.n, n.next = n.first, make(chan struct{})
}

// note counts a change, wakes those who wait, and returns the change's number.
func (n *news) note(gone bool) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.n++
	if gone {
		n.gone = n.n
	}
	close(n.next)
	n.next = make(chan struct{})
	return n.n
}

// since says up to where changes are counted, whether those after some number do
// not tell all, and what is closed at the next one.
func (n *news) since(changes uint64) (now uint64, all bool, next <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.n, changes < n.first || changes < n.gone || changes > n.n, n.next
}

// Wait returns what has changed when changes is not the Changes of the last News,
// or when ctx ends. 0, or a number of another process: it returns all mirrors at
// once.
func (m *Module) Wait(ctx context.Context, changes uint64) News {
	now, all, next := m.news.since(changes)
	if now == changes {
		select {
		case <-next:
			now, all, _ = m.news.since(changes)
		case <-ctx.Done():
		}
	}
	n := News{Changes: now, All: all, Mirrors: []Status{}}
	for _, x := range m.List() {
		if s, at := x.seen(); all || at > changes || s.restless() {
			n.Mirrors = append(n.Mirrors, s)
		}
	}
	return n
}

// seen is the mirror's status, and the number of its last change.
func (m *Mirror) seen() (Status, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status(), m.newsAt
}

// noteNews says that something of the mirror is to be told. m.mu is held.
func (m *Mirror) noteNews() { m.newsAt = m.mod.news.note(false) }

// restless reports that what is said of a mirror may become another without a
// change that counts.
func (s *Status) restless() bool {
	if s.Repair > 0 || s.Scrub.State == "running" {
		return true
	}
	for i := range s.Legs {
		if l := &s.Legs[i]; l.Lost || l.Lack > 0 || l.Why != "" {
			return true
		}
	}
	return false
}
