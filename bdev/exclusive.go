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
func (ex *exclusive) enter(e *entry, c *compound, b *Batch) {
	ex.mu.Lock()
	ex.count++
	ex.next = append(ex.next, c)
	ex.begin(e)
	ex.mu.Unlock()
	ex.kick(e, b)
}

// begin marks the handles; x.mu is held.
func (ex *exclusive) begin(e *entry) {
	if ex.active {
		return
	}
	ex.active = true
	e.reg.mu.Lock()
	defer e.reg.mu.Unlock()
	e.exclusive = true
	for h := range e.handles {
		h.state.Or(stateExclusive)
	}
}

// kick starts the compare-and-writes when only they are under way. Anyone who
// ends a request during a session calls it.
func (ex *exclusive) kick(e *entry, b *Batch) {
	ex.mu.Lock()
	if !ex.active || ex.running || len(ex.next) == 0 || e.inFlight() != ex.count {
		ex.mu.Unlock()
		return
	}
	ex.running = true
	ex.turn, ex.next = ex.next, ex.turn[:0]
	c := ex.pop()
	ex.mu.Unlock()
	c.start(b)
}

func (ex *exclusive) pop() *compound {
	c := ex.turn[0]
	ex.turn = ex.turn[1:]
	return c
}

// leave is called when a compare-and-write is over and before its request is
// completed; it returns what is to be done after that.
func (ex *exclusive) leave(e *entry) (after func(*Batch)) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	ex.count--
	if len(ex.turn) > 0 {
		return ex.pop().start
	}
	waiting := ex.parked
	ex.parked, ex.running, ex.active, ex.turn = nil, false, false, nil
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
		ex.mu.Lock()
		if len(ex.next) > 0 {
			ex.begin(e)
		}
		ex.mu.Unlock()
		ex.kick(e, b)
	}
}

// park keeps r, which counts as in flight, until the session is over; false
// when it is over already.
func (ex *exclusive) park(h *Handle, r *Request, b *Batch) bool {
	if !r.Retain() {
		r.Complete(statusNoBuffer, b)
		return true
	}
	ex.mu.Lock()
	if !ex.active {
		ex.mu.Unlock()
		return false
	}
	s := r.shard
	r.handle, r.shard = nil, nil
	ex.parked = append(ex.parked, parked{h, r})
	s.inflight.Add(-1)
	ex.mu.Unlock()
	ex.kick(h.ent, b) // the session may have waited for r, too
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
