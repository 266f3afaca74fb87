package monitor

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda/store"
)

// trimPeriod is how often the oldest events are deleted.
const trimPeriod = time.Minute

// watchEvents keeps the table of events bounded until ctx ends. Every monitor does: what
// one has deleted the others do not find.
func (m *Monitor) watchEvents(ctx context.Context) {
	tick := time.NewTicker(trimPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for more := true; more && m.Ready(); {
			err := m.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
				more, err = tx.DeleteOldEvents(uint64(m.cfg.KeepEvents))
				return err
			})
			if err != nil {
				if ctx.Err() == nil {
					m.metrics.storeErrors.Inc()
					m.log.Warn("old events stay for now", "err", err)
				}
				break
			}
		}
	}
}
