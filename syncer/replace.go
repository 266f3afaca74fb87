package syncer

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// placeAttempts is how often a place is chosen again for a controller because the
// cluster has changed between the choice and the transaction.
const placeAttempts = 3

// Replace makes new controllers on other cns for those whose own cn has been gone
// for too long. fit says which cns may be used. It returns how many were replaced;
// for others there is nothing to do, or no place.
func (s *Syncer) Replace(ctx context.Context, cntlrs []vda.Cntlr, fit func(cnID string) bool) (replaced int, err error) {
	var all []array.Plan
	for i := range cntlrs {
		var plan array.Plan
		for range placeAttempts {
			if plan, err = s.replace(ctx, &cntlrs[i], fit); !errors.Is(err, array.ErrStale) {
				break
			}
		}
		if errors.Is(err, array.ErrStale) {
			err = nil // at the next look
			continue
		}
		if err != nil {
			break
		}
		if len(plan.Nodes()) > 0 {
			replaced++
		}
		all = append(all, plan)
	}
	// What fails is done by the monitors.
	for _, stage := range array.Join(all...) {
		for id, err := range s.each(ctx, stage.IDs(), s.changes(vda.ControllerNode)) {
			if err != nil {
				s.cfg.Log.Warn("a cn does not know of a new controller yet", "cn", id, "err", err)
			}
		}
	}
	return replaced, err
}

func (s *Syncer) replace(ctx context.Context, c *vda.Cntlr, fit func(cnID string) bool) (plan array.Plan, err error) {
	var r *array.Replacement
	err = s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		r, err = array.PlanReplacement(tx, c.DAID, c.ID, fit)
		return err
	})
	if err != nil || r == nil {
		return nil, err
	}
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		plan, err = array.Replace(tx, r)
		return err
	})
	return plan, err
}
