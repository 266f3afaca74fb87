package fakeagent

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

func (a *Agent) locked(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
}

// Forget loses the agent's state.
func (a *Agent) Forget() { a.locked(a.set.reset) }

// RestartAgent gives the agent a new start id.
func (a *Agent) RestartAgent() { a.locked(func() { a.start++ }) }

// RestartPlane gives the data plane a new start id.
func (a *Agent) RestartPlane() { a.locked(func() { a.plane++ }) }

// BreakPlane makes the data plane bad, "" well again.
func (a *Agent) BreakPlane(why string) {
	a.locked(func() { a.planeBad, a.planeDim = why, false })
	a.cluster.tell(a.addr)
}

// SlowPlane makes the data plane give no answer in time.
func (a *Agent) SlowPlane() { a.locked(func() { a.planeBad, a.planeDim = "does not answer", true }) }

// Hang makes the agent take calls and not answer them, until it is told to go
// on; then it answers those whose caller still waits.
func (a *Agent) Hang(on bool) {
	a.locked(func() {
		if a.hung != nil {
			close(a.hung)
		}
		if a.hung = nil; on {
			a.hung = make(chan struct{})
		}
	})
}

// Waited returns how many Syncs have found the agent hanging.
func (a *Agent) Waited() (n int) {
	a.locked(func() { n = a.waited })
	return n
}

// Before has fn called at each Sync, before it is carried out.
func (a *Agent) Before(fn func()) { a.locked(func() { a.before = fn }) }

// Refuse makes the agent answer Sync with an error; nil ends that.
func (a *Agent) Refuse(err error) { a.locked(func() { a.refuse = err }) }

// Fail gives an object an error, "" takes it away.
func (a *Agent) Fail(id, why string) {
	a.locked(func() {
		if delete(a.set.errs, id); why != "" {
			a.set.errs[id] = why
		}
	})
}

// FailAll gives every object of the next Syncs an error, "" takes it away.
func (a *Agent) FailAll(why string) { a.locked(func() { a.set.failAll, a.set.fails = why, -1 }) }

// FailNext gives every object of the next Sync an error.
func (a *Agent) FailNext(why string) { a.locked(func() { a.set.failAll, a.set.fails = why, 1 }) }

// WriteCache has a dn say this of the write caches of its pds.
func (a *Agent) WriteCache(kind vda.WriteCache) { a.locked(func() { a.set.cache = string(kind) }) }

// FailVDs gives every live vd an error, "" takes it away.
func (a *Agent) FailVDs(why string) { a.locked(func() { a.set.vdError = why }) }

// JoinNothing has the agent say nothing of groups that are to be part of their array.
func (a *Agent) JoinNothing(on bool) { a.locked(func() { a.set.lazy = on }) }

// KnowsNoWritableSnaps has the agent be one of a release before there were any.
func (a *Agent) KnowsNoWritableSnaps(not bool) { a.locked(func() { a.set.noClones = not }) }

// SizeOfSnaps has snapshots be said to show so many bytes, 0 for nothing being said.
func (a *Agent) SizeOfSnaps(bytes uint64) { a.locked(func() { a.set.snapSize = bytes }) }

// FailSnaps gives every live snapshot an error, "" takes it away.
func (a *Agent) FailSnaps(why string) { a.locked(func() { a.set.snapError = why }) }

// Snaps returns how many snapshots are on media, and how often one was taken.
func (a *Agent) Snaps() (now, taken int) {
	a.locked(func() { now, taken = len(a.set.snaps), a.set.taken })
	return now, taken
}

// FailHolds has holds of I/O refused, "" not any more; ended has them end before they are
// released.
func (a *Agent) FailHolds(why string, ended bool) {
	a.locked(func() { a.set.holdFails, a.set.holdsEnd = why, ended })
}

// Holds returns of how many arrays I/O is held.
func (a *Agent) Holds() (n int) {
	a.locked(func() { n = len(a.set.holds) })
	return n
}

// RolledBack returns how often an array was rolled back.
func (a *Agent) RolledBack() (n int) {
	a.locked(func() { n = a.set.rolled })
	return n
}

// Ail is Fail of an object that is as desired on something that is not well.
func (a *Agent) Ail(id, why string) {
	a.Fail(id, why)
	a.locked(func() { a.set.done[id] = why != "" })
}

// Streams is how many streams of heartbeats were opened.
func (a *Agent) Streams() (n int) {
	a.locked(func() { n = a.streams })
	return n
}

// LeasedUntil is when the last lease that the agent was given ends.
func (a *Agent) LeasedUntil() (until time.Time) {
	a.locked(func() { until = a.leased })
	return until
}

// Lose makes the agent say that a primary has lost vds; none of an array that
// is not named.
func (a *Agent) Lose(lost ...*apiv1.Unreached) { a.locked(func() { a.lost = lost }) }

// CannotMirror makes the agent say that its data plane has no mirrors.
func (a *Agent) CannotMirror() { a.locked(func() { a.plain = true }) }

// CannotReserve has it say that reservations of arrays do not hold by its data plane.
func (a *Agent) CannotReserve() { a.locked(func() { a.alone = true }) }

// CannotReach makes probes of addresses fail.
func (a *Agent) CannotReach(addrs ...string) {
	a.locked(func() {
		a.deaf = map[string]string{}
		for _, at := range addrs {
			a.deaf[at] = "connection refused"
		}
	})
}

// SetCapacity is the total clusters of 1 MiB that each pd shows.
func (a *Agent) SetCapacity(clusters uint64) {
	a.locked(func() { a.set.capacity = func(string) uint64 { return clusters } })
}

// Occupy has each pd hold so many clusters that no vd accounts for.
func (a *Agent) Occupy(clusters uint64) { a.locked(func() { a.set.occupied = clusters }) }

// Join makes the agent belong to a cluster.
func (a *Agent) Join(cluster, node string, version uint64) {
	a.locked(func() { a.set.cluster, a.set.node, a.set.version = cluster, node, version })
}

// Saw makes the agent have seen a term of an array.
func (a *Agent) Saw(da string, term uint64) { a.locked(func() { a.set.terms[da] = term }) }

// Syncs returns the requests since the last call of it.
func (a *Agent) Syncs() (s []Sync) {
	a.locked(func() { s, a.syncs = a.syncs, nil })
	return s
}

// Calls returns how many Syncs have been answered.
func (a *Agent) Calls() (n int) {
	a.locked(func() { n = a.calls })
	return n
}

// Scrubs returns the orders to scrub, ever.
func (a *Agent) Scrubs() []*apiv1.ScrubRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.scrubs)
}

// FailScrubs has orders to scrub answered with problems.
func (a *Agent) FailScrubs(problems ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scrubFails = problems
}

// StandBys returns the requests to stand by, ever.
func (a *Agent) StandBys() (s []StandBy) {
	a.locked(func() { s = slices.Clone(a.standBys) })
	return s
}

// Objects returns the ids of what the agent holds, sorted.
func (a *Agent) Objects() (ids []string) {
	a.locked(func() {
		for _, id := range slices.Sorted(maps.Keys(a.set.objects)) {
			if !a.set.objects[id].gone {
				ids = append(ids, id)
			}
		}
	})
	return ids
}

// Term returns the highest term the agent has seen of an array.
func (a *Agent) Term(da string) (term uint64) {
	a.locked(func() { term = a.set.terms[da] })
	return term
}

// Has gives the agent's machine these disks.
func (a *Agent) Has(disks ...*apiv1.Disk) { a.locked(func() { a.disks = disks }) }

// Space has the agent say this of how full arrays are from now on.
func (a *Agent) Space(spaces ...*apiv1.SpaceState) { a.locked(func() { a.spaces = spaces }) }

// Mirror has the agent say this of mirrors from now on.
func (a *Agent) Mirror(mirrors ...*apiv1.MirrorState) { a.locked(func() { a.mirrors = mirrors }) }

// Count has the agent answer with these counters, one after the other and then with the last; with
// none, its data plane does not count.
func (a *Agent) Count(replies ...*apiv1.CountersReply) { a.locked(func() { a.counted = replies }) }

func (a *Agent) counters(context.Context) *apiv1.CountersReply {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.counted) == 0 {
		return &apiv1.CountersReply{}
	}
	reply := a.counted[0]
	if len(a.counted) > 1 {
		a.counted = a.counted[1:]
	}
	return reply
}
