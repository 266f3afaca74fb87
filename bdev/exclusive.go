package bdev

import "sync"

// exclusive gives a device to compare-and-writes that handles put together of
// reads and writes: nothing else is under way between the two. It costs other
// requests nothing while there are none: they look at the state of their
// handle anyhow, and a bit there sends them here.
//
// A session begins with the first compare-and-write. From then on others are
// parked, what is under way is waited for, and then all compare-and-writes
// that have come have their turn, one after the other. The parked requests go
// on before the next session begins.
type exclusive struct {
	mu      sync.Mutex
	active  bool        // the handles have stateExclusive
	running bool        // nothing else is under way
	count   int64       // compare-and-writes counted as in flight
	next    []*compound // came since running
	turn    []*compound // of this session
	parked  []parked
}

// parked is a request that waits for the end of a session. It does not count
// as in flight.
type parked struct {
	h *Handle
	r *Request
}

// enter begins or joins a session for c.
func (x *exclusive) enter(e *entry, c *compound, b *Batch) {
	x.mu.Lock()
	x.count++
	x.next = append(x.next, c)
	x.begin(e)
	x.mu.Unlock()
	x.kick(e, b)
}

// begin marks the handles; x.mu is held.
func (x *exclusive) begin(e *entry) {
	if x.active {
		return
	}
	x.active = true
	e.reg.mu.Lock()
	defer e.reg.mu.Unlock()
	e.exclusive = true
	for h := range e.handles {
		h.state.Or(stateExclusive)
	}
}

// kick starts the compare-and-writes when only they are under way. Anyone who
// ends a request during a session calls it.
func (x *exclusive) kick(e *entry, b *Batch) {
	x.mu.Lock()
	if !x.active || x.running || len(x.next) == 0 || e.inFlight() != x.count {
		x.mu.Unlock()
		return
	}
	x.running = true
	x.turn, x.next = x.next, x.turn[:0]
	c := x.pop()
	x.mu.Unlock()
	c.start(b)
}

func (x *exclusive) pop() *compound {
	c := x.turn[0]
	x.turn = x.turn[1:]
	return c
}

// leave is called when a compare-and-write is over and before its request is
// completed; it returns what is to be done after that.
func (x *exclusive) leave(e *entry) (after func(*Batch)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.count--
	if len(x.turn) > 0 {
		return x.pop().start
	}
	waiting := x.parked
	x.parked, x.running, x.active, x.turn = nil, false, false, nil
	e.reg.mu.Lock()
	e.exclusive = false
	for h := range e.handles {
		h.state.And(^uint32(stateExclusive))
	}
	e.reg.mu.Unlock()
	return func(b *Batch) {
		for _, p := range waiting {
			p.h.Submit(p.r, b)
		}
		x.mu.Lock()
		if len(x.next) > 0 {
			x.begin(e)
		}
		x.mu.Unlock()
		x.kick(e, b)
	}
}

// park keeps r, which counts as in flight, until the session is over; false
// when it is over already.
func (x *exclusive) park(h *Handle, r *Request, b *Batch) bool {
	if !r.Retain() {
		r.Complete(statusNoBuffer, b)
		return true
	}
	x.mu.Lock()
	if !x.active {
		x.mu.Unlock()
		return false
	}
	s := r.shard
	r.handle, r.shard = nil, nil
	x.parked = append(x.parked, parked{h, r})
	s.inflight.Add(-1)
	x.mu.Unlock()
	x.kick(h.ent, b) // the session may have waited for r, too
	return true
}

// inFlight is the number of requests under way at the device.
func (e *entry) inFlight() int64 {
	e.reg.mu.Lock()
	defer e.reg.mu.Unlock()
	n := int64(0)
	for h := range e.handles {
		n += int64(h.InFlight())
	}
	return n
}
