package bdev

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// Sleeping costs more than waiting a little: waking a processor that has
// gone idle takes about 25 µs in a virtual machine. So a goroutine whose
// input was busy a moment ago polls for some microseconds before it sleeps
// (Spinner). With one processor nobody else can look at any other input
// meanwhile, and the next thing to happen may well be on one of those: the
// answer of the remote device that a command was passed on to. Therefore
// inputs that were busy a moment ago are known here (Hot), and anyone who polls
// looks at all of them.

// Source is an input that a goroutine of its own sleeps on, and that one
// which polls anyway may serve in its place.
type Source interface {
	// PollSource handles what has come, without waiting for anything, and
	// reports whether there was something. It is called by any goroutine,
	// also long after the source has cooled down or ended; a Turn keeps it
	// from meeting the source's own goroutine.
	PollSource() bool
}

// Turn is the right to serve an input, which its own goroutine and those that
// poll pass between them. The zero value is free.
type Turn struct{ state atomic.Uint32 }

const (
	turnFree = iota
	turnTaken
	turnMissed // taken, and somebody else came for it meanwhile
)

// Take gets the turn if it is free. When it is not, anyone who has it learns
// from Give that the input has to be looked at again, so the caller may sleep.
func (t *Turn) Take() bool {
	for {
		switch t.state.Load() {
		case turnFree:
			if t.state.CompareAndSwap(turnFree, turnTaken) {
				return true
			}
		case turnTaken:
			if t.state.CompareAndSwap(turnTaken, turnMissed) {
				return false
			}
		default:
			return false
		}
	}
}

// Try is Take for those who look by the way and do not rely on it.
func (t *Turn) Try() bool { return t.state.CompareAndSwap(turnFree, turnTaken) }

// Give returns the turn. When it reports false somebody was turned away: the
// caller still has the turn, looks at the input once more and gives again.
func (t *Turn) Give() bool {
	if t.state.CompareAndSwap(turnTaken, turnFree) {
		return true
	}
	t.state.Store(turnTaken)
	return false
}

// Drop returns the turn, anyone who was turned away: for a caller who wakes the
// source's own goroutine afterwards.
func (t *Turn) Drop() { t.state.Store(turnFree) }

// Hot is a source's place among those that are polled. The zero value is no
// source.
type Hot struct {
	src    Source
	inside atomic.Bool
	until  atomic.Int64 // when it has cooled down, ns
	due    atomic.Int64 // until when it is worth waiting for, ns
}

const (
	// hotFor is how long a source stays hot, ns: many times what a command
	// takes.
	hotFor = int64(time.Millisecond)

	// hotMost is how many sources are polled. Where more are busy one of
	// them always has something, and the poller of the runtime, which asks
	// for all at once, is cheaper than to look at each.
	hotMost = 8
)

// polling is of the process, not of a registry or a target: it shares out the
// processors, of which all registries have the same, and a goroutine that polls
// serves whatever is hot in the process.
var polling struct {
	hot      [hotMost]atomic.Pointer[Hot]
	crowded  atomic.Int64 // until when there are more than hotMost, ns
	spinners atomic.Int32 // goroutines in Spin
}

// processors is how many the process has.
var processors = runtime.GOMAXPROCS(0)

// Alone reports whether there is one processor only, where everything has to
// be polled by anyone who polls. With several, those that sleep are woken by
// another, and a source that needs a system call to be looked at is left to
// its own goroutine.
func Alone() bool { return processors == 1 }

// Init names the source; before the first use.
func (h *Hot) Init(s Source) { h.src = s }

// Warm has the source polled for a while from now on; now is from Clock. It
// reports whether it is among those that are.
func (h *Hot) Warm(now int64) bool {
	h.until.Store(now + hotFor)
	if h.inside.Load() {
		return true
	}
	h.inside.Store(true)
	for i := range polling.hot {
		old := polling.hot[i].Load()
		if (old == nil || now > old.until.Load()) && polling.hot[i].CompareAndSwap(old, h) {
			if old != nil {
				old.inside.Store(false)
			}
			return true
		}
	}
	h.inside.Store(false)
	polling.crowded.Store(now + hotFor)
	return false
}

// Cool ends the polling of a source that ends.
func (h *Hot) Cool() {
	h.due.Store(0)
	for i := range polling.hot {
		if polling.hot[i].CompareAndSwap(h, nil) {
			h.inside.Store(false)
		}
	}
}

// Expect says that something will come by the time given, from Clock, and
// that it pays to poll so long. 0: nothing is expected.
func (h *Hot) Expect(by int64) { h.due.Store(by) }

// Clock is the monotonic clock in nanoseconds.
func Clock() int64 { return now() }

// Spinner is a goroutine's account of whether polling pays. Not safe for
// concurrent use.
type Spinner struct {
	score int // rises with polls that found something
	skip  int // sleeps without polling left
}

// Spin calls own until it reports true or the limit has passed since anything
// was found, and serves hot sources in between. It reports whether own
// did. It returns false at once where polling has not paid lately, where
// others poll already and no processor would be left, or where too many
// sources are busy. own may not sleep.
func (s *Spinner) Spin(limit time.Duration, own func() bool) bool {
	if s.skip > 0 {
		s.skip--
		return false
	}
	t := now()
	if processors == 1 && polling.crowded.Load() > t {
		return false
	}
	// One processor is left to others where there are several: without an
	// idle one the runtime looks at sleeping connections every 10 ms only.
	if int(polling.spinners.Add(1)) > max(1, processors-1) {
		polling.spinners.Add(-1)
		return false
	}
	found := s.spin(t+int64(limit), int64(limit), own)
	polling.spinners.Add(-1)
	if found {
		s.score = min(s.score+1, 8)
	} else if s.score--; s.score < -4 {
		s.score, s.skip = 0, 64
	}
	return found
}

// yield lets other processes run that wait for the same processor. What is polled
// for may well come from one of them: a controller node and disk nodes that share a
// processor would keep each other from answering until the polling is over.
func yield() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }

func (s *Spinner) spin(end, limit int64, own func() bool) bool {
	for {
		runtime.Gosched() // what is runnable goes first
		if own() {
			return true
		}
		t, found := now(), false
		for i := range polling.hot {
			h := polling.hot[i].Load()
			if h == nil {
				continue
			}
			if t > h.until.Load() {
				if polling.hot[i].CompareAndSwap(h, nil) {
					h.inside.Store(false)
				}
				continue
			}
			if h.src.PollSource() {
				found = true
				t = now()
				end = max(end, t+limit)
			}
			end = max(end, h.due.Load())
		}
		if t > end {
			return false
		}
		if processors == 1 && !found {
			yield()
		}
	}
}
