package portal

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// changeRedundancy has an array that serves promise more or less. What is not done when
// it returns, copying and deleting, is done by monitors, whatever dies.
func (s *Server) changeRedundancy(ctx context.Context, req *apiv1.ModifyDaRequest) (*apiv1.ModifyDaReply, error) {
	if req.MinLegs != nil && *req.MinLegs == 0 {
		return nil, invalid("min_legs is 0; it must be 1 at least")
	}
	var da *vda.DA
	var steps [][]node
	var warnings []string
	err := array.ErrStale
	for try := 0; try < placeAttempts && errors.Is(err, array.ErrStale); try++ {
		var n array.NewRedundancy
		err = s.view(ctx, func(tx store.Reader) (err error) {
			if da, err = findDA(tx, req.DaName); err != nil {
				return err
			}
			to := da.Redundancy
			if req.Redundancy != nil {
				if to, err = vda.ParseRedundancy("redundancy", *req.Redundancy); err != nil {
					return err
				}
			}
			n, warnings, err = array.PlanRedundancy(tx, da.ID, to, req.GetMinLegs())
			return err
		})
		if err == nil {
			err = s.update(ctx, func(tx store.Tx) error {
				plan, err := array.ChangeRedundancy(tx, n)
				if err != nil {
					return err
				}
				steps, err = stepsOf(tx, plan)
				return err
			})
		}
	}
	if errors.Is(err, array.ErrStale) {
		return nil, vda.Errorf(vda.Conflict, "da %s or the places chosen for its legs were changed by others %d times in a row", req.DaName,
			placeAttempts)
	}
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, steps...)
	now, err := s.daMsg(ctx, byID(da.ID))
	msg, remarks := shown(now, err, daMsg(da))
	return &apiv1.ModifyDaReply{ReplyInfo: done("the da is modified", notes, append(remarks, warnings...)...), DaMsg: msg}, nil
}
