package host

import "time"

// paceMost is how many times longer than Config.Spin it may pay to poll for answers
// that come about as late as that: to sleep and be woken takes longer still, on
// both sides.
const paceMost = 5

// pace is how long a queue's reader waits for answers. The one with the turn has it.
type pace struct {
	since int64 // when the wait began, of bdev.Clock; 0: nothing is waited for
	mean  int64 // ns, about
}

// begin says that the reader waits from now on.
func (p *pace) begin(now int64) {
	if p.since == 0 {
		p.since = now
	}
}

// end says that something has come.
func (p *pace) end(now int64) {
	if p.since != 0 {
		p.mean, p.since = (7*p.mean+now-p.since)/8, 0
	}
}

// stop says that nothing is waited for any more.
func (p *pace) stop() { p.since = 0 }

// limit is how long to poll: twice the time that answers take, where that is not too
// long to poll for, and spin at least.
func (p *pace) limit(spin time.Duration) time.Duration {
	most := paceMost * spin
	if p.mean >= int64(most) {
		return spin
	}
	return max(spin, min(time.Duration(2*p.mean), most))
}
