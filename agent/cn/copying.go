package cn

import (
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// How fast a leg is copied to is what it has come to lack less over the last copyMost,
// and is not known before copyLeast have been seen.
const (
	copyStep  = time.Second
	copyLeast = 10 * time.Second
	copyMost  = 30 * time.Second
)

// copying remembers what legs lacked. It is guarded by the agent's mutex.
type copying map[[2]string][]lacked // by mirror and vd

// lacked is what a leg lacked at a moment.
type lacked struct {
	at    time.Time
	bytes uint64
}

// note takes a look at all mirrors.
func (c *copying) note(now time.Time, l []spdk.Mirror) {
	next := copying{}
	for i := range l {
		for j := range l[i].Legs {
			leg := &l[i].Legs[j]
			if leg.Role != spdk.MirrorTarget || leg.Lack == 0 {
				continue
			}
			key := [2]string{l[i].Name, leg.VD}
			seen := (*c)[key]
			if n := len(seen); n > 0 && leg.Lack > seen[n-1].bytes {
				seen = nil // the copy has begun again
			}
			for len(seen) > 1 && now.Sub(seen[1].at) >= copyMost {
				seen = seen[1:]
			}
			if n := len(seen); n == 0 || now.Sub(seen[n-1].at) >= copyStep {
				seen = append(seen, lacked{now, leg.Lack})
			}
			next[key] = seen
		}
	}
	*c = next
}

// rate is in bytes per second; 0: not known, or nothing is copied.
func (c copying) rate(mirrorID, vd string) uint64 {
	seen := c[[2]string{vda.MirrorPrefix + mirrorID, vd}]
	if len(seen) == 0 {
		return 0
	}
	first, last := seen[0], seen[len(seen)-1]
	span := last.at.Sub(first.at)
	if span < copyLeast {
		return 0
	}
	return uint64(float64(first.bytes-last.bytes) / span.Seconds())
}
