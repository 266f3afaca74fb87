package cn

import (
	"context"
	"errors"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Snapshots of several arrays at one instant are taken by calls, not by passes: the I/O of
// all has to be held at once. A pass leaves them alone until SQL has it that all are taken,
// or are to go. The hold is the data plane's, and ends by itself.

// HoldSnap has the data plane take one and hold the array's I/O.
func (a *Agent) HoldSnap(ctx context.Context, req *apiv1.HoldSnapRequest) (*apiv1.HoldSnapReply, error) {
	if err := a.meant(req.ClusterId, req.NodeId); err != nil {
		return nil, agent.Status(err)
	}
	c, s, err := a.together(req)
	if err == nil {
		err = snapshots{&pass{Agent: a, c: c}}.holdTogether(ctx, s, req)
	}
	if err != nil {
		return nil, agent.Status(err)
	}
	return &apiv1.HoldSnapReply{}, nil
}

// together returns the primary and the snapshot that a request is about.
func (a *Agent) together(req *apiv1.HoldSnapRequest) (*apiv1.CntlrSpec, *apiv1.SnapSpec, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.standings {
		c := a.set.cntlrs[id]
		if c.DaId != req.DaId || c.Term != req.Term {
			continue
		}
		for _, s := range c.Snaps {
			if s.Id == req.SnapId && s.State == apiv1.SnapState_SNAP_STATE_TOGETHER {
				return c, s, nil
			}
		}
		return nil, nil, vda.Errorf(vda.FailedPrecondition, "snapshot %s of disk array %s is not to be taken", req.SnapId, c.DaName)
	}
	return nil, nil, vda.Errorf(vda.FailedPrecondition, "the primary of da %s in term %d is not here", req.DaId, req.Term)
}

// holdTogether takes a snapshot and has the array's I/O held. Whether it is still to be
// taken is looked at once more when passes are kept from carrying out its tombstone.
func (r snapshots) holdTogether(ctx context.Context, s *apiv1.SnapSpec, req *apiv1.HoldSnapRequest) error {
	if err := r.room(ctx); err != nil {
		return err
	}
	begin, vol, name := time.Now(), volAlias(r.c.DaId), vda.SnapPrefix+s.Id
	waited, left := context.WithCancel(ctx)
	defer left()
	err := r.do(ctx, func(ctx context.Context) error {
		if _, _, err := r.Agent.together(req); err != nil {
			return notSent{err}
		}
		limit := time.Duration(req.LimitMs)*time.Millisecond - time.Since(begin)
		if limit < time.Millisecond {
			return notSent{errors.New("the data plane could not be told in time")}
		}
		r.Log.Info("taking a snapshot together with those of other arrays", "da", r.c.DaName, "snap", s.Name)
		err := r.Plane.Driver().SnapshotHold(ctx, vol, name, limit)
		if errors.Is(err, plane.ErrCannotHold) {
			return notSent{err}
		}
		if err == nil && waited.Err() != nil { // nobody would release it
			_, err = r.Plane.Driver().Unhold(ctx, vol, name)
		}
		return err
	})
	if err != nil { // it may have been taken in the last moment
		left()
		_, _ = r.Plane.Driver().Unhold(context.WithoutCancel(ctx), vol, name)
	}
	return err
}

// ReleaseSnap ends the hold of an array's I/O, whatever the agent knows of the array by now.
func (a *Agent) ReleaseSnap(ctx context.Context, req *apiv1.ReleaseSnapRequest) (*apiv1.ReleaseSnapReply, error) {
	if err := a.meant(req.ClusterId, req.NodeId); err != nil {
		return nil, agent.Status(err)
	}
	for _, id := range []string{req.DaId, req.SnapId} {
		if !agent.ValidID(id) {
			return nil, agent.Status(vda.Errorf(vda.InvalidArgument, "%q is not an id", id))
		}
	}
	r, err := a.Plane.Driver().Unhold(ctx, volAlias(req.DaId), vda.SnapPrefix+req.SnapId)
	if agent.Drop(err) != nil {
		return nil, agent.Status(err)
	}
	return &apiv1.ReleaseSnapReply{InForce: err == nil && r.InForce, HeldUs: r.HeldUS}, nil
}
