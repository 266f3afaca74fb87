package monitor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestAlertsAreRaised: a node that is down is an alert when it has been for a minute, since the
// moment that it went down, and an event; it ends when an administrator says that it is meant
// to be.
func TestAlertsAreRaised(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(time.Minute, "a disk with room", func() bool { return r.thePD().FreeClusters >= 3 })
		alerts := func() (all []vda.Alert) {
			r.update(func(tx store.Tx) (err error) {
				all, err = tx.Alerts()
				return err
			})
			return all
		}
		events := func() (all []string) {
			r.update(func(tx store.Tx) error {
				list, err := tx.ListEvents(store.EventFilter{Kinds: []vda.EventKind{vda.EventAlertRaised, vda.EventAlertCleared}}, store.EventPage{})
				all = nil
				for _, e := range list {
					code, _, _ := strings.Cut(e.Text, ":")
					all = append(all, string(e.Kind)+" "+code+" "+e.Object+" "+e.Name)
				}
				return err
			})
			return all
		}
		if got := alerts(); len(got) != 0 {
			t.Fatalf("all is well, and there are %+v", got)
		}
		cn := func() (n *vda.Node) {
			r.update(func(tx store.Tx) (err error) { n, err = tx.Node(vda.ControllerNode, r.cns[0].ID); return err })
			return n
		}
		name := cn().Name
		r.agents.Agent(name).BreakPlane("does not answer")
		r.within(time.Minute, "the cn is down", func() bool { return cn().Health.Error })
		down := cn().Health.Since
		time.Sleep(time.Until(down.Add(vda.AlertNodeDown.Hold() - time.Second)))
		if got := alerts(); len(got) != 0 {
			t.Errorf("too early, there are %+v", got)
		}
		time.Sleep(2*alertPeriod + time.Second)
		got := alerts()
		if len(got) != 1 || got[0].Code != vda.AlertNodeDown || got[0].Name != name || !got[0].Since.Equal(down) {
			t.Fatalf("down since %v: %+v", down, got)
		}
		online := func(is bool) {
			r.update(func(tx store.Tx) error {
				n, err := tx.Node(vda.ControllerNode, r.cns[0].ID)
				if err != nil {
					return err
				}
				n.Online = is
				return tx.UpdateNode(vda.ControllerNode, n)
			})
		}
		online(false)
		time.Sleep(2 * alertPeriod)
		if got := alerts(); len(got) != 0 {
			t.Errorf("it is offline on purpose: %+v", got)
		}
		raised, cleared := "alert_raised node_down cn "+name, "alert_cleared node_down cn "+name
		if got, want := events(), []string{raised, cleared}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// TestHolding: an alert is raised when it has been wrong for its time without a pause, and
// ends at once.
func TestHolding(t *testing.T) {
	h, begin := holding{}, time.Unix(1_000_000, 0)
	da := vda.Alert{Code: vda.AlertDADegraded, Object: "da", Name: "da0", Text: "it is degraded"}
	hold := da.Code.Hold()
	if hold != 15*time.Minute {
		t.Fatalf("it is held for %v", hold)
	}
	var was []vda.Alert
	for _, row := range []struct {
		at    time.Duration
		wrong bool
		since time.Duration // -1: not raised
	}{
		{0, true, -1}, {hold - 1, true, -1}, {hold, true, 0}, {2 * hold, true, 0}, {2*hold + 1, false, -1}, {2*hold + 2, true, -1},
		{2*hold + 3, false, -1}, {3*hold + 2, true, -1}, {4*hold + 2, true, 3*hold + 2},
	} {
		var found []vda.Alert
		if row.wrong {
			found = append(found, da)
		}
		was = h.due(found, was, begin.Add(row.at))
		switch {
		case row.since < 0 && len(was) != 0:
			t.Errorf("after %v: %+v", row.at, was)
		case row.since >= 0 && (len(was) != 1 || !was[0].Since.Equal(begin.Add(row.since))):
			t.Errorf("after %v: %+v, want since %v", row.at, was, row.since)
		}
	}
	if len(h) != 1 {
		t.Errorf("it remembers %v", h)
	}
}
