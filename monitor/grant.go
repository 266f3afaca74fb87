package monitor

import (
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// grants is the lease of a cn's primaries as far as this monitor has given it.
// A beat gives back the stamp of the last good reply, and the agent counts
// from when it sent that reply; so what this monitor has given ends, by its
// own clock, CnLease after it got that reply at the latest.
type grants struct {
	adopted time.Time // when this monitor began to watch the node

	start   string // agent and
	stamp   uint64 // stamp of the last good reply
	at      time.Time
	version uint64 // that the agent held then

	given time.Time // when the newest reply came whose stamp was given back; zero: none was
}

// grant has a beat renew the lease, if this monitor may: its picture is fresh,
// the agent holds what the picture says, and no primary is being moved away.
//
// With a stale picture it may not, whether it is this monitor alone that has
// lost the database or all have: it cannot tell, and its nodes may be another's.
// That stops no I/O by itself, see docs/failover.md.
func (n *node) grant(req *apiv1.HeartbeatRequest) {
	if n.kind != vda.ControllerNode {
		return
	}
	n.m.mu.Lock()
	moving, moved := n.m.moving[n.id], n.m.moved[n.id]
	n.m.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	t, g := &n.m.cfg.Timing, &n.lease
	if moving || n.down || g.stamp == 0 || time.Since(n.view.At) > t.StaleAfter || !n.view.At.After(moved) || g.version < n.view.Version {
		return
	}
	req.LeaseMs, req.LeaseStamp, req.LeaseStartId = uint32(t.CnLease.Milliseconds()), g.stamp, g.start
	g.given = g.at
}

// answered takes a proper reply, which came at the given moment.
func (n *node) answered(r *apiv1.HeartbeatReply, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost, n.legs, n.epochs = r.Unreached, legsReports(r.Mirrors), r.VdEpochs
	n.spaces, n.spacesAt = spaceReports(r.Spaces), at
	n.clones = cloneReports(r.Clones)
	if r.DataPlaneOk {
		g := &n.lease
		g.start, g.stamp, g.at, g.version = r.AgentStartId, r.LeaseStamp, at, r.Version
	}
}

// leaseLeft is how long the primaries of a silent node may still have a
// lease. Before this monitor gave one, another may have, which stopped at the
// latest when it was StaleAfter without a picture.
func (n *node) leaseLeft(now time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.silent {
		return 0 // refused: the fence is enough
	}
	t, g := &n.m.cfg.Timing, &n.lease
	return max(g.adopted.Add(t.StaleAfter+t.CnLease).Sub(now), g.given.Add(t.CnLease).Sub(now))
}
