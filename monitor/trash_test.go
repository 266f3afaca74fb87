package monitor

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestTrashIsPurged: an array that was deleted and kept goes when its time has passed,
// and not before; one that was brought back stays.
func TestTrashIsPurged(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(time.Minute, "a disk with room", func() bool { return r.thePD().FreeClusters >= 3 })
		soon, later, live := r.addDA("soon"), r.addDA("later"), r.addDA("live")
		keep := func(da *vda.DA, until time.Time) {
			r.update(func(tx store.Tx) error {
				now, err := tx.DA(da.ID)
				if err != nil {
					return err
				}
				now.Purge = until
				return tx.UpdateDA(now)
			})
		}
		left := func() (names string) {
			r.update(func(tx store.Tx) error {
				names = ""
				for _, da := range []*vda.DA{soon, later, live} {
					now, err := tx.DA(da.ID)
					if err == nil && !now.Deleted {
						names += now.Name + " "
					} else if err != nil && vda.KindOf(err) != vda.NotFound {
						return err
					}
				}
				return nil
			})
			return names
		}
		keep(soon, time.Now().Add(2*time.Minute))
		keep(later, time.Now().Add(3*time.Minute))
		time.Sleep(2*time.Minute - time.Millisecond)
		if got := left(); got != "soon later live " {
			t.Errorf("too early, there are %s", got)
		}
		time.Sleep(2 * purgePeriod)
		if got := left(); got != "later live " {
			t.Errorf("after the time of one, there are %s", got)
		}
		keep(later, time.Time{})
		time.Sleep(2 * time.Minute)
		if got := left(); got != "later live " {
			t.Errorf("after the other was brought back, there are %s", got)
		}
	})
}

// TestTrashIsLookedAfter: an array that was deleted and is kept leaves a dn that is drained,
// and a cn that dies, as any other does.
func TestTrashIsLookedAfter(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		becomes := func(want string) {
			r.Helper()
			got := ""
			r.within(time.Minute, want, func() bool { got = r.at(r.serve(da)); return got == want })
		}
		becomes("dn0 dn1")
		r.update(func(tx store.Tx) error {
			now, err := tx.DA(da.ID)
			if err != nil {
				return err
			}
			now.Purge = time.Now().Add(24 * time.Hour)
			return tx.UpdateDA(now)
		})
		r.addSpare("dn2")
		r.update(func(tx store.Tx) error { return tx.SetDNDrain(r.dns[0].ID, true) })
		becomes("dn1 dn2")
		r.agents.Agent("cn0").Stop()
		r.within(time.Minute, "another is primary", func() bool { name, _, _ := r.primary(da); return name != "cn0" })
	})
}
