package monitor

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda/rpc"
)

// every calls do once per period until ctx ends, each time under a request id of its own,
// and not while the monitor is not ready. stays is what the log says when do has failed:
// what is as it was until the next time.
func (m *Monitor) every(ctx context.Context, period time.Duration, stays string, do func(context.Context) error) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !m.Ready() {
			continue
		}
		ctx := rpc.WithRequestID(ctx, rpc.NewRequestID())
		if err := do(ctx); err != nil && ctx.Err() == nil {
			m.metrics.storeErrors.Inc()
			m.log.Warn(stays, "req_id", rpc.RequestID(ctx), "err", err)
		}
	}
}
