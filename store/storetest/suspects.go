package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// testSuspects: an array is suspect for each thing that may be wrong with it, and for
// nothing else; in the trash never. It is counted with its size all the time but there.
func testSuspects(t *testing.T, s *suite) {
	c := s.newCluster(t)
	da := *c.da
	da.ID, da.Name, da.Redundancy = store.NewID(), "suspect-"+store.NewID(), vda.Mirror2
	mirror := &vda.Mirror{ID: store.NewID(), DAID: da.ID, Idx: 1, Size: 7 << 20, Gen: 1}
	legs := []*vda.VD{newVD(&da, c.pd), newVD(&da, c.pd)}
	set := func(fn func(tx store.Tx) error) func(tx store.Tx) error { return fn }
	leg := func(change func(v *vda.VD)) func(tx store.Tx) error {
		return func(tx store.Tx) error {
			v, err := tx.VD(legs[1].ID)
			if err != nil {
				return err
			}
			change(v)
			return tx.UpdateVD(v)
		}
	}
	health := func(o store.Object, id string, bad bool) func(tx store.Tx) error {
		return func(tx store.Tx) error { return tx.SetHealth(o, id, vda.Health{Error: bad, Msg: "no answer"}) }
	}
	space := func(total, used uint64) func(tx store.Tx) error {
		return func(tx store.Tx) error { return tx.SetDASpace(da.ID, vda.Space{Total: total, Used: used}) }
	}
	bare := vda.Mirror{ID: store.NewID(), DAID: da.ID, Idx: 2, Size: 7 << 20, Gen: 1}
	// seen: what a transaction has changed of legs shows in it.
	seen := func(tx store.Tx, want bool) error {
		rows, err := tx.SuspectDAs()
		if got := slices.ContainsFunc(rows, func(d vda.DA) bool { return d.ID == da.ID }); got != want {
			t.Errorf("in the transaction: suspect is %t", got)
		}
		return err
	}
	count := func() (n, size uint64) {
		s.view(t, func(tx store.Reader) (err error) {
			n, size, err = tx.CountDAs()
			return err
		})
		return n, size
	}
	others, bytes := count()
	const huge = 1 << 60
	for _, step := range []struct {
		what string
		do   func(tx store.Tx) error
		want bool
	}{
		{"made, in error", set(func(tx store.Tx) error {
			errs := []error{tx.InsertDA(&da), tx.InsertMirror(mirror)}
			for _, v := range legs {
				v.MirrorID, v.Role, v.Leaving = mirror.ID, vda.Member, false
				errs = append(errs, tx.InsertVD(v), tx.SetHealth(store.ObjVD, v.ID, vda.Health{}))
			}
			return errors.Join(append(errs, tx.SetHealth(store.ObjDA, da.ID, vda.Health{Error: true, Msg: "no answer"}))...)
		}), true},
		{"well", health(store.ObjDA, da.ID, false), false},
		{"a leg in error", health(store.ObjVD, legs[0].ID, true), true},
		{"well again", health(store.ObjVD, legs[0].ID, false), false},
		{"a stale leg", leg(func(v *vda.VD) { v.Role = vda.Stale }), true},
		{"a target", leg(func(v *vda.VD) { v.Role = vda.Target }), true},
		{"a member that is to leave", leg(func(v *vda.VD) { v.Role, v.Leaving = vda.Member, true }), true},
		{"two members", leg(func(v *vda.VD) { v.Leaving = false }), false},
		{"one that is deleted", leg(func(v *vda.VD) { v.Deleted = true }), true},
		{"two members again", leg(func(v *vda.VD) { v.Deleted = false }), false},
		{"one whose row is gone", set(func(tx store.Tx) error { return tx.DeleteVD(legs[1].ID) }), true},
		{"one that is new", set(func(tx store.Tx) error {
			legs[1].Health = vda.Health{}
			return tx.InsertVD(legs[1])
		}), false},
		{"three that are to be", set(func(tx store.Tx) error { da.Redundancy = vda.Mirror3; return tx.UpdateDA(&da) }), true},
		{"three that are, of two", set(func(tx store.Tx) error { da.Redundancy = vda.Mirror2; return tx.UpdateDA(&da) }), false},
		{"a column without legs", set(func(tx store.Tx) error { return tx.InsertMirror(&bare) }), true},
		{"without that column", set(func(tx store.Tx) error { return tx.DeleteMirror(bare.ID) }), false},
		{"a leg that is a column's of another array", set(func(tx store.Tx) error {
			return errors.Join(leg(func(v *vda.VD) { v.MirrorID = bare.ID })(tx), seen(tx, true))
		}), true},
		{"its own again", set(func(tx store.Tx) error {
			return errors.Join(leg(func(v *vda.VD) { v.MirrorID = mirror.ID })(tx), seen(tx, false))
		}), false},
		{"half full", space(huge, huge/2), false},
		{"full to the limit", space(huge, huge/10*8+8), true},
		{"full", space(huge, huge), true},
		{"full, and not thin", set(func(tx store.Tx) error { da.PhysicalSize = da.Size; return tx.UpdateDA(&da) }), false},
		{"full, and thin whatever its size", set(func(tx store.Tx) error { da.StaysThin = true; return tx.UpdateDA(&da) }), true},
		{"half full again", space(huge, huge/2), false},
		{"in the trash, in error", set(func(tx store.Tx) error {
			da.Purge = noon
			return errors.Join(tx.UpdateDA(&da), tx.SetHealth(store.ObjDA, da.ID, vda.Health{Error: true, Msg: "no answer"}))
		}), false},
		{"brought back", set(func(tx store.Tx) error { da.Purge = time.Time{}; return tx.UpdateDA(&da) }), true},
	} {
		s.update(t, step.do)
		s.view(t, func(tx store.Reader) error {
			rows, err := tx.SuspectDAs()
			if got := slices.ContainsFunc(rows, func(d vda.DA) bool { return d.ID == da.ID }); got != step.want {
				t.Errorf("%s: suspect is %t", step.what, got)
			}
			return err
		})
		n, size := count()
		if n, size = n-others, size-bytes; da.Purge.IsZero() != (n == 1 && size == da.Size) || !da.Purge.IsZero() && n+size != 0 {
			t.Errorf("%s: %d more are counted, with %d bytes", step.what, n, size)
		}
	}
}
