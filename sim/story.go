package sim

import (
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
)

// story is a run in which events have an order that is written down, where a seed
// would meet it by chance only. There are no workers and no faults but those that
// it makes; what is checked is the same.
type story struct {
	dns, cns int
	arrays   int  // default 1
	stripes  int  // vds or mirrors per array; default 1
	fills    bool // there is an array that grows by itself, and is filled
	// replaceAfter is the monitors' flag; default theirs.
	replaceAfter time.Duration
	tell         func(s *sim)
}

// meets is Live.Meets.
func (s *sim) meets(a planetest.Access) planetest.Fate {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate == nil {
		return planetest.Serve
	}
	return gate(a)
}

// setGate has f decide what commands meet at disks; nil: nothing does. f must not
// call the model of the data planes.
func (s *sim) setGate(f func(a planetest.Access) planetest.Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = f
}
