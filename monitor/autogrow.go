package monitor

import (
	"context"
	"errors"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

const (
	// growPeriod is how often arrays are looked at that grow by themselves.
	growPeriod = 5 * time.Second
	// noGrowthFor is for how long it is remembered at least that an array was said not to grow.
	noGrowthFor = time.Hour
)

// noGrowth is that an array cannot grow, as was said.
type noGrowth struct {
	kind vda.Kind // of the reason
	at   time.Time
}

// watchGrowth has arrays grow that run low. Each monitor does for those whose primary's
// cn it watches; what a growth takes is looked at again as it is recorded, so that of two
// monitors one does it. It returns when ctx ends.
func (m *Monitor) watchGrowth(ctx context.Context) {
	said := map[string]noGrowth{}
	m.every(ctx, growPeriod, "arrays that run low do not grow for now", func(ctx context.Context) error { return m.tendGrowth(ctx, said) })
}

// freshSpaces are how full arrays are, as the cns that this monitor watches said just now.
func (m *Monitor) freshSpaces() map[string][]array.SpaceReport {
	all := map[string][]array.SpaceReport{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		n.mu.Lock()
		if n.seen && !n.down && time.Since(n.spacesAt) < 2*m.cfg.Timing.Period {
			for _, r := range n.spaces {
				all[r.DAID] = append(all[r.DAID], r)
			}
		}
		n.mu.Unlock()
	}
	return all
}

func (m *Monitor) tendGrowth(ctx context.Context, said map[string]noGrowth) error {
	var das []vda.DA
	if err := m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		das, err = tx.AutoGrowDAs()
		return err
	}); err != nil {
		return err
	}
	known, low := map[string]bool{}, map[string]bool{}
	reports := m.freshSpaces()
	var errs []error
	for i := range das {
		da := &das[i]
		known[da.ID] = true
		for _, r := range reports[da.ID] {
			if array.RunsLow(da, r) {
				low[da.ID] = true
				errs = append(errs, m.grow(ctx, da, r, said))
			}
		}
	}
	for id, s := range said {
		if !known[id] || time.Since(s.at) > noGrowthFor && !low[id] {
			delete(said, id)
		}
	}
	return errors.Join(errs...)
}

// grow has an array grow that runs low, or says once why it cannot.
func (m *Monitor) grow(ctx context.Context, da *vda.DA, r array.SpaceReport, said map[string]noGrowth) error {
	var g *array.AutoGrowth
	err := m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		g, err = array.PlaceAutoGrowth(tx, da, r)
		return err
	})
	if err == nil && g == nil {
		return nil
	}
	if err == nil {
		err = m.cfg.Store.Update(ctx, func(tx store.Tx) error {
			_, err := array.AutoGrow(tx, g) // its nodes hear of it as of any change
			return err
		})
		switch {
		case errors.Is(err, array.ErrStale):
			return nil // it is looked at again
		case err == nil:
			delete(said, da.ID)
			m.log.Info("an array that runs low grows", "da", da.Name)
			return nil
		}
	}
	kind := vda.KindOf(err)
	if kind != vda.FailedPrecondition && kind != vda.ResourceExhausted {
		return err
	}
	if was, known := said[da.ID]; known && was.kind == kind {
		return nil
	}
	why := reason.Of(err)
	m.log.Warn("an array that runs low cannot grow", "da", da.Name, "why", why)
	err = m.cfg.Store.Update(ctx, func(tx store.Tx) error { return array.NoteNoGrowth(tx, da.ID, r, why) })
	if err == nil {
		said[da.ID] = noGrowth{kind, time.Now()}
	}
	return err
}
