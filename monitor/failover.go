package monitor

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// watchFailover moves the primaries of cns that are down: at once when a node
// goes down, and again every Refresh for those that could not be moved. It
// also moves those of cns that the administrator took offline. It returns
// when ctx ends.
func (m *Monitor) watchFailover(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Timing.Refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.cnDown:
		case <-tick.C:
		}
		if !m.Ready() {
			continue // no failover on a stale picture
		}
		down, draining := m.toLeave()
		for _, id := range down {
			m.failover(ctx, id, false)
		}
		for _, id := range draining {
			m.failover(ctx, id, true)
		}
		m.watchReach(ctx)
		m.watchRepair(ctx)
	}
}

// nodeDown is called when a node of this monitor's has gone down.
func (m *Monitor) nodeDown(n *node) {
	if n.kind != vda.ControllerNode {
		return
	}
	signal(m.cnDown)
}

// toLeave are the cns that primaries are to leave now. It has the watch look
// again when there is more to be said.
func (m *Monitor) toLeave() (down, draining []string) {
	var views []CNView
	now := time.Now()
	m.mu.Lock()
	for id, n := range m.nodes {
		if n.kind == vda.ControllerNode {
			up, down := n.state()
			views = append(views, CNView{ID: id, Up: up, Down: down, Lease: n.leaseLeft(now), Moving: m.moving[id], Offline: m.offline[id]})
		}
	}
	m.mu.Unlock()
	down, draining, again := PlanLeave(views)
	if again > 0 {
		time.AfterFunc(again, func() { signal(m.cnDown) })
	}
	return down, draining
}

// up reports whether a node answers: this monitor, or else the one that it
// belongs to, by what that wrote to SQL.
func (m *Monitor) up(id string) bool {
	m.mu.Lock()
	n, well := m.nodes[id], m.well[id]
	m.mu.Unlock()
	if n == nil {
		return well
	}
	up, _ := n.state()
	return up
}

// failover starts to move what can be moved off a cn.
func (m *Monitor) failover(ctx context.Context, cnID string, planned bool) {
	arrays, err := m.arraysOf(ctx, cnID)
	if err != nil {
		if ctx.Err() == nil {
			m.metrics.storeErrors.Inc()
			m.log.Warn("failover has to wait", "cn", cnID, "err", err)
		}
		return
	}
	moves := PlanMoves(arrays, m.up, planned)
	if len(moves) == 0 {
		return
	}
	m.depart(ctx, cnID, func(ctx context.Context) {
		begin := time.Now()
		failed := 0
		for _, part := range PlanBatches(moves, arrays, m.up) {
			if !m.Ready() {
				failed += len(part)
				continue
			}
			failed += m.move(ctx, part)
		}
		m.log.Info("failover", "req_id", rpc.RequestID(ctx), "cn", cnID, "planned", planned, "arrays", len(moves), "failed", failed,
			"took", time.Since(begin))
	})
}

// depart runs fn, which moves primaries off a cn, beside the watch. Meanwhile
// nothing else moves them, and the cn gets no lease. What fn asks of agents has
// one request id.
func (m *Monitor) depart(ctx context.Context, cnID string, fn func(context.Context)) {
	m.mu.Lock()
	m.moving[cnID] = true
	m.mu.Unlock()
	m.wg.Go(func() {
		defer func() {
			m.mu.Lock()
			delete(m.moving, cnID)
			m.moved[cnID] = time.Now()
			m.mu.Unlock()
		}()
		fn(rpc.WithRequestID(ctx, rpc.NewRequestID()))
	})
}

// move moves one batch and returns how many moves failed.
func (m *Monitor) move(ctx context.Context, moves []array.Move) (failed int) {
	for i, err := range m.syncer.Move(ctx, moves) {
		result := "ok"
		if err != nil {
			result = "error"
			failed++
			m.log.Warn("failover is not complete", "req_id", rpc.RequestID(ctx), "da", moves[i].DAID, "err", err)
		}
		m.metrics.failovers.WithLabelValues(result).Inc()
	}
	return failed
}

// arraysOf are the live arrays whose primary is on a cn.
func (m *Monitor) arraysOf(ctx context.Context, cnID string) ([]ArrayView, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timing.StaleAfter)
	defer cancel()
	var arrays []ArrayView
	err := m.cfg.Store.View(ctx, func(tx store.Reader) error {
		arrays = nil
		cntlrs, err := tx.CntlrsOfCN(cnID)
		if err != nil {
			return err
		}
		for _, c := range cntlrs {
			if !c.Primary || c.Deleted {
				continue
			}
			a, err := arrayView(tx, c.DAID)
			if err != nil {
				return err
			}
			if len(a.Secondaries) > 0 {
				arrays = append(arrays, a)
			}
		}
		return nil
	})
	return arrays, err
}

func arrayView(tx store.Reader, daID string) (ArrayView, error) {
	a := ArrayView{ID: daID}
	da, err := tx.DA(daID)
	if err != nil || da.Deleted {
		return a, err
	}
	a.Term = da.Term
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return a, err
	}
	grps, err := tx.GrpsOfDA(daID)
	if err != nil {
		return a, err
	}
	for _, column := range vda.Columns(vda.Joined(vds, grps)) {
		var dns []string
		for _, v := range column.Of(vda.Member) {
			dns = append(dns, v.DNID)
		}
		a.Columns = append(a.Columns, dns)
	}
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return a, err
	}
	for _, c := range cntlrs {
		if c.Primary || c.Deleted {
			continue
		}
		cn, err := tx.CN(c.CNID)
		if err != nil {
			return a, err
		}
		if da.Reservations && !cn.Reserves {
			continue // it would not know of what hosts have reserved
		}
		a.Secondaries = append(a.Secondaries, SecondaryView{ID: c.ID, CN: c.CNID, Primaries: int(cn.PrimaryCount), Draining: !cn.Online})
	}
	return a, nil
}
