package monitor

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// watchRepair replaces the controllers of cns that have been down for
// RepairAfter.
func (m *Monitor) watchRepair(ctx context.Context) {
	m.mu.Lock()
	var gone []string
	for id, n := range m.nodes {
		n.mu.Lock()
		long := n.down && time.Since(n.since) >= m.cfg.Timing.RepairAfter
		if n.kind == vda.ControllerNode && long && !m.moving[id] && time.Since(m.moved[id]) >= repairPause {
			gone = append(gone, id)
		}
		n.mu.Unlock()
	}
	m.mu.Unlock()
	for _, id := range gone {
		m.depart(ctx, id, func(ctx context.Context) { m.repair(ctx, id) })
	}
}

// repairPause is the time between two attempts to repair what a cn had: there
// may be no place.
const repairPause = 5 * time.Second

func (m *Monitor) repair(ctx context.Context, cnID string) {
	var live []vda.Cntlr
	err := m.cfg.Store.View(ctx, func(tx store.Reader) error {
		live = nil
		cntlrs, err := tx.CntlrsOfCN(cnID)
		for i := range cntlrs {
			if !cntlrs[i].Deleted {
				live = append(live, cntlrs[i])
			}
		}
		return err
	})
	replaced := 0
	if err == nil && m.Ready() {
		replaced, err = m.syncer.Replace(ctx, live, m.up)
	}
	if err != nil && ctx.Err() == nil {
		m.metrics.storeErrors.Inc()
		m.log.Warn("controllers of a lost cn are not all replaced", "req_id", rpc.RequestID(ctx), "cn", cnID, "err", err)
	}
	if replaced > 0 {
		m.log.Info("controllers were replaced on other cns", "req_id", rpc.RequestID(ctx), "cn", cnID, "cntlrs", replaced)
	}
}
