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
	m.every(ctx, trimPeriod, "old events stay for now", func(ctx context.Context) error {
		for more := true; more; {
			err := m.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
				more, err = tx.DeleteOldEvents(uint64(m.cfg.KeepEvents))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
