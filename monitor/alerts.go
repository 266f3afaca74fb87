package monitor

import (
	"context"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// alertPeriod is how often it is looked for what is wrong.
const alertPeriod = 5 * time.Second

// alertsKey has one of the monitors look, as nodes have an owner.
const alertsKey = "alerts"

// watchAlerts keeps the table of alerts, so that all portals say the same, and since when.
func (m *Monitor) watchAlerts(ctx context.Context) {
	tick := time.NewTicker(alertPeriod)
	defer tick.Stop()
	held := holding{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		mine := m.alerting
		m.mu.Unlock()
		if !mine || !m.Ready() {
			clear(held)
			continue
		}
		if err := m.settleAlerts(ctx, held); err != nil && ctx.Err() == nil {
			m.metrics.storeErrors.Inc()
			m.log.Warn("alerts stay as they are for now", "err", err)
		}
	}
}

func (m *Monitor) settleAlerts(ctx context.Context, held holding) error {
	var found, was []vda.Alert
	err := m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		if was, err = tx.Alerts(); err == nil {
			found, err = array.FindAlerts(tx)
		}
		return err
	})
	if err != nil {
		return err
	}
	raise := held.due(found, was, time.Now())
	if slices.EqualFunc(sorted(raise), sorted(was), sameAlert) {
		return nil
	}
	for i := range raise {
		if !slices.ContainsFunc(was, func(a vda.Alert) bool { return a.FullName() == raise[i].FullName() }) {
			m.log.Warn("alert", "code", raise[i].Code, "object", raise[i].Object, "name", raise[i].Name, "text", raise[i].Text)
		}
	}
	return m.cfg.Store.Update(ctx, func(tx store.Tx) error { return array.SettleAlerts(tx, raise) })
}

func sorted(alerts []vda.Alert) []vda.Alert {
	alerts = slices.Clone(alerts)
	slices.SortFunc(alerts, func(a, b vda.Alert) int {
		switch x, y := a.FullName(), b.FullName(); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return alerts
}

// sameAlert reports that the row of a need not be written to say b.
func sameAlert(a, b vda.Alert) bool {
	return a.FullName() == b.FullName() && store.CleanMsg(a.Text) == store.CleanMsg(b.Text)
}

// holding is since when what is wrong, and not raised yet, was seen, by Alert.FullName.
type holding map[string]time.Time

// due returns those of found that are raised or have been wrong for long enough, and forgets
// what is not wrong any more. What rows do not say the beginning of has begun when it was
// first seen.
func (h holding) due(found, was []vda.Alert, now time.Time) (raise []vda.Alert) {
	raised := map[string]time.Time{}
	for i := range was {
		raised[was[i].FullName()] = was[i].Since
	}
	wrong := map[string]bool{}
	for _, a := range found {
		name := a.FullName()
		wrong[name] = true
		first, known := h[name]
		if !known {
			first = now
			h[name] = first
		}
		since, old := raised[name]
		switch {
		case old:
			a.Since = since
		case now.Sub(first) < a.Code.Hold():
			continue
		case a.Since.IsZero():
			a.Since = first
		}
		raise = append(raise, a)
	}
	for name := range h {
		if !wrong[name] {
			delete(h, name)
		}
	}
	return raise
}
