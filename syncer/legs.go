package syncer

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
)

// ChangeLegs carries out transitions of the legs of arrays, many at once: one
// transaction each, then one call per primary's cn. The dns learn of it as nodes
// that are behind do: what they are to do is for later, and they may be what has
// failed. The error of a transition says that it was not recorded, or that the
// primary could not be told, which the monitors try again. A transition that came
// too late (array.ErrStale) is not an error.
func (s *Syncer) ChangeLegs(ctx context.Context, changes []Transition) []error {
	plans, errs := s.record(ctx, changes)
	for _, stage := range array.Join(plans...) {
		if stage.Role != array.Primary {
			continue
		}
		told := s.each(ctx, stage.IDs(), s.changes(vda.ControllerNode))
		for i, p := range plans {
			for _, n := range p.Of(array.Primary) {
				errs[i] = errors.Join(errs[i], told[n.ID])
			}
		}
	}
	for i, err := range errs {
		if errors.Is(err, array.ErrStale) {
			errs[i] = nil
		}
	}
	return errs
}
