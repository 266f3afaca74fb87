package monitor

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// TestSpaceIsNoted: what a primary says of how full its array is gets into SQL, at once
// when it has moved by a hundredth or nothing is left, later when by less; that of a
// former term does not.
func TestSpaceIsNoted(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addDA("da0")
		r.within(time.Minute, "the array is up", func() bool { _, _, settled := r.primary(da); return settled })
		is := func() (s vda.Space) {
			r.Helper()
			if err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
				d, err := tx.DA(da.ID)
				if err == nil {
					s = d.Space
				}
				return err
			}); err != nil {
				r.Fatal(err)
			}
			return s
		}
		say := func(term, free uint64) {
			r.agents.Agent("cn0").Space(&apiv1.SpaceState{DaId: da.ID, Term: term, TotalBytes: 1000 << 20, FreeBytes: free << 20})
		}
		soon := func(used uint64) {
			r.Helper()
			r.within(5*time.Second, "what is used is in SQL", func() bool { return is() == vda.Space{Total: 1000 << 20, Used: used << 20} })
		}
		say(1, 900)
		soon(100)
		say(1, 899)
		time.Sleep(10 * time.Second)
		soon(100)
		r.within(time.Minute, "a little more is in SQL, too", func() bool { return is().Used == 101<<20 })
		say(1, 880)
		soon(120)
		say(2, 0) // not the array's term
		time.Sleep(2 * time.Minute)
		soon(120)
		say(1, 1)
		soon(999)
		say(1, 0)
		soon(1000)
	})
}
