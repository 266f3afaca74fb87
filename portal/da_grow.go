package portal

import (
	"context"
	"errors"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// growPhysical gives an array more physical size: a new group of vds. The size that it
// has takes back what has not become part of it yet.
func (s *Server) growPhysical(ctx context.Context, name string, size uint64) (*apiv1.ModifyDaReply, error) {
	var da *vda.DA
	var steps [][]node
	var warnings []string
	what := "the da gets more physical size"
	err := array.ErrStale
	for range placeAttempts {
		var columns []placement.Column
		back := false
		err = s.view(ctx, func(tx store.Reader) (err error) {
			if da, err = findDA(tx, name); err != nil {
				return err
			}
			if back = size == da.PhysicalSize; back {
				return nil
			}
			columns, warnings, err = array.PlacePhysical(tx, da, size, placement.BestEffort)
			return err
		})
		if err != nil {
			return nil, err
		}
		err = s.update(ctx, func(tx store.Tx) (err error) {
			if da, err = findDA(tx, name); err != nil {
				return err
			}
			var plan array.Plan
			switch {
			case !back:
				plan, err = array.GrowPhysical(tx, da, size, columns)
			case size != da.PhysicalSize:
				return array.ErrStale // what was to be taken back has become part of it
			default:
				what = "what the da was to get is taken back"
				_, plan, err = array.TakeBackPhysical(tx, da)
			}
			if err != nil {
				return err
			}
			steps, err = stepsOf(tx, plan)
			return err
		})
		if !errors.Is(err, array.ErrStale) {
			break
		}
	}
	if errors.Is(err, array.ErrStale) {
		return nil, vda.Errorf(vda.Conflict, "the places chosen for da %s were taken by others %d times in a row", name, placeAttempts)
	}
	if err != nil {
		return nil, err
	}
	read := func() (*apiv1.DaMsg, error) { return s.daMsg(ctx, byID(da.ID)) }
	notes := s.syncSteps(ctx, steps...)
	now, err := read()
	if notes == nil {
		now, err = settle(ctx, s.cfg.SettleTime, now, err, func(m *apiv1.DaMsg) bool { return !joins(m) && !m.Error },
			func() (*apiv1.DaMsg, error) {
				s.syncSteps(ctx, steps...)
				return read()
			})
	}
	msg, remarks := shown(now, err, daMsg(da))
	if notes == nil && (joins(msg) || msg.Error) {
		notes = []string{"not all of it is there yet"}
		if msg.Error {
			notes = []string{"not all of it is there yet (" + msg.ErrorMsg + ")"}
		}
	}
	return &apiv1.ModifyDaReply{ReplyInfo: done(what, notes, append(remarks, warnings...)...), DaMsg: msg}, nil
}

// joins reports that a group is to become part of an array.
func joins(m *apiv1.DaMsg) bool {
	return slices.ContainsFunc(m.GrpMsgList, func(g *apiv1.GrpMsg) bool { return g.Joining })
}
