package syncer

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
)

// legsBatch is how many transitions of legs are recorded before their primaries
// are told, as I/O waits for each.
const legsBatch = 128

// ChangeLegs carries out transitions of the legs of arrays, many at once: one
// transaction each, then one call per primary's cn for all that were recorded
// meanwhile, while the next ones are recorded. The dns learn of it as nodes
// that are behind do: what they are to do is for later, and they may be what has
// failed. The error of a transition says that it was not recorded, or that the
// primary could not be told, which the monitors try again. A transition that came
// too late (array.ErrStale) is not an error.
func (s *Syncer) ChangeLegs(ctx context.Context, changes []Transition) []error {
	errs := make([]error, len(changes))
	plans := make([]array.Plan, len(changes))
	recorded := make(chan int, len(changes)/legsBatch+1) // up to which change, and after the first one that is not told
	go func() {
		defer close(recorded)
		for at := 0; at < len(changes); {
			end := min(at+legsBatch, len(changes))
			p, e := s.record(ctx, changes[at:end])
			copy(plans[at:], p)
			copy(errs[at:], e)
			at = end
			recorded <- at
		}
	}()
	at := 0
	for end := range recorded {
		for len(recorded) > 0 {
			end = <-recorded
		}
		s.tellPrimaries(ctx, plans[at:end], errs[at:end])
		at = end
	}
	for i, err := range errs {
		if errors.Is(err, array.ErrStale) {
			errs[i] = nil
		}
	}
	return errs
}

// tellPrimaries tells the cns of the primaries in plans, each once, and adds to the
// errors of the plans what goes wrong.
func (s *Syncer) tellPrimaries(ctx context.Context, plans []array.Plan, errs []error) {
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
}
