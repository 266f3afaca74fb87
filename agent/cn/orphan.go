package cn

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

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
	reply := &apiv1.OrphansReply{}
	for _, id := range slices.Sorted(maps.Keys(cntlrs)) {
		reply.Cntlrs = append(reply.Cntlrs, cntlrs[id].(*apiv1.CntlrSpec).WithoutKeys())
	}
	return reply, nil
}
