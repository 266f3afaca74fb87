package cn

import (
	"context"
	"slices"
	"sync"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// On a data plane that takes no notice of a dn that falls silent (plane.Initiator's
// WatchesSilence) the agent itself tries whether the dns of its primaries can be
// connected to, and takes a vd for lost whose dn cannot for some seconds.
const (
	silenceStep = time.Second
	// silentAfter is the number of looks in a row that make a silence; each
	// tries dnTries times.
	silentAfter = 3
)

// silence knows which dns' data planes are silent. Safe for concurrent use.
type silence struct {
	mu     sync.Mutex
	misses map[string]int // looks in a row that found it out of reach, by address
}

// note takes a look's findings and returns the addresses that have fallen
// silent with it, or ended their silence.
func (s *silence) note(unreached map[string]bool) (changed map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.misses
	s.misses, changed = map[string]int{}, map[string]bool{}
	for addr, missed := range unreached {
		if missed {
			s.misses[addr] = old[addr] + 1
		}
		if (old[addr] >= silentAfter) != (s.misses[addr] >= silentAfter) {
			changed[addr] = true
		}
	}
	return changed
}

func (s *silence) at(l *apiv1.ListenerConf) bool {
	if l == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.misses[address(l)] >= silentAfter
}

// watchSilence kicks the primaries whose dns fall silent or speak again, until
// ctx ends.
func (a *Agent) watchSilence(ctx context.Context) {
	for sleep(ctx, silenceStep) == nil {
		if a.Plane.Ready() != nil || !a.Plane.Driver().WatchesSilence() {
			continue
		}
		changed := a.silence.note(a.tryDns(ctx))
		if len(changed) == 0 || ctx.Err() != nil {
			continue
		}
		for _, id := range a.primariesAt(changed) {
			a.Loop.KickNamed(id, false)
		}
	}
}

// primariesAt returns the ids of the primaries that have vds at one of some
// addresses.
func (a *Agent) primariesAt(addrs map[string]bool) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for id := range a.standings {
		at := func(v *apiv1.VdTarget) bool { return v.Listener != nil && addrs[address(v.Listener)] }
		if slices.ContainsFunc(membersOf(a.set.cntlrs[id]), at) {
			ids = append(ids, id)
		}
	}
	return ids
}
