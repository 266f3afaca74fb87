package monitor

import (
	"context"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// A primary may be cut off from one dn alone: its cn is well, the dn is well,
// and hosts wait. Its agent says so in every heartbeat. When that has lasted
// ReachDelay, the cns of the other controllers are asked which of the array's
// dns they reach, and the array moves to one that can use it, if there is one.

// watchReach moves such arrays.
func (m *Monitor) watchReach(ctx context.Context) {
	for id, lost := range m.cutOff() {
		m.wg.Go(func() {
			begin := time.Now()
			moves := m.betterPlaces(ctx, id, lost)
			if len(moves) == 0 || !m.Ready() {
				return
			}
			m.depart(ctx, id, func(ctx context.Context) {
				failed := m.move(ctx, moves)
				m.log.Info("failover", "req_id", rpc.RequestID(ctx), "cn", id, "why", "cut off from a dn", "arrays", len(moves), "failed", failed,
					"took", time.Since(begin))
			})
		})
	}
}

// cutOff are, by cn, the primaries to be moved if another place is better; of
// one cn not more often than each ReachDelay.
func (m *Monitor) cutOff() map[string][]*apiv1.Unreached {
	t := &m.cfg.Timing
	all := map[string][]*apiv1.Unreached{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, n := range m.nodes {
		if up, _ := n.state(); n.kind != vda.ControllerNode || !up || m.moving[id] || time.Since(m.tried[id]) < max(t.ReachDelay, 2*probeLimit) {
			continue
		}
		n.mu.Lock()
		lost := n.lost
		n.mu.Unlock()
		for _, u := range lost {
			since, primary := time.Duration(u.LostMs)*time.Millisecond, time.Duration(u.PrimaryMs)*time.Millisecond
			if since >= t.ReachDelay && primary >= t.ReachHold {
				all[id] = append(all[id], u)
				m.tried[id] = time.Now()
			}
		}
	}
	return all
}

// backends are the data planes that an array's primary must reach.
type backends struct {
	ArrayView
	at map[string]*apiv1.ListenerConf // by dn
}

// betterPlaces are moves to controllers that reach what their arrays need, which
// the present primaries do not.
func (m *Monitor) betterPlaces(ctx context.Context, cnID string, lost []*apiv1.Unreached) []array.Move {
	arrays, err := m.backendsOf(ctx, cnID, lost)
	if err != nil {
		if ctx.Err() == nil {
			m.metrics.storeErrors.Inc()
			m.log.Warn("arrays that are cut off from a dn have to wait", "cn", cnID, "err", err)
		}
		return nil
	}
	var moves []array.Move
	probes := map[string]map[string]bool{} // what each candidate reaches
	for _, a := range arrays {
		if !a.usable(m.up) {
			continue
		}
		a.Secondaries = slices.DeleteFunc(a.Secondaries, func(s SecondaryView) bool {
			return !m.up(s.CN) || s.Draining || !a.usable(m.reaches(ctx, probes, s.CN, a.at))
		})
		moves = append(moves, PlanMoves([]ArrayView{a.ArrayView}, m.up, true)...)
	}
	return moves
}

// backendsOf reads what is needed of arrays whose primary is still where it
// said.
func (m *Monitor) backendsOf(ctx context.Context, cnID string, lost []*apiv1.Unreached) ([]backends, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timing.StaleAfter)
	defer cancel()
	var all []backends
	err := m.cfg.Store.View(ctx, func(tx store.Reader) error {
		all = nil
		for _, u := range lost {
			c, err := tx.Cntlr(u.CntlrId)
			if err != nil {
				return err
			}
			if !c.Primary || c.Deleted || c.CNID != cnID {
				continue
			}
			a, err := arrayView(tx, c.DAID)
			if err != nil {
				return err
			}
			if a.Term != u.Term || len(a.Secondaries) == 0 {
				continue
			}
			b := backends{ArrayView: a, at: map[string]*apiv1.ListenerConf{}}
			for _, id := range slices.Concat(a.Columns...) {
				if b.at[id] != nil {
					continue
				}
				dn, err := tx.DN(id)
				if err != nil {
					return err
				}
				b.at[id] = apiv1.NewListenerConf(dn.Listener)
			}
			all = append(all, b)
		}
		return nil
	})
	return all, err
}

// probeLimit bounds the question to one candidate.
const probeLimit = 2 * time.Second

// reaches asks a cn's agent for the addresses, by dn, that it has not been asked
// for yet, and says which dns it reaches: none when it does not answer.
func (m *Monitor) reaches(ctx context.Context, known map[string]map[string]bool, cnID string,
	at map[string]*apiv1.ListenerConf) func(dn string) bool {
	reached := known[cnID]
	if reached == nil {
		reached = map[string]bool{}
		known[cnID] = reached
	}
	key := func(l *apiv1.ListenerConf) string { return l.Traddr + " " + l.Trsvcid }
	var ask []*apiv1.ListenerConf
	for _, l := range at {
		if _, asked := reached[key(l)]; !asked {
			ask = append(ask, l)
			reached[key(l)] = false
		}
	}
	if len(ask) > 0 {
		m.mu.Lock()
		at, cluster := m.all[cnID], m.cluster
		m.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, probeLimit)
		defer cancel()
		c, err := m.cfg.Dial.Cn(at)
		var r *apiv1.ProbeReply
		if err == nil {
			r, err = c.Probe(ctx, &apiv1.ProbeRequest{ClusterId: cluster, NodeId: cnID, Addresses: ask})
		}
		if err != nil || len(r.Problems) != len(ask) {
			m.log.Debug("probe", "cn", cnID, "err", err)
			return func(string) bool { return false }
		}
		for i, l := range ask {
			reached[key(l)] = r.Problems[i] == ""
		}
	}
	return func(dn string) bool { return reached[key(at[dn])] }
}
