package cn

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// wideKind is what is kept of a primary whose array may have had more groups of vds than the
// database knows.
const wideKind = "wide"

func nobody(string) bool { return false }

// Lost returns the primaries whose array has several groups and of which a full set names
// fewer, or none as they are secondaries now: if that is because the database is as it was
// before they came, nobody else knows how they are put together.
func (s *set) Lost(next agent.Set) (lost []agent.Object) {
	for _, id := range slices.Sorted(maps.Keys(s.cntlrs)) {
		c := s.cntlrs[id]
		now, stays := next.Spec(id).(*apiv1.CntlrSpec)
		if !stays || now.Deleted || !c.Primary || c.Deleted {
			continue
		}
		if n := len(joinedGrps(c)); n > 1 && (!now.Primary || len(joinedGrps(now)) < n) {
			lost = append(lost, agent.Object{Key: id, Kind: wideKind, DA: c.DaId, Term: c.Term, Spec: c})
		}
	}
	return lost
}

// joinedGrps are the groups that are part of an array.
func joinedGrps(c *apiv1.CntlrSpec) []*apiv1.GrpSpec {
	return slices.DeleteFunc(slices.Clone(c.Grps), func(g *apiv1.GrpSpec) bool { return g.Joining })
}

// wider is how many groups more the array of a pass had than its spec names, as this node
// remembers.
func (p *pass) wider() int {
	all, err := p.State.Orphans(wideKind, nobody, func() proto.Message { return &apiv1.CntlrSpec{} })
	if err != nil {
		return 0
	}
	most := len(joinedGrps(p.c))
	for _, m := range all {
		if c := m.(*apiv1.CntlrSpec); c.DaId == p.c.DaId {
			most = max(most, len(joinedGrps(c)))
		}
	}
	return most - len(joinedGrps(p.c))
}

// Orphans returns controllers that were once this node's.
func (a *Agent) Orphans(_ context.Context, req *apiv1.OrphansRequest) (*apiv1.OrphansReply, error) {
	if err := a.OwnRequest(req); err != nil {
		return nil, err
	}
	held := func(id string) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.set.cntlrs[id] != nil
	}
	cntlrs, err := a.State.Orphans("cntlr", held, func() proto.Message { return &apiv1.CntlrSpec{} })
	if err != nil {
		return nil, err
	}
	wide, err := a.State.Orphans(wideKind, nobody, func() proto.Message { return &apiv1.CntlrSpec{} })
	if err != nil {
		return nil, err
	}
	reply := &apiv1.OrphansReply{}
	for _, id := range slices.Sorted(maps.Keys(wide)) {
		reply.WideCntlrs = append(reply.WideCntlrs, wide[id].(*apiv1.CntlrSpec).WithoutKeys())
	}
	for _, id := range slices.Sorted(maps.Keys(cntlrs)) {
		reply.Cntlrs = append(reply.Cntlrs, cntlrs[id].(*apiv1.CntlrSpec).WithoutKeys())
	}
	return reply, nil
}
