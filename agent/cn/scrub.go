package cn

import (
	"context"
	"fmt"
	"slices"
	"syscall"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/spdk"
)

// scrub is an order to scrub a mirror. What the data plane says of the mirror belongs
// to it from a number of changes on: what was read before is of an earlier scrub.
type scrub struct {
	id      string
	term    uint64
	changes uint64
}

// Scrub has the mirrors of an array whose primary is here compare their legs, or end
// that.
func (a *Agent) Scrub(ctx context.Context, req *apiv1.ScrubRequest) (*apiv1.ScrubReply, error) {
	if err := a.meant(req.ClusterId, req.NodeId); err != nil {
		return nil, agent.Status(err)
	}
	a.mu.Lock()
	var mirrors []*apiv1.MirrorSpec
	for id := range a.standings {
		if c := a.set.cntlrs[id]; c.DaId == req.DaId && c.Term == req.Term {
			mirrors = mirrorsOf(c)
		}
	}
	a.mu.Unlock()
	if req.RepairFrom != "" {
		mirrors = slices.DeleteFunc(slices.Clone(mirrors), func(m *apiv1.MirrorSpec) bool {
			return !slices.ContainsFunc(legsIn(m, isMember), func(v *apiv1.VdTarget) bool { return v.VdId == req.RepairFrom })
		})
	}
	if len(mirrors) == 0 {
		return nil, agent.Status(vda.Errorf(vda.FailedPrecondition, "the primary of da %s in term %d, with mirrors, is not here",
			req.DaId, req.Term))
	}
	reply := &apiv1.ScrubReply{}
	for _, m := range mirrors {
		if err := a.scrub(ctx, m, req); err != nil {
			reply.Problems = append(reply.Problems, fmt.Sprintf("mirror %s: %s", m.Id, reason.Of(err)))
		}
	}
	return reply, nil
}

func (a *Agent) scrub(ctx context.Context, m *apiv1.MirrorSpec, req *apiv1.ScrubRequest) error {
	name := vda.MirrorPrefix + m.Id
	var s *spdk.Mirror
	var err error
	if req.Stop {
		s, err = a.Plane.VdaMirrorStopScrub(ctx, name)
	} else {
		s, err = a.Plane.VdaMirrorScrub(ctx, name, req.RepairFrom)
	}
	if spdk.Code(err) == -int(syscall.EBUSY) { // it goes on, under this order
		var all []spdk.Mirror
		if all, err = a.Plane.VdaMirrorGetBdevs(ctx, name); err == nil && len(all) == 1 {
			s = &all[0]
		}
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.scrubs == nil {
		a.scrubs = map[string]scrub{}
	}
	if s != nil && (!req.Stop || a.scrubs[m.Id].id == "") {
		a.scrubs[m.Id] = scrub{req.ScrubId, req.Term, s.Changes}
	}
	return nil
}

// scrubState is what the data plane says of the last scrub of a mirror, in the words
// of a heartbeat. a.mu is held.
func (a *Agent) scrubState(c *apiv1.CntlrSpec, m *apiv1.MirrorSpec, s *spdk.Mirror) *apiv1.ScrubState {
	if s == nil || s.Term != c.Term || s.Scrub.State == "" || s.Scrub.State == "none" {
		return nil
	}
	state := &apiv1.ScrubState{State: s.Scrub.State, DoneBytes: s.Scrub.Done, Mismatches: s.Scrub.Mismatches, Repaired: s.Scrub.Repaired}
	if len(s.Scrub.Offsets) > 0 {
		state.FirstOffset = s.Scrub.Offsets[0]
	}
	if o := a.scrubs[m.Id]; o.term == s.Term {
		if s.Changes < o.changes {
			return nil // it was read before the scrub began
		}
		state.ScrubId = o.id
	}
	return state
}
