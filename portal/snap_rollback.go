package portal

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// RollbackSnap makes an array what a snapshot of it shows. The order is carried out when
// the reply says so; else it stands, and is carried out when the primary can.
func (s *Server) RollbackSnap(ctx context.Context, req *apiv1.RollbackSnapRequest) (*apiv1.RollbackSnapReply, error) {
	var snap *vda.Snap
	err := s.update(ctx, func(tx store.Tx) error {
		da, row, err := findSnap(tx, req.DaName, req.SnapName)
		if err != nil {
			return err
		}
		snap = row
		if snap.Rollback != vda.RollbackNone { // the order stands: it is waited for
			return nil
		}
		if err := mayRollBack(tx, da, snap); err != nil {
			return err
		}
		_, err = array.RollBack(tx, snap)
		return err
	})
	if err != nil {
		return nil, err
	}
	now, why := s.awaitRow(ctx, snap, func(row *vda.Snap) bool { return row.Rollback == vda.RollbackNone })
	if now == nil {
		return nil, vda.Errorf(vda.FailedPrecondition, "da %s is not rolled back to snap %s yet: %s; it will be when that is mended, and is "+
			"shown to no host until then: give the order again to wait for it, or see snap get", req.DaName, snap.Name, why)
	}
	msg := snapMsg(now, req.DaName, nil)
	return &apiv1.RollbackSnapReply{SnapMsg: msg}, nil
}

// mayRollBack refuses a rollback of an array that hosts use, or that is being changed.
func mayRollBack(tx store.Tx, da *vda.DA, snap *vda.Snap) error {
	if snap.Writable() {
		return vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is writable; an array is rolled back to a snapshot that takes no writes",
			snap.Name, da.Name)
	}
	if snap.State != vda.SnapTaken {
		return vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is not taken yet: snap get says when it is", snap.Name, da.Name)
	}
	if err := notRolling(tx, da); err != nil {
		return err
	}
	exps, err := tx.ExpsOfDA(da.ID)
	if err != nil {
		return err
	}
	var names []string
	for i := range exps {
		if e := &exps[i]; !e.Deleted && e.SnapName == "" {
			names = append(names, e.Name)
		}
	}
	if names != nil {
		return inUse("da", da.Name, "exps", names)
	}
	return nil
}

// notRolling refuses what an array that is being rolled back must not have done to it.
func notRolling(tx store.Reader, da *vda.DA) error {
	snaps, err := tx.SnapsOfDA(da.ID)
	for i := range snaps {
		s := &snaps[i]
		// One that is overdue is in nobody's way: monitors of the release before do not have it go.
		if s.State == vda.SnapTogether && time.Since(s.Asked) < vda.TogetherTime {
			return vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is being taken, together with those of other das; try again in a moment",
				s.Name, da.Name)
		}
		if !s.Live() && s.Rollback == vda.RollbackAsked {
			return vda.Errorf(vda.FailedPrecondition, "the rollback of da %s to snap %s has been given up, and the array's primary has not said "+
				"yet that the array is what it was before; try again", da.Name, s.Name)
		}
		if s.Live() && s.Rollback != vda.RollbackNone {
			return vda.Errorf(vda.FailedPrecondition, "da %s is being rolled back to snap %s: snap get says when that is done", da.Name, s.Name)
		}
	}
	return err
}
