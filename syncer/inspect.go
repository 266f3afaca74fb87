package syncer

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// servesAgain is how often an agent that does not answer is asked whether it is a node's.
const servesAgain = 200 * time.Millisecond

// Serves returns an error unless the agent at a place says that it is that of a node, and has
// taken part of what the node is to have before. An agent that is not reached is tried again
// until ctx ends.
func (s *Syncer) Serves(ctx context.Context, id string, at vda.At) error {
	req := &apiv1.HeartbeatRequest{NodeId: id}
	err := s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		req.ClusterId, err = tx.ClusterID()
		return err
	})
	if err != nil {
		return err
	}
	agent, err := DialAgent(s.cfg.Dial, at)
	if err != nil {
		return err
	}
	title := vda.NodeKind(at.Kind).Title(at.Addr)
	r, err := agent.Heartbeat(ctx, req)
	for status.Code(err) == codes.Unavailable { // perhaps of an attempt before, whose connection waits to be tried again
		select {
		case <-ctx.Done():
			return nodeError(title, 0, err)
		case <-time.After(servesAgain):
		}
		if again, wrong := agent.Heartbeat(ctx, req); ctx.Err() == nil {
			r, err = again, wrong
		}
	}
	switch {
	case err != nil:
		return nodeError(title, 0, err)
	case r.ClusterId != req.ClusterId || r.Version == 0:
		return &vda.Error{Kind: vda.FailedPrecondition, Op: opSync, Object: title, Msg: "the agent there has never been that of the node"}
	}
	return nil
}

// ListDisks asks a disk node for the disks of its machine. Errors are like those of Orphans.
func (s *Syncer) ListDisks(ctx context.Context, dnID string) ([]*apiv1.Disk, error) {
	req := &apiv1.ListDisksRequest{NodeId: dnID}
	var at vda.At
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		row, err := tx.Node(vda.DiskNode, dnID)
		if err != nil {
			return err
		}
		at = row.At(vda.DiskNode)
		req.ClusterId, err = tx.ClusterID()
		return err
	})
	if err != nil {
		return nil, err
	}
	agent, err := s.cfg.Dial.Dn(at)
	if err != nil {
		return nil, err
	}
	r, err := agent.ListDisks(ctx, req)
	if status.Code(err) == codes.Unimplemented {
		err = status.Error(codes.FailedPrecondition, "the agent is of a release that cannot look at disks; update it")
	}
	if err != nil {
		return nil, nodeError(vda.DiskNode.Title(at.Name), 0, err)
	}
	return r.Disks, nil
}
