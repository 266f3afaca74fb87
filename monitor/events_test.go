package monitor

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestEventsAreBounded: of the events that a cluster has had, as many stay as are to be
// kept, and these are the last ones. A node that goes and comes is among them.
func TestEventsAreBounded(t *testing.T) {
	inBubble(t, func(r *rig) {
		events := func() (all []vda.Event) {
			err := r.store.View(r.Context(), func(tx store.Reader) (err error) {
				all, err = tx.ListEvents(store.EventFilter{}, store.EventPage{})
				return err
			})
			if err != nil {
				r.Fatal(err)
			}
			return all
		}
		err := r.store.Update(r.Context(), func(tx store.Tx) error {
			for range 3 * keptInTests {
				if err := tx.Record(vda.Event{Kind: vda.EventChange}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			r.Fatal(err)
		}
		r.agents.Agent("dn0").Stop()
		kinds := func(want ...vda.EventKind) func() bool {
			return func() bool {
				n := 0
				for _, e := range events() {
					if n < len(want) && e.Kind == want[n] && e.Name == "dn0" {
						n++
					}
				}
				return n == len(want)
			}
		}
		r.within(time.Minute, "the dn is down", kinds(vda.EventNodeDown))
		r.agents.Agent("dn0").Start()
		r.within(time.Minute, "and up again", kinds(vda.EventNodeDown, vda.EventNodeUp))
		r.within(2*trimPeriod, "old events are gone", func() bool { return len(events()) <= keptInTests })
		if all := events(); !kinds(vda.EventNodeDown, vda.EventNodeUp)() {
			r.Errorf("of %d events that are left none tells of the dn", len(all))
		}
	})
}
