package host

import (
	"testing"
	"time"
)

// Polling lasts longer where answers come a little later than it would last, and not
// where they come much later.
func TestPace(t *testing.T) {
	const spin = 20 * time.Microsecond
	for _, c := range []struct{ answers, limit time.Duration }{
		{time.Microsecond, spin},
		{spin / 2, spin},
		{3 * spin / 2, 3 * spin},
		{3 * spin, 5 * spin},
		{6 * spin, spin},
		{time.Second, spin},
	} {
		var p pace
		now := int64(1)
		for range 100 {
			p.begin(now)
			p.begin(now + int64(c.answers)/2) // it is no other wait
			now += int64(c.answers)
			p.end(now)
			p.end(now + int64(time.Hour)) // nothing was waited for
			p.begin(now)
			p.stop()
			now += int64(time.Hour)
		}
		// The mean comes close from below.
		if got := p.limit(spin); got > c.limit || got < c.limit-c.limit/100 {
			t.Errorf("with answers after %v: it polls for %v, want %v", c.answers, got, c.limit)
		}
	}
}
