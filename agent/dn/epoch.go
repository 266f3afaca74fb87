package dn

import (
	"context"
	"maps"

	"google.golang.org/grpc"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A vd that was dropped from its mirror is let in again under another host NQN,
// which ends in its epoch. What its primary sent before the drop must not land
// after that, so the old name is removed first, which waits until all that came
// under it has settled; the new one is added after it, and only then is the
// epoch reported: the vd may be copied to from then on.

// checkEpoch refuses a vd whose host NQN says another epoch than it does.
func checkEpoch(v *apiv1.VdSpec) error {
	term, epoch, ok := vda.ParsePrimaryHost(v.HostNqn)
	if v.Deleted || epoch == v.Epoch && (v.Epoch == 0 || ok && term == v.Term) {
		return nil
	}
	return vda.Errorf(vda.InvalidArgument, "host_nqn %q of vd %s must be %s, as its term is %d and its epoch %d",
		v.HostNqn, v.Id, vda.LegHostNQN(vda.PrimaryHostNQN(v.DaId, v.Term), v.Epoch), v.Term, v.Epoch)
}

// checkEpochs refuses a request that goes back to an epoch of a vd whose hosts
// have been fenced. Terms are counted first: the host of another term has
// another name.
func (s *set) checkEpochs(req *apiv1.SyncDnRequest) error {
	for _, v := range req.Vds {
		if was := s.vds[v.Id]; was != nil && !v.Deleted && v.Term == was.Term && v.Epoch < was.Epoch {
			return vda.Errorf(vda.FailedPrecondition, "epoch %d of vd %s is refused: epoch %d of term %d has been seen",
				v.Epoch, v.Id, was.Epoch, v.Term)
		}
	}
	return nil
}

// admitted notes that a pass over spec has got to its end: its host alone is
// let in.
func (a *Agent) admitted(spec *apiv1.VdSpec) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set.vds[spec.Id] == spec {
		a.epochs[spec.Id] = spec.Epoch
	}
}

// Heartbeat answers with what is wrong now, and the epochs of vds.
func (a *Agent) Heartbeat(ctx context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	reply, err := a.Node.Heartbeat(ctx, req)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	reply.VdEpochs = maps.Clone(a.epochs)
	maps.DeleteFunc(reply.VdEpochs, func(_ string, epoch uint64) bool { return epoch == 0 })
	return reply, nil
}

// Beats is Heartbeat over a stream.
func (a *Agent) Beats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) error {
	return agent.AnswerBeats(stream, a.Heartbeat)
}
