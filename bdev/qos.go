package bdev

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Limits of a device, as bdev_set_qos_limit has them; 0 is no limit. They
// hold for all users of the device together, for reads and writes only.
type Limits struct {
	RWIOs uint64 // reads and writes per second; rounded up to a multiple of 1000
	RWMB  uint64 // MiB per second read or written
	RMB   uint64 // MiB per second read
	WMB   uint64 // MiB per second written
}

// qosCredit is how much unused time a limit remembers: how late a release of
// waiting requests may run, on a busy machine, without loss of throughput.
// It is also the burst after a pause, 2.5 % of what the limit allows in 10 s: with
// the last request, of 128 KiB at 1 MiB per second, it stays below 5 %.
const qosCredit = int64(250 * time.Millisecond)

// qosPause is the shortest sleep between two releases.
const qosPause = 500 * time.Microsecond

// qos delays the requests of one device. Every limit is a clock: a request
// moves it on by its cost in time, and may go when the clock is not ahead of
// the real one. Reads and writes wait in lines of their own, so that a limit
// of the one does not hold up the other; where both share a limit the lines
// take turns.
type qos struct {
	mu      sync.Mutex
	limits  Limits
	rwIOs   rate
	rwBytes rate
	rBytes  rate
	wBytes  rate
	waiting [2][]*Request // reads and writes, each in order of arrival
	running bool          // a goroutine is releasing
	wake    chan struct{} // tells it that the limits are others
	since   int64         // when the first of those that wait began to; 0: none waits
	total   int64         // ns in which some waited, before since
}

func newQoS() *qos { return &qos{wake: make(chan struct{}, 1)} }

// line is where r waits.
func line(r *Request) int {
	if r.Op == OpWrite {
		return 1
	}
	return 0
}

// ahead reports whether some have to go before r; q.mu is held.
func (q *qos) ahead(r *Request) bool {
	own := line(r)
	shared := q.rwIOs.per != 0 || q.rwBytes.per != 0
	return len(q.waiting[own]) > 0 || shared && len(q.waiting[1-own]) > 0
}

// rate is one limit.
type rate struct {
	per   uint64 // units a second; 0 no limit
	clock int64  // ns, like Batch.Now
}

func (l *rate) open(now int64) bool { return l.per == 0 || l.clock <= now }

func (l *rate) charge(units uint64, now int64) {
	if l.per != 0 {
		l.clock = max(l.clock, now-qosCredit) + int64(float64(units)*1e9/float64(l.per))
	}
}

// admit charges r and reports that it may go; otherwise the request waits, or
// has failed, and is no longer the caller's.
func (q *qos) admit(r *Request, b *Batch) bool {
	q.mu.Lock()
	// A pass may have begun long ago: look at the clock before waiting.
	if !q.ahead(r) && (q.pass(r, b.Now()) || q.pass(r, now())) {
		q.mu.Unlock()
		return true
	}
	if !r.Retain() {
		q.mu.Unlock()
		r.Complete(statusNoBuffer, b)
		return false
	}
	q.waiting[line(r)] = append(q.waiting[line(r)], r)
	if q.since == 0 {
		q.since = now()
	}
	start := !q.running
	q.running = true
	q.mu.Unlock()
	if start {
		go q.run()
	}
	return false
}

// pass charges r if all its limits are open; q.mu is held.
func (q *qos) pass(r *Request, now int64) bool {
	direction := &q.rBytes
	if r.Op == OpWrite {
		direction = &q.wBytes
	}
	if !q.rwIOs.open(now) || !q.rwBytes.open(now) || !direction.open(now) {
		return false
	}
	bytes := r.Blocks * uint64(r.handle.Info().BlockSize)
	q.rwIOs.charge(1, now)
	q.rwBytes.charge(bytes, now)
	direction.charge(bytes, now)
	return true
}

// run releases waiting requests when their time has come, until none waits.
func (q *qos) run() {
	var b Batch
	var ready []*Request
	for {
		t := now()
		q.mu.Lock()
		ready = q.leaving(ready[:0], t)
		rest := len(q.waiting[0]) + len(q.waiting[1])
		var pause time.Duration
		if rest == 0 {
			q.running = false
		} else {
			pause = time.Duration(q.next(t) - t)
		}
		q.mu.Unlock()
		resume(ready, &b)
		if rest == 0 {
			return
		}
		pauseOrWake(max(pause, qosPause), q.wake)
	}
}

// pauseOrWake waits for d, or until wake has something.
func pauseOrWake(d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	}
}

// settled notes that none waits any more; q.mu is held.
func (q *qos) settled(now int64) {
	if q.since != 0 && len(q.waiting[0])+len(q.waiting[1]) == 0 {
		q.total += max(now-q.since, 0)
		q.since = 0
	}
}

// throttled is for how long requests have waited so far: time in which at least
// one did.
func (q *qos) throttled() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.total
	if q.since != 0 {
		d += max(now()-q.since, 0)
	}
	return time.Duration(d)
}

// leaving takes the requests out of the lines that may go, and appends them to
// ready; q.mu is held.
func (q *qos) leaving(ready []*Request, now int64) []*Request {
	var gone [2]int
	for moved := true; moved; {
		moved = false
		for i, l := range q.waiting {
			if n := gone[i]; n < len(l) && (l[n].handle.Removed() || q.pass(l[n], now)) {
				ready = append(ready, l[n])
				gone[i]++
				moved = true
			}
		}
	}
	for i, l := range q.waiting {
		rest := copy(l, l[gone[i]:])
		clear(l[rest:])
		q.waiting[i] = l[:rest]
	}
	q.settled(now)
	return ready
}

// next returns when the first of a line may go; q.mu is held and some wait.
func (q *qos) next(now int64) int64 {
	first := int64(math.MaxInt64)
	for i, direction := range []*rate{&q.rBytes, &q.wBytes} {
		if len(q.waiting[i]) == 0 {
			continue
		}
		at := now
		for _, l := range []*rate{&q.rwIOs, &q.rwBytes, direction} {
			if l.per != 0 {
				at = max(at, l.clock)
			}
		}
		first = min(first, at)
	}
	return first
}

// set replaces the limits; what waits is measured by the new ones.
func (q *qos) set(l Limits) {
	q.mu.Lock()
	q.limits = l
	t := now()
	q.rwIOs = rate{l.RWIOs, t}
	q.rwBytes = rate{l.RWMB << 20, t}
	q.rBytes = rate{l.RMB << 20, t}
	q.wBytes = rate{l.WMB << 20, t}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// release lets everything that waits go at once; removed devices' requests
// fail.
func (q *qos) release() {
	q.mu.Lock()
	ready := append(q.waiting[0], q.waiting[1]...)
	q.waiting = [2][]*Request{}
	q.settled(now())
	q.mu.Unlock()
	var b Batch
	resume(ready, &b)
}

// resume issues requests that have waited, or fails those whose device is going.
func resume(ready []*Request, b *Batch) {
	for _, r := range ready {
		if r.handle.Removed() {
			r.Complete(statusGone, b)
		} else {
			r.handle.issue(r, b)
		}
	}
	b.Flush()
}

// maxMB keeps bytes per second within 64 bits.
const maxMB = 1 << 43

// SetQoS limits a device from now on; no limits at all end it. ENODEV if
// unknown.
func (reg *Registry) SetQoS(name string, l Limits) error {
	l.RWIOs = (l.RWIOs + 999) / 1000 * 1000
	l.RWMB, l.RMB, l.WMB = min(l.RWMB, maxMB), min(l.RMB, maxMB), min(l.WMB, maxMB)
	reg.mu.Lock()
	e := reg.names[name]
	if e == nil || e.removing {
		reg.mu.Unlock()
		return fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	q := e.qos.Load()
	if q == nil && l != (Limits{}) {
		q = newQoS()
		q.set(l)
		e.qos.Store(q)
		reg.mu.Unlock()
		return nil
	}
	reg.mu.Unlock()
	if q == nil {
		return nil
	}
	// Without limits the qos stays, with every rate open: requests that are
	// on their way into it are let through.
	q.set(l)
	if l == (Limits{}) {
		q.release()
	}
	return nil
}

// QoS returns the limits of a device. ENODEV if unknown.
func (reg *Registry) QoS(name string) (Limits, error) {
	reg.mu.Lock()
	e := reg.names[name]
	reg.mu.Unlock()
	if e == nil {
		return Limits{}, fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	q := e.qos.Load()
	if q == nil {
		return Limits{}, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limits, nil
}
