package array_test

import (
	"errors"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// insertJoining has array m get a group of one more mirror, m2 with the legs x and y, which
// is not part of it yet.
func insertJoining(tx store.Tx) error {
	errs := []error{
		tx.InsertGrp(&vda.Grp{ID: "m-grp1", DAID: "m", Idx: 1, Joining: true, Adds: 1 << 20}),
		tx.InsertMirror(&vda.Mirror{ID: "m2", DAID: "m", GrpIdx: 1, Size: 1 << 20, Gen: 1}),
	}
	for i, id := range []string{"x", "y"} {
		errs = append(errs, tx.TakePD(pd(i), 2), tx.InsertVD(&vda.VD{ID: id, DAID: "m", GrpIdx: 1, MirrorID: "m2", PDID: pd(i), DNID: dn(i),
			Clusters: 2, Size: 2 << 20, Version: 10}))
	}
	return errors.Join(errs...)
}

// TestLegsGoWhileAGroupJoins: a leg that is lost goes, and I/O goes on, although a group that
// is to be part of the array is not there: the array is usable without it.
func TestLegsGoWhileAGroupJoins(t *testing.T) {
	c := newCluster(t)
	c.update(insertMirrored)
	c.update(insertJoining)
	c.update(func(tx store.Tx) error {
		_, err := array.ChangeLegs(tx, said(5, [2]uint64{1, 1}, "ac bl cc dc"))
		return err
	})
	c.update(func(tx store.Tx) error {
		if got, err := legsText(tx); err != nil || got != "m0@2 a.0 b.1-; m1@1 c.0 d.0; m2@1 x.0 y.0" {
			t.Errorf("legs are %q, %v", got, err)
		}
		return nil
	})
}
