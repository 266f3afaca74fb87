package cn

import (
	"context"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// probeTimeout bounds the attempt to reach one address.
const probeTimeout = time.Second

// noTarget is the one answer for an address that is not reached, whatever the reason.
const noTarget = "no NVMe/TCP target answers"

// maxProbes bounds the addresses of one request.
const maxProbes = 256

// Probe tries to connect to data planes as this node's own would.
func (a *Agent) Probe(ctx context.Context, req *apiv1.ProbeRequest) (*apiv1.ProbeReply, error) {
	if err := a.meant(req.ClusterId, req.NodeId); err != nil {
		return nil, agent.Status(err)
	}
	if len(req.Addresses) > maxProbes {
		return nil, agent.Status(vda.Errorf(vda.InvalidArgument, "%d addresses; at most %d are tried at once", len(req.Addresses), maxProbes))
	}
	reply := &apiv1.ProbeReply{Problems: make([]string, len(req.Addresses))}
	// A problem is an answer, not an error of the request.
	_ = agent.Parallel(len(req.Addresses), func(i int) error {
		if err := a.probe(ctx, req.Addresses[i]); err != nil {
			// The caller does not learn what else may be there: the log has that.
			a.Log.Debug("probe", "address", req.Addresses[i], "err", err)
			reply.Problems[i] = noTarget
		}
		return nil
	})
	return reply, nil
}

// meant refuses a request that is for another node.
func (a *Agent) meant(clusterID, nodeID string) error {
	if cluster, node, _ := a.State.Identity(); cluster != clusterID || node != nodeID {
		return vda.Errorf(vda.FailedPrecondition, "this agent is node %q of cluster %q; the request is for node %q of cluster %q",
			node, cluster, nodeID, clusterID)
	}
	return nil
}

func (a *Agent) probe(ctx context.Context, l *apiv1.ListenerConf) error {
	if l == nil {
		return fmt.Errorf("no address")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return a.Plane.Reach(ctx, spdk.At(l.Listener()))
}
