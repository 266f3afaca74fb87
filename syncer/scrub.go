package syncer

import (
	"context"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// Scrub gives an order to the primary of an array, or takes it back. The strings are
// mirrors that are not scrubbed, and why. The error is one of the node (OfNode), or of
// the database.
func (s *Syncer) Scrub(ctx context.Context, order array.Scrub, stop bool) (problems []string, err error) {
	req := &apiv1.ScrubRequest{NodeId: order.At.ID, DaId: order.DAID, Term: order.Term, Stop: stop, RepairFrom: order.From, ScrubId: order.ID}
	var at vda.At
	err = s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		if req.ClusterId, err = tx.ClusterID(); err != nil {
			return err
		}
		cn, err := tx.CN(order.At.ID)
		if err == nil {
			at = cn.At(vda.ControllerNode)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	client, err := s.cfg.Dial.Cn(at)
	if err != nil {
		return nil, err
	}
	reply, err := client.Scrub(ctx, req)
	if err != nil {
		return nil, nodeError(vda.ControllerNode.Title(at.Name), 0, err)
	}
	return reply.Problems, nil
}
