package fakeagent

import (
	"maps"
	"slices"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Forget loses the agent's state.
func (a *Agent) Forget() { a.locked(a.reset) }

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

// Hang makes the agent take calls and never answer them.
func (a *Agent) Hang(on bool) { a.locked(func() { a.hang = on }) }

// Refuse makes the agent answer Sync with an error; nil ends that.
func (a *Agent) Refuse(err error) { a.locked(func() { a.refuse = err }) }

// Fail gives an object an error, "" takes it away.
func (a *Agent) Fail(id, why string) {
	a.locked(func() {
		if delete(a.errs, id); why != "" {
			a.errs[id] = why
		}
	})
}

// Ail is Fail of an object that is as desired on something that is not well.
func (a *Agent) Ail(id, why string) {
	a.Fail(id, why)
	a.locked(func() { a.done[id] = why != "" })
}

// LeasedUntil is when the last lease that the agent was given ends.
func (a *Agent) LeasedUntil() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leased
}

// Lose makes the agent say that a primary has lost vds; none of an array that
// is not named.
func (a *Agent) Lose(lost ...*apiv1.Unreached) { a.locked(func() { a.lost = lost }) }

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
func (a *Agent) SetCapacity(clusters uint64) { a.locked(func() { a.capacity = clusters }) }

// Join makes the agent belong to a cluster.
func (a *Agent) Join(cluster, node string, version uint64) {
	a.locked(func() { a.id, a.nodeID, a.version = cluster, node, version })
}

// Saw makes the agent have seen a term of an array.
func (a *Agent) Saw(da string, term uint64) { a.locked(func() { a.terms[da] = term }) }

// Syncs returns the requests since the last call of it.
func (a *Agent) Syncs() []Sync {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.syncs
	a.syncs = nil
	return s
}

// StandBys returns the requests to stand by, ever.
func (a *Agent) StandBys() []StandBy {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.standBys)
}

// Objects returns the ids of what the agent holds, sorted.
func (a *Agent) Objects() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.objects))
}

// Term returns the highest term the agent has seen of an array.
func (a *Agent) Term(da string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.terms[da]
}
