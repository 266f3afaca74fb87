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
