package cn

import (
	"context"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// maxStandBy bounds the time for which a secondary may be told to stand by.
const maxStandBy = 30 * time.Second

// standBy is a secondary whose primary is about to move.
type standBy struct {
	term  uint64 // it ends with this term
	until time.Time
}

// StandBy closes paths of secondaries until their primaries have moved, where the
// data plane needs that.
func (a *Agent) StandBy(ctx context.Context, req *apiv1.StandByRequest) (*apiv1.StandByReply, error) {
	if err := a.meant(req.ClusterId, req.NodeId); err != nil {
		return nil, agent.Status(err)
	}
	hold := time.Duration(req.HoldMs) * time.Millisecond
	if hold > maxStandBy {
		return nil, agent.Status(vda.Errorf(vda.InvalidArgument, "hold_ms %d; %d at most", req.HoldMs, maxStandBy.Milliseconds()))
	}
	if !a.Plane.Driver().StandsBy() {
		return &apiv1.StandByReply{}, nil
	}
	var tickets []agent.Ticket
	a.mu.Lock()
	for id, c := range a.set.cntlrs {
		if !c.Primary && !c.Deleted && slices.Contains(req.DaIds, c.DaId) {
			a.standBys[id] = standBy{c.Term, time.Now().Add(hold)}
			tickets = append(tickets, agent.Ticket{Key: id, Gen: a.Loop.Kick(id, false)})
		}
	}
	a.mu.Unlock()
	a.Await(ctx, tickets)
	return &apiv1.StandByReply{}, nil
}

// standsBy reports that a secondary's paths are to stay closed for now.
func (a *Agent) standsBy(c *apiv1.CntlrSpec) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, told := a.standBys[c.Id]
	return told && s.term == c.Term && time.Now().Before(s.until)
}

// endStandBys reopens the paths of secondaries whose stand-by has expired
// before their primary moved.
func (a *Agent) endStandBys() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.standBys {
		if !time.Now().Before(s.until) {
			delete(a.standBys, id)
			a.Loop.Kick(id, false)
		}
	}
}
