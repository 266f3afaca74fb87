package syncer

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// legsBatch is how many changes of legs are recorded before their primaries
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
	return s.recordAndTell(ctx, len(changes), func(from, to int) ([]array.Plan, []error) { return s.record(ctx, changes[from:to]) })
}

// ChangeManyLegs is ChangeLegs for changes that are made a hundred per transaction. When one
// fails, each of its changes is tried by itself: none keeps others from being made.
func (s *Syncer) ChangeManyLegs(ctx context.Context, changes []array.LegChange) []error {
	return s.manyLegs(ctx, len(changes), func(tx store.Tx, from, to int) ([]array.Plan, []error, error) {
		return array.ChangeManyLegs(tx, changes[from:to])
	})
}

// AddLegs gives mirrors one more leg each, likewise.
func (s *Syncer) AddLegs(ctx context.Context, legs []array.NewLeg) []error {
	return s.manyLegs(ctx, len(legs), func(tx store.Tx, from, to int) ([]array.Plan, []error, error) {
		return array.AddLegs(tx, legs[from:to])
	})
}

func (s *Syncer) manyLegs(ctx context.Context, n int,
	change func(tx store.Tx, from, to int) ([]array.Plan, []error, error)) []error {
	record := func(from, to int) (plans []array.Plan, errs []error, err error) {
		err = s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
			plans, errs, err = change(tx, from, to)
			return err
		})
		return plans, errs, err
	}
	return s.recordAndTell(ctx, n, func(from, to int) ([]array.Plan, []error) {
		plans, errs, err := record(from, to)
		if err == nil {
			return plans, errs
		}
		plans, errs = make([]array.Plan, to-from), make([]error, to-from)
		for i := range errs {
			if ctx.Err() != nil || to-from == 1 {
				errs[i] = err
				continue
			}
			p, e, err := record(from+i, from+i+1)
			if errs[i] = err; err == nil {
				plans[i], errs[i] = p[0], e[0]
			}
		}
		return plans, errs
	})
}

// recordAndTell has n changes recorded, legsBatch at a time, and tells the primaries of those that are.
func (s *Syncer) recordAndTell(ctx context.Context, n int, record func(from, to int) ([]array.Plan, []error)) []error {
	errs := make([]error, n)
	plans := make([]array.Plan, n)
	recorded := make(chan int, n/legsBatch+1) // up to which change, and after the first one that is not told
	go func() {
		defer close(recorded)
		for at := 0; at < n; {
			end := min(at+legsBatch, n)
			p, e := record(at, end)
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
