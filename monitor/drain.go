package monitor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

const (
	// movesPerDN is how many vds leave one dn at once. How many are copied to at once
	// on the dns that they go to is bounded as for every other leg.
	movesPerDN = 4
	// placesAtOnce is how many vds are looked at in one turn for a place.
	placesAtOnce = 64
)

// PlanDrain says which vds of dns and pds that are being drained are to be looked at
// for a place, the best first, and how many of each dn may leave now. vds are all
// on what is being drained, and tried is when a vd was found to have no place: those
// wait their turn behind the others. Then the least go first. Pure.
func PlanDrain(vds []vda.VD, tried func(id string) time.Time) (next []vda.VD, free map[string]int) {
	free = map[string]int{}
	for i := range vds {
		v := &vds[i]
		if _, known := free[v.DNID]; !known {
			free[v.DNID] = movesPerDN
		}
		if v.Leaving {
			free[v.DNID]--
		} else {
			next = append(next, *v)
		}
	}
	next = slices.DeleteFunc(next, func(v vda.VD) bool { return free[v.DNID] <= 0 })
	slices.SortStableFunc(next, func(a, b vda.VD) int {
		return cmp.Or(tried(a.ID).Compare(tried(b.ID)), cmp.Compare(a.Size, b.Size))
	})
	return next[:min(len(next), placesAtOnce)], free
}

// stuck is a vd that is to leave and cannot.
type stuck struct {
	why   string
	tried time.Time
}

// drain has vds leave the dns and pds that are being drained, those of arrays whose
// primary is on a node of this monitor's. memory is what it found last time, by vd.
func (m *Monitor) drain(ctx context.Context, memory map[string]stuck) error {
	ctx = rpc.WithRequestID(ctx, rpc.NewRequestID())
	vds, err := m.draining(ctx)
	if err != nil {
		return err
	}
	for id := range memory {
		if !slices.ContainsFunc(vds, func(v vda.VD) bool { return v.ID == id }) {
			delete(memory, id)
		}
	}
	next, free := PlanDrain(vds, func(id string) time.Time { return memory[id].tried })
	for len(next) > 0 {
		var leg *array.NewLeg
		leg, next, err = m.placeMove(ctx, next, free, memory)
		if err != nil || leg == nil {
			return err
		}
		m.log.Info("a vd leaves a dn that is being drained", "req_id", rpc.RequestID(ctx), "da", leg.DAID, "vd", leg.InsteadOf, "dn", leg.At.DNID)
		m.changeLegs(ctx, []syncer.Transition{func(tx store.Tx) (array.Plan, error) { return array.DrainLeg(tx, *leg) }})
	}
	return nil
}

// placeMove finds the first vd that has a place; next are those behind it. leg is
// nil when none has.
func (m *Monitor) placeMove(ctx context.Context, vds []vda.VD, free map[string]int,
	memory map[string]stuck) (leg *array.NewLeg, next []vda.VD, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timing.StaleAfter)
	defer cancel()
	err = m.cfg.Store.View(ctx, func(tx store.Reader) error {
		leg = nil
		mover, err := array.NewMover(tx)
		if err != nil {
			return err
		}
		for i := range vds {
			v := &vds[i]
			if free[v.DNID] <= 0 {
				continue
			}
			n, _, err := mover.Place(v.DAID, v.ID, array.MoveTo{})
			switch kind := vda.KindOf(err); {
			case err == nil:
				leg, next = &n, vds[i+1:]
				free[v.DNID]--
				delete(memory, v.ID)
				return nil
			case errors.Is(err, array.ErrStale):
			case kind == vda.FailedPrecondition || kind == vda.ResourceExhausted:
				why := reason.Of(err)
				if memory[v.ID].why != why {
					m.log.Warn("a vd cannot leave a dn that is being drained", "req_id", rpc.RequestID(ctx), "da", v.DAID, "vd", v.ID, "why", why)
				}
				memory[v.ID] = stuck{why, time.Now()}
			default:
				return err
			}
		}
		return nil
	})
	return leg, next, err
}

// draining are the vds on what is being drained: those that are to leave at this
// monitor's doing, and all that are leaving.
func (m *Monitor) draining(ctx context.Context) ([]vda.VD, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timing.StaleAfter)
	defer cancel()
	var vds []vda.VD
	err := m.cfg.Store.View(ctx, func(tx store.Reader) error {
		rows, err := tx.DrainingVDs()
		if err != nil {
			return err
		}
		vds = nil
		primaries := map[string]string{}
		for _, v := range rows {
			cnID, known := primaries[v.DAID]
			if !known && !v.Leaving {
				if cnID, err = primaryCN(tx, v.DAID); err != nil {
					return err
				}
				primaries[v.DAID] = cnID
			}
			if v.Leaving || m.mine(cnID) != nil {
				vds = append(vds, v)
			}
		}
		return nil
	})
	return vds, err
}
