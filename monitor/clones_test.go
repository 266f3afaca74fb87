package monitor

import (
	"errors"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// TestSourcesOfClonesGo: what a clone was copied from goes when the clone needs it no more,
// and not before.
func TestSourcesOfClonesGo(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(time.Minute, "a disk with room", func() bool { return r.thePD().FreeClusters >= 2 })
		from, clone := r.addDA("from"), r.addDA("clone")
		name := vda.ClonePrefix + clone.ID
		exp := &vda.Exp{ID: store.NewID(), DAID: from.ID, Name: name, NQN: vda.ExpNQN("from", name), InitiatorNQN: vda.CloneHostNQN(clone.ID),
			SnapName: name}
		copying := func(of vda.CloneSource) {
			r.update(func(tx store.Tx) error {
				da, err := tx.DA(clone.ID)
				if err != nil {
					return err
				}
				da.Source = of
				return tx.UpdateDA(da)
			})
		}
		left := func() (n int) {
			r.update(func(tx store.Tx) error {
				exps, err1 := tx.Unlocked().CloneExps()
				snaps, err2 := tx.Unlocked().CloneSnaps()
				n = len(exps) + len(snaps)
				return errors.Join(err1, err2)
			})
			return n
		}
		copying(vda.CloneSource{ExpID: exp.ID, Name: "from/" + name, NQN: exp.NQN})
		r.update(func(tx store.Tx) error {
			_, err := array.CreateExp(tx, exp)
			return errors.Join(err, tx.InsertSnap(&vda.Snap{ID: store.NewID(), DAID: from.ID, Name: name, State: vda.SnapTaken,
				Asked: time.Now()}))
		})
		time.Sleep(time.Hour)
		if n := left(); n != 2 {
			t.Fatalf("while it is copied, there are %d of an exporter and a snapshot", n)
		}
		copying(vda.CloneSource{})
		r.within(time.Minute, "the exporter and the snapshot go", func() bool { return left() == 0 })
	})
}
