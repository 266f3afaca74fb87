package portal

import (
	"context"
	"fmt"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// undoForSpace deletes an array that has just been made when there turned out
// to be no space below a pd for one of its vds, and returns what to answer; nil
// when that is not the matter with it, or when somebody uses it already.
func (s *Server) undoForSpace(ctx context.Context, made *vda.DA) error {
	why := ""
	var steps [][]node
	err := s.update(ctx, func(tx store.Tx) error {
		why = ""
		da, err := tx.DA(made.ID)
		if err != nil {
			return err
		}
		exps, err := tx.ExpsOfDA(da.ID)
		if err != nil || len(exps) > 0 || da.Deleted {
			return err
		}
		snaps, err := liveSnaps(tx, da.ID)
		if err != nil || snaps != nil {
			return err
		}
		vds, err := tx.VDsOfDA(da.ID)
		if err != nil {
			return err
		}
		for i := range vds {
			if vd := &vds[i]; vd.Health.Error && strings.HasPrefix(vd.Health.Msg, vda.NoSpace) {
				why = fmt.Sprintf("vd %d of group %d: %s", vd.Idx, vd.GrpIdx, vd.Health.Msg)
				plan, err := array.Delete(tx, da)
				if err != nil {
					return err
				}
				steps, err = stepsOf(tx, plan)
				return err
			}
		}
		return nil
	})
	if err != nil || why == "" {
		return nil // it is there, in error, and the reply says so
	}
	again := ""
	if notes := s.carryOut(ctx, made.ID, steps); notes != nil {
		again = ", but " + strings.Join(notes, "; ") + "; vda_monitor keeps trying"
	}
	return vda.Errorf(vda.ResourceExhausted, "da %s is not created: %s; what was made of it has been deleted again%s", made.Name, why, again)
}
