package fakeagent

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// HoldSnap takes a snapshot of an array whose primary is here and that is to be taken so.
func (s cnServer) HoldSnap(ctx context.Context, r *apiv1.HoldSnapRequest) (*apiv1.HoldSnapReply, error) {
	if err := s.a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if err := s.a.own(r.ClusterId, r.NodeId); err != nil {
		return nil, err
	}
	set := &s.a.set
	if set.holdFails != "" {
		return nil, status.Error(codes.FailedPrecondition, set.holdFails)
	}
	for _, o := range set.objects {
		spec, ok := o.spec.(*apiv1.CntlrSpec)
		if !ok || !spec.Primary || spec.DaId != r.DaId || spec.Term != r.Term || o.deleted {
			continue
		}
		for _, snap := range spec.Snaps {
			if snap.Id == r.SnapId && snap.State == apiv1.SnapState_SNAP_STATE_TOGETHER {
				set.snaps[snap.Id], set.holds[snap.Id] = true, true
				set.taken++
				return &apiv1.HoldSnapReply{}, nil
			}
		}
	}
	return nil, status.Error(codes.FailedPrecondition, "there is no such snapshot to be taken here")
}

// ReleaseSnap ends a hold.
func (s cnServer) ReleaseSnap(ctx context.Context, r *apiv1.ReleaseSnapRequest) (*apiv1.ReleaseSnapReply, error) {
	if err := s.a.waitIfHung(ctx); err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	held := s.a.set.holds[r.SnapId]
	delete(s.a.set.holds, r.SnapId)
	return &apiv1.ReleaseSnapReply{InForce: held && !s.a.set.holdsEnd, HeldUs: 1500}, nil
}
