package monitor

import (
	"errors"
	"strings"
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
		r.hearsOfTerms(clone.ID, from.ID)
		time.Sleep(array.CloneSnapGrace + 2*time.Minute) // long after a snapshot that nothing needs would have gone
		if n := left(); n != 2 {
			t.Fatalf("while it is copied, there are %d of an exporter and a snapshot", n)
		}
		copying(vda.CloneSource{})
		r.within(time.Minute, "the exporter and the snapshot go", func() bool { return left() == 0 })
	})
}

// hearsOfTerms has a clone's primary told of a term of its source in a secured cluster, whose
// keys go by it, and in no other.
func (r *rig) hearsOfTerms(clone, from string) {
	r.Helper()
	told := func() (term, version uint64) {
		r.update(func(tx store.Tx) error {
			da, err1 := tx.DA(clone)
			cntlrs, err2 := tx.CntlrsOfDA(clone)
			term, version = da.Source.Term, cntlrs[0].Version
			return errors.Join(err1, err2)
		})
		return term, version
	}
	time.Sleep(time.Minute) // it hears where its source is
	_, before := told()
	r.update(func(tx store.Tx) error {
		da, err := tx.DA(from)
		if err != nil {
			return err
		}
		da.Term = 7
		return tx.UpdateDA(da)
	})
	time.Sleep(time.Minute)
	if term, version := told(); term == 7 || version != before {
		r.Errorf("the clone of a plain cluster is told of term %d, in version %d after %d", term, version, before)
	}
	r.update(func(tx store.Tx) error { return tx.SetSecurity(store.Security{HopSecret: strings.Repeat("5a", 32)}) })
	r.within(time.Minute, "the clone's primary is told of the term", func() bool {
		term, version := told()
		return term == 7 && version > before
	})
	_, before = told()
	time.Sleep(time.Minute)
	if _, version := told(); version != before {
		r.Errorf("a term that it knows is told again: version %d after %d", version, before)
	}
}
