package bdev

import (
	"sync/atomic"
	"testing"
	"time"
)

// fake is a source that has something a number of times.
type fake struct {
	hot   Hot
	left  int
	asked int
}

func (f *fake) PollSource() bool {
	f.asked++
	if f.left == 0 {
		return false
	}
	f.left--
	return true
}

// alone has the test run as on one processor.
func alone(t *testing.T) {
	old := processors
	processors = 1
	polling.crowded.Store(0)
	for i := range polling.hot {
		polling.hot[i].Store(nil)
	}
	t.Cleanup(func() { processors = old })
}

func warm(t *testing.T, left int) *fake {
	f := &fake{left: left}
	f.hot.Init(f)
	f.hot.Warm(Clock())
	t.Cleanup(f.hot.Cool)
	return f
}

// Anyone who polls serves what is hot, as long as there is something, and stops
// a limit later.
func TestSpinServesHotSources(t *testing.T) {
	alone(t)
	f := warm(t, 5)
	f.hot.Warm(Clock() + int64(time.Hour)) // however long others have the processor
	var s Spinner
	if s.Spin(50*time.Microsecond, func() bool { return false }) {
		t.Error("reports what was not found")
	}
	if f.left != 0 {
		t.Errorf("%d left behind", f.left)
	}
	f.left = 1
	if !s.Spin(time.Second, func() bool { return f.left == 0 }) {
		t.Error("did not see what serving brought")
	}
	f.hot.Cool()
	f.asked = 0
	s.Spin(50*time.Microsecond, func() bool { return false })
	if f.asked != 0 {
		t.Errorf("asked %d times after it has cooled down", f.asked)
	}
}

// A source cools down by itself, and makes room for another.
func TestSourcesCoolDown(t *testing.T) {
	alone(t)
	var first *fake
	for range hotMost {
		f := warm(t, 0)
		if first == nil {
			first = f
		}
	}
	one := &fake{}
	one.hot.Init(one)
	if one.hot.Warm(Clock()) {
		t.Error("there is room for one more than the most")
	}
	var s Spinner
	if s.Spin(time.Second, func() bool { return true }) {
		t.Error("polls though too many sources are busy")
	}
	if !one.hot.Warm(Clock() + 2*hotFor) {
		t.Error("no room when the others have cooled down")
	}
	one.hot.Cool()
}

// While something is expected it is worth to poll longer than the limit.
func TestSpinWaitsForWhatIsDue(t *testing.T) {
	alone(t)
	f := warm(t, 0)
	begin := Clock()
	f.hot.Expect(begin + int64(500*time.Microsecond))
	var s Spinner
	s.Spin(time.Microsecond, func() bool { return false })
	if took := Clock() - begin; took < int64(500*time.Microsecond) {
		t.Errorf("gave up after %d ns", took)
	}
}

// Polling that finds nothing is given up for a while.
func TestSpinGivesUp(t *testing.T) {
	alone(t)
	var s Spinner
	calls := 0
	for range 5 {
		s.Spin(time.Microsecond, func() bool { calls++; return false })
	}
	n := calls
	for range 64 {
		s.Spin(time.Microsecond, func() bool { calls++; return false })
	}
	if n == 0 || calls != n {
		t.Errorf("polled %d times at first, then %d more", n, calls-n)
	}
}

// The turn is with one at a time, and nobody who was turned away is forgotten.
func TestTurn(t *testing.T) {
	var turn Turn
	var input, served atomic.Int64
	var inside atomic.Int32
	serve := func() {
		for {
			if inside.Add(1) != 1 {
				t.Error("two have the turn")
			}
			for n := input.Load(); n > served.Load(); n = input.Load() {
				served.Store(n)
			}
			inside.Add(-1)
			if turn.Give() {
				return
			}
		}
	}
	const n = 20000
	done := make(chan struct{})
	for range 2 {
		go func() {
			for range n {
				input.Add(1)
				if turn.Take() {
					serve()
				}
			}
			done <- struct{}{}
		}()
	}
	go func() {
		for range n {
			if turn.Try() {
				serve()
			}
		}
		done <- struct{}{}
	}()
	for range 3 {
		<-done
	}
	if served.Load() != 2*n {
		t.Errorf("%d of %d served", served.Load(), 2*n)
	}
}
