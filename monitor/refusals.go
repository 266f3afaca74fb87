package monitor

import (
	"context"
	"sync"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// Agents have no way to the database: who was refused there is in the audit by the monitors that
// beat, and who was refused here by this one. A refusal is handed out again until it is said to be
// there, so that a database that is away loses none.

// handed takes what a reply says of refused calls. What the request said of those before has arrived.
func (n *node) handed(req *apiv1.HeartbeatRequest, r *apiv1.HeartbeatReply) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusalsTaken = n.refusalsTaken[len(req.RefusalsTaken):]
	n.refusals = append(n.refusals, r.Refusals...)
}

// startNotingRefusals writes those of the last replies into the audit.
func (n *node) startNotingRefusals(ctx context.Context, running *sync.WaitGroup) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.notingRefusals || len(n.refusals) == 0 {
		return
	}
	all := n.refusals
	n.notingRefusals, n.refusals = true, nil
	running.Go(func() {
		err := n.m.cfg.Store.Update(ctx, func(tx store.Tx) error {
			for _, r := range all {
				e := rpc.RefusalEvent(r, "")
				e.Object, e.Name, e.ObjectID = string(n.kind), n.at.Name, n.id
				if err := tx.Record(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			n.m.metrics.storeErrors.Inc()
			n.m.log.Warn("calls that a node has refused are not in the audit yet", "kind", n.kind, "node", n.at.Name, "err", err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.notingRefusals = false
		for _, r := range all {
			if err == nil {
				n.refusalsTaken = append(n.refusalsTaken, r.Seq)
			}
		}
	})
}

// noteOwnRefusals writes those of the monitor itself.
func (m *Monitor) noteOwnRefusals(ctx context.Context) error {
	all := m.refusals.Hand()
	if len(all) == 0 {
		return nil
	}
	var seqs []uint64
	err := m.cfg.Store.Update(ctx, func(tx store.Tx) error {
		seqs = nil
		for _, r := range all {
			if err := tx.Record(rpc.RefusalEvent(r, "monitor "+m.cfg.Name)); err != nil {
				return err
			}
			seqs = append(seqs, r.Seq)
		}
		return nil
	})
	if err == nil {
		m.refusals.Taken(seqs)
	}
	return err
}
