package cn

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// lease is what a monitor gives this node's primaries with every heartbeat.
// While it lasts no monitor makes another controller primary because this
// node is silent. All times are of one monotonic clock, this process's own.
type lease struct {
	begun time.Time // stamps count from here

	mu    sync.Mutex
	until time.Time // zero: none was given in this run
}

// stamp names the present moment; a monitor gives it back in its next beat.
func (l *lease) stamp() uint64 { return uint64(max(time.Since(l.begun), 1)) }

// renew takes a beat's lease, which counts from the moment of the stamp: when
// the reply was sent that the monitor has got. A beat that was long on its way
// says nothing newer than its stamp.
func (l *lease) renew(stamp uint64, span time.Duration) {
	if stamp == 0 || stamp > l.stamp() {
		return
	}
	until := l.begun.Add(time.Duration(stamp) + span)
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.until) {
		l.until = until
	}
}

func (l *lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

// standing is how a primary of this node stands.
type standing struct {
	term      uint64
	since     time.Time // when this process learnt of that term
	lost      []string  // vds that are not connected, and of whose columns nothing else is
	cut       []string  // vds for which it must not go on without a lease
	lostSince time.Time // zero: none is lost
	stopped   bool      // its paths are closed for want of a lease
}

// assess notes which primaries have lost vds, and returns the controllers that
// have to stop, and those that may go on again. well says of each connection
// of the data plane whether it is good.
//
// A primary without a lease goes on as long as all its vds are connected: its
// dns then admit its term, and no other can be primary before they do not. So
// the death of monitors and database stops nobody. A vd that was never
// attached does not stop it either: without that one no path is open. Of a
// mirrored array the members count, all of them: each is as good as the others
// for another primary.
//
// unreached are the addresses of data planes that cannot be connected to now.
func (a *Agent) assess(leased bool, well, unreached map[string]bool) (stop, resume []*apiv1.CntlrSpec) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, c := range a.set.cntlrs {
		s := a.standings[id]
		if s == nil {
			continue
		}
		s.lost, s.cut = nil, nil
		for _, column := range columnsOf(c) {
			var lost []string
			for _, v := range column {
				if good, attached := well[vdPrefix+v.VdId]; !good || a.silence.at(v.Listener) {
					lost = append(lost, v.VdId)
					if attached {
						s.cut = append(s.cut, v.VdId)
					}
				} else if v.Listener != nil && unreached[address(v.Listener)] {
					s.cut = append(s.cut, v.VdId)
				}
			}
			if len(lost) == len(column) { // else the others go on when these are not members any more
				s.lost = append(s.lost, lost...)
			}
		}
		switch {
		case len(s.lost) == 0:
			s.lostSince = time.Time{}
		case s.lostSince.IsZero():
			s.lostSince = time.Now()
		}
		must := !leased && len(s.cut) > 0
		if must == s.stopped {
			continue
		}
		s.stopped = must
		if must {
			stop = append(stop, c)
		} else {
			resume = append(resume, c)
		}
	}
	return stop, resume
}

// restand keeps a standing for each primary of the set; a.mu is held. A new
// term starts from nothing.
func (a *Agent) restand() {
	back := map[string]bool{}
	for _, c := range a.set.cntlrs {
		for _, e := range c.Exps {
			if e.Backend {
				back[e.Nqn] = true
			}
		}
	}
	a.Plane.KeepBack(back)
	old := a.standings
	a.standings = map[string]*standing{}
	for id, c := range a.set.cntlrs {
		if !c.Primary || c.Deleted {
			continue
		}
		s := old[id]
		if s == nil || s.term != c.Term {
			s = &standing{term: c.Term, since: time.Now()}
		}
		a.standings[id] = s
	}
	select {
	case a.otherSet <- struct{}{}:
	default:
	}
}

// guard carries out what assess finds.
func (a *Agent) guard(ctx context.Context, well map[string]bool) {
	leased := a.lease.valid()
	var unreached map[string]bool
	if !leased {
		unreached = a.tryDns(ctx)
	}
	stop, resume := a.assess(leased, well, unreached)
	for _, c := range stop {
		a.Log.Warn("the lease ran out and a vd is not connected: paths are closed", "da", c.DaName, "term", c.Term)
		// A pass under way must not open them again.
		a.Loop.KickNamed(c.Id, true)
	}
	for _, c := range resume {
		a.Log.Info("paths may be opened again", "da", c.DaName, "term", c.Term)
		a.Loop.KickNamed(c.Id, false)
	}
	// Not by the passes: one that waits for a dead dn would be late.
	for _, c := range stop {
		a.beyond.Go(func() {
			if err := agent.Guard(func() error { return (&pass{Agent: a, c: c}).closePaths(ctx, noLease) }); err != nil {
				a.Log.Warn("paths are not all closed", "da", c.DaName, "err", err)
			}
		})
	}
}

// tryTimeout bounds one attempt to reach a dn without a lease. Two in a row
// must fail: the lease and both are over before a silent primary is replaced.
const tryTimeout = 300 * time.Millisecond

// tryDns returns the addresses of the dns' data planes that the primaries of
// this node do not reach. A connection that was cut silently looks good until
// its keep-alive fails, and a new primary may be there by then.
func (a *Agent) tryDns(ctx context.Context) map[string]bool {
	at := map[string]*apiv1.ListenerConf{}
	a.mu.Lock()
	for id := range a.standings {
		for _, v := range membersOf(a.set.cntlrs[id]) {
			if v.Listener != nil {
				at[address(v.Listener)] = v.Listener
			}
		}
	}
	a.mu.Unlock()
	keys := slices.Collect(maps.Keys(at))
	failed := make([]bool, len(keys))
	_ = agent.Parallel(len(keys), func(i int) error {
		failed[i] = true
		for range dnTries {
			if a.tryDn(ctx, at[keys[i]]) == nil {
				failed[i] = false
				break
			}
		}
		return nil
	})
	unreached := map[string]bool{}
	for i, key := range keys {
		unreached[key] = failed[i]
	}
	return unreached
}

// dnTries is how often a dn is tried before it counts as out of reach: a
// segment may get lost.
const dnTries = 2

func (a *Agent) tryDn(ctx context.Context, l *apiv1.ListenerConf) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return a.Plane.Reach(ctx, spdk.At(l.Listener()))
}

func address(l *apiv1.ListenerConf) string { return l.Traddr + " " + l.Trsvcid }

// halted returns why a controller's paths are closed, nil when they are not.
func (a *Agent) halted(id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.standings[id]
	if s == nil || !s.stopped {
		return nil
	}
	return fmt.Errorf("no monitor renews this primary's lease and it has no connection to vd %s; its paths are closed until either returns",
		strings.Join(s.cut, ", "))
}

// unreached is what a heartbeat says of primaries that have lost vds.
func (a *Agent) unreached() []*apiv1.Unreached {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*apiv1.Unreached
	for id, s := range a.standings {
		if s.lostSince.IsZero() {
			continue
		}
		all = append(all, &apiv1.Unreached{CntlrId: id, DaId: a.set.cntlrs[id].DaId, VdIds: s.lost, Term: s.term,
			LostMs: millis(time.Since(s.lostSince)), PrimaryMs: millis(time.Since(s.since))})
	}
	slices.SortFunc(all, func(x, y *apiv1.Unreached) int { return strings.Compare(x.CntlrId, y.CntlrId) })
	return all
}

func millis(d time.Duration) uint32 { return uint32(min(d.Milliseconds(), 1<<31)) }
