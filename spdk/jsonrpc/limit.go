package jsonrpc

import (
	"sync/atomic"
	"time"
)

// A socket's clients are few and trusted, but any of them can forget to close
// connections. When all are taken, or the process has no descriptor left, the
// client that has been idle longest makes room for a new one, so that nobody
// is locked out of the management of a data plane. One that works is never
// disconnected, nor one that has called in the last seconds: agents see the end
// of their connection as that of the data plane. Who has begun a request and does
// not end it counts as idle from its begin on, however often he sends a byte.
const (
	// idleTime is how long a client that has called before must have been idle
	// to be disconnected, muteTime a client that never did.
	idleTime = 10 * time.Second
	muteTime = time.Second

	// roomEvery is how often a new client looks for one that is idle.
	roomEvery = 50 * time.Millisecond
)

// use is what a client is at.
type use struct {
	last  atomic.Int64 // Unix time in ns of the last byte received or sent
	begun atomic.Int64 // the same of the first byte of a request that has not ended; 0: there is none
	calls atomic.Int64 // under way
	ever  atomic.Bool  // it has called
	over  atomic.Bool  // it was disconnected to make room
}

func (u *use) touch() { u.last.Store(time.Now().UnixNano()) }

// receive marks bytes of a request, whole its end.
func (u *use) receive() {
	u.touch()
	u.begun.CompareAndSwap(0, u.last.Load())
}

func (u *use) whole() { u.begun.Store(0) }

// begin and end mark a call.
func (u *use) begin() {
	u.ever.Store(true)
	u.calls.Add(1)
}

func (u *use) end() {
	u.calls.Add(-1)
	u.touch()
}

// idle returns for how long the client has been idle beyond what it may.
func (u *use) idle(now time.Time) time.Duration {
	if u.calls.Load() > 0 {
		return 0
	}
	d := now.Sub(time.Unix(0, u.last.Load()))
	if b := u.begun.Load(); b != 0 {
		d = now.Sub(time.Unix(0, b))
	}
	if u.ever.Load() {
		return d - idleTime
	}
	return d - muteTime
}

// takeSlot waits for a connection's slot and makes room for it if it can; false
// when the server is closed.
func (s *Server) takeSlot() bool {
	for {
		select {
		case s.slots <- struct{}{}:
			return true
		default:
		}
		s.meet("JSON-RPC: as many clients as allowed are connected; those that are idle make room for new ones", "clients", s.cfg.MaxConns)
		s.makeRoom()
		select {
		case s.slots <- struct{}{}:
			return true
		case <-s.ctx.Done():
			return false
		case <-time.After(roomEvery):
		}
	}
}

// makeRoom disconnects the client that has been idle longest, if one has been
// so for long enough.
func (s *Server) makeRoom() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var most *conn
	var longest time.Duration
	for c := range s.conns {
		if d := c.use.idle(now); d > longest {
			most, longest = c, d
		}
	}
	if most != nil {
		most.use.touch() // not chosen again while it ends
		most.use.over.Store(true)
		_ = most.nc.Close()
	}
}

// meetEvery is the shortest time between two lines about a limit.
const meetEvery = time.Minute

// meet says that a limit was met, unless it was said a moment ago. Serve's own.
func (s *Server) meet(msg string, attrs ...any) {
	s.limits.Add(1)
	s.met++
	if now := time.Now(); now.Sub(s.said) >= meetEvery {
		s.cfg.Log.Warn(msg, append([]any{"times", s.met}, attrs...)...)
		s.said, s.met = now, 0
	}
}

// LimitsMet returns how often a client met a limit of connections or
// descriptors.
func (s *Server) LimitsMet() uint64 { return s.limits.Load() }
