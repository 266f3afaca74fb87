package monitor

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/syncer"
)

// What heartbeats find out is written many nodes at a time: when a rack dies, or a monitor
// starts, as many transactions as nodes would keep the database from everything else.

const (
	// reportWriters is how many transactions of reports are under way at once.
	reportWriters = 2
	// reportBatch is how many nodes one of them is about.
	reportBatch = 64
)

// filed is a report that waits to be written.
type filed struct {
	syncer.NodeReport
	done chan error // has room for the answer
}

// file writes a report with others of that moment.
func (m *Monitor) file(ctx context.Context, n array.Node, r syncer.Report) error {
	f := &filed{syncer.NodeReport{Node: n, Report: r}, make(chan error, 1)}
	select {
	case m.reports <- f:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-f.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeReports writes what is filed until ctx ends.
func (m *Monitor) writeReports(ctx context.Context) {
	for {
		var batch []*filed
		select {
		case <-ctx.Done():
			return
		case f := <-m.reports:
			batch = append(batch, f)
		}
		for more := true; more && len(batch) < reportBatch; {
			select {
			case f := <-m.reports:
				batch = append(batch, f)
			default:
				more = false
			}
		}
		m.writeBatch(ctx, batch)
	}
}

// writeBatch writes reports as one, and one by one when that fails: no report keeps others
// from being written.
func (m *Monitor) writeBatch(ctx context.Context, batch []*filed) {
	all := make([]syncer.NodeReport, len(batch))
	for i, f := range batch {
		all[i] = f.NodeReport
	}
	err := m.syncer.Reports(ctx, all)
	for i, f := range batch {
		each := err
		if err != nil && len(batch) > 1 && !errors.Is(err, context.Canceled) {
			each = m.syncer.Reports(ctx, all[i:i+1])
		}
		f.done <- each
	}
}
