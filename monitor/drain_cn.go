package monitor

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// drainCNPeriod is how often the controllers of cns that are being drained are looked at.
const drainCNPeriod = time.Second

// watchDrainCN has controllers leave the cns that are being drained of them, until ctx
// ends. Primaries leave every cn that is offline: watchFailover.
func (m *Monitor) watchDrainCN(ctx context.Context) {
	m.every(ctx, drainCNPeriod, "controllers stay for now on a cn that is being drained", m.drainCNs)
}

func (m *Monitor) drainCNs(ctx context.Context) error {
	m.mu.Lock()
	var offline []string
	for id, n := range m.nodes {
		if n.kind == vda.ControllerNode && m.offline[id] {
			offline = append(offline, id)
		}
	}
	m.mu.Unlock()
	for _, id := range offline {
		if err := m.drainCN(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// drainCN replaces the controllers of a cn that may go now. Those of arrays that have their
// number without it become tombstones, those of others get a successor. What has no place
// stays, and is shown with the reason.
func (m *Monitor) drainCN(ctx context.Context, cnID string) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timing.SyncTimeout)
	defer cancel()
	var leave []vda.Cntlr
	err := m.cfg.Store.View(ctx, func(tx store.Reader) error {
		leave = nil
		cn, err := tx.CN(cnID)
		if err != nil || cn.Drain != vda.DrainCntlrs {
			return vda.IgnoreNotFound(err)
		}
		left, err := array.LeftOnCN(tx, cnID, cn.Drain)
		for i := range left {
			if left[i].Replace {
				leave = append(leave, left[i].Cntlr)
			}
		}
		return err
	})
	if err != nil || len(leave) == 0 {
		return err
	}
	// Those without a place must not be in the way of the others.
	rand.Shuffle(len(leave), func(i, j int) { leave[i], leave[j] = leave[j], leave[i] })
	leave = leave[:min(len(leave), placesAtOnce)]
	n, err := m.syncer.Replace(ctx, leave, m.up)
	if n > 0 {
		m.log.Info("controllers leave a cn that is being drained", "req_id", rpc.RequestID(ctx), "cn", cnID, "cntlrs", n)
	}
	return err
}
