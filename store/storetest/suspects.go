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
		{"half full", space(huge, huge/2), false},
		{"full to the limit", space(huge, huge/10*8+8), true},
		{"full", space(huge, huge), true},
		{"full, and not thin", set(func(tx store.Tx) error { da.PhysicalSize = da.Size; return tx.UpdateDA(&da) }), false},
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
