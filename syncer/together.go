package syncer

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// HoldSnap has a primary take a snapshot and hold its array's I/O for limit at most. The
// error is one of the node (OfNode), or of the database.
func (s *Syncer) HoldSnap(ctx context.Context, h array.HeldSnap, limit time.Duration) error {
	return s.onCn(ctx, h.At.ID, func(c apiv1.CnAgentClient, cluster, name string) error {
		_, err := c.HoldSnap(ctx, &apiv1.HoldSnapRequest{ClusterId: cluster, NodeId: h.At.ID, DaId: h.DAID, Term: h.Term,
			SnapId: h.SnapID, LimitMs: uint32(limit.Milliseconds())})
		if status.Code(err) == codes.Unimplemented {
			return &vda.Error{Kind: vda.FailedPrecondition, Op: opSync, Object: vda.ControllerNode.Title(name),
				Msg: "its agent is of a release that takes no snapshots of several arrays at one instant: upgrade the node"}
		}
		return err
	})
}

// ReleaseSnap ends the hold. It returns how long it was, and whether it was in force until
// then.
func (s *Syncer) ReleaseSnap(ctx context.Context, h array.HeldSnap) (held time.Duration, inForce bool, err error) {
	err = s.onCn(ctx, h.At.ID, func(c apiv1.CnAgentClient, cluster, _ string) error {
		r, err := c.ReleaseSnap(ctx, &apiv1.ReleaseSnapRequest{ClusterId: cluster, NodeId: h.At.ID, DaId: h.DAID, SnapId: h.SnapID})
		held, inForce = time.Duration(r.GetHeldUs())*time.Microsecond, r.GetInForce()
		return err
	})
	return held, inForce, err
}

// onCn calls the agent of a cn.
func (s *Syncer) onCn(ctx context.Context, id string, call func(c apiv1.CnAgentClient, cluster, name string) error) error {
	var cluster string
	var at vda.At
	err := s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		if cluster, err = tx.ClusterID(); err != nil {
			return err
		}
		cn, err := tx.CN(id)
		if err == nil {
			at = cn.At(vda.ControllerNode)
		}
		return err
	})
	if err != nil {
		return err
	}
	client, err := s.cfg.Dial.Cn(at)
	if err != nil {
		return err
	}
	if err := call(client, cluster, at.Name); err != nil && !OfNode(err) {
		return nodeError(vda.ControllerNode.Title(at.Name), 0, err)
	} else if err != nil {
		return err
	}
	return nil
}
