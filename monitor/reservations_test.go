package monitor

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestReservationsFailOver: what cns say of reservations is noted, also when they say another thing, and
// the primaries of arrays with reservations go to cns by which these hold, and to no others.
func TestReservationsFailOver(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		able := func(want ...bool) func() bool {
			return func() (is bool) {
				if err := r.store.View(r.Context(), func(tx store.Reader) error {
					is = true
					for i := range want {
						cn, err := tx.CN(r.cns[i].ID)
						if err != nil {
							return err
						}
						is = is && cn.Reserves == want[i]
					}
					return nil
				}); err != nil {
					r.Fatal(err)
				}
				return is
			}
		}
		r.within(10*time.Second, "all can", able(true, true, true))
		r.agents.Agent("cn1").CannotReserve()
		r.within(10*time.Second, "cn1 cannot any more", able(true, false, true))
		var das []*vda.DA
		for i := range 4 {
			das = append(das, r.addDA(fmt.Sprint("da", i)))
		}
		r.update(func(tx store.Tx) (errs error) {
			for _, da := range das {
				row, err := tx.DA(da.ID)
				if err != nil {
					return err
				}
				row.Reservations = true
				errs = errors.Join(errs, tx.UpdateDA(row))
			}
			return errs
		})
		all := func(on string) func() bool {
			return func() bool {
				for _, da := range das {
					if name, _, settled := r.primary(da); name != on || !settled {
						return false
					}
				}
				return true
			}
		}
		r.within(10*time.Second, "the arrays are up", all("cn0"))
		r.agents.Agent("cn0").Stop()
		r.within(10*time.Second, "killed: all move to cn2", func() bool {
			for _, da := range das {
				if name, _, _ := r.primary(da); name != "cn2" {
					return false
				}
			}
			return true
		})
		r.agents.Agent("cn0").Start()
		r.within(30*time.Second, "the old primary is back", all("cn2"))
	})
}
