package array_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// change plans and carries out another redundancy of the array m.
func change(to vda.Redundancy, minLegs uint32) func(store.Tx) (array.Plan, error) {
	return func(tx store.Tx) (array.Plan, error) {
		n, _, err := array.PlanRedundancy(tx.(*storetest.Recorder).Tx, "m", to, minLegs)
		if err != nil {
			return nil, err
		}
		return array.ChangeRedundancy(tx, n)
	}
}

// TestChangeRedundancy: a striped array becomes mirrored and the other way round, legs
// come as stale ones and go in two steps, and pds have what their vds take.
func TestChangeRedundancy(t *testing.T) {
	c := newCluster(t)
	mirrors := func(on bool) {
		c.update(func(tx store.Tx) error {
			for i := range 2 {
				if err := tx.SetCNMirrors(cn(i), on); err != nil {
					return err
				}
			}
			return nil
		})
	}
	mirrors(true)
	c.update(func(tx store.Tx) error { return errors.Join(insertMirrored(tx), striped(tx)) })
	run := func(what string, do func(store.Tx) (array.Plan, error)) (plan string) {
		t.Helper()
		c.update(func(tx store.Tx) error {
			r := storetest.Record(tx)
			p, err := do(r)
			if len(r.Wrong) > 0 {
				t.Errorf("%s: out of the lock order:\n%s", what, strings.Join(r.Wrong, "\n"))
			}
			plan = planText(p)
			return err
		})
		return plan
	}
	legs := func() (text string) {
		t.Helper()
		if err := c.View(t.Context(), func(tx store.Reader) (err error) { text, err = legsText(tx); return err }); err != nil {
			t.Fatal(err)
		}
		return text
	}
	is := func(what, want string) {
		t.Helper()
		if got := legs(); got != want {
			t.Errorf("%s: legs %q, want %q", what, got, want)
		}
	}
	join := func(tx store.Tx) (array.Plan, error) {
		inner := tx.(*storetest.Recorder).Tx
		vds, err := inner.VDsOfDA("m")
		for i := range vds {
			if !vds[i].Deleted {
				vds[i].Role = vda.Member
				err = errors.Join(err, inner.UpdateVD(&vds[i]))
			}
		}
		return nil, err
	}
	plan := run("to mirror:2", change(vda.Mirror2, 0))
	is("to mirror:2", "m0@1 a.0 new.1-; m1@1 c.0 new.1-")
	if !strings.HasPrefix(plan, "disks dn0") || !strings.HasSuffix(plan, "primary cn0") {
		t.Errorf("the plan is %q; dns make room first", plan)
	}
	err := c.View(t.Context(), func(tx store.Reader) error {
		v, err := tx.VD("a")
		if err != nil {
			return err
		}
		m, err := tx.MirrorsOfDA("m")
		if err != nil {
			return err
		}
		if !m[0].HasTail(v) || v.Clusters != 2 || v.Size != 2<<20 || m[0].Size != 1<<20 {
			t.Errorf("the vd is %+v of %+v", v, m[0])
		}
		da, err := tx.DA("m")
		if err == nil && (da.Redundancy != vda.Mirror2 || da.MinLegs != 1) {
			t.Errorf("the array is %+v", da)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, to vda.Redundancy, minLegs uint32, words string) {
		t.Helper()
		err := c.Update(t.Context(), func(tx store.Tx) error { _, err := change(to, minLegs)(storetest.Record(tx)); return err })
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", what, err, words)
		}
	}
	refuse("a third leg before the second has all data", vda.Mirror3, 0, "wait until it has all its legs")
	refuse("more than there are", vda.Mirror2, 3, "min_legs 3 must be 1 to 2")
	run("back before it is done", change(vda.Striped, 0))
	is("back", "m0@1 a.0 new.1-; m1@1 c.0 new.1-")
	c.update(func(tx store.Tx) error {
		n, err := tx.Node(vda.ControllerNode, cn(0))
		return errors.Join(err, tx.SetNodeApplied(vda.ControllerNode, cn(0), n.Version))
	})
	run("the primary knows", func(tx store.Tx) (array.Plan, error) { return array.TrimLegs(tx, "m") })
	is("the primary knows", "m0@1 a.0 new.1-†; m1@1 c.0 new.1-†")
	run("once more", func(tx store.Tx) (array.Plan, error) { return nil, dropTombstones(tx.(*storetest.Recorder).Tx) })
	run("once more", change(vda.Mirror2, 2))
	run("they join", join)
	run("to mirror:3", change(vda.Mirror3, 0))
	run("they join", join)
	run("to none", change(vda.Striped, 0))
	if got := legs(); strings.Count(got, "-") != 4 || strings.Count(got, "@2") != 2 {
		t.Errorf("to none: %q", got)
	}
	mirrors(false)
	run("gone", func(tx store.Tx) (array.Plan, error) { return nil, dropStale(tx.(*storetest.Recorder).Tx) })
	refuse("a controller on SPDK", vda.Mirror2, 0, "whether its data plane can mirror")
	mirrors(true)
	c.update(func(tx store.Tx) error {
		for i := range 4 {
			p, err := tx.PD(pd(i))
			if err != nil {
				return err
			}
			p.Online = false
			if err := tx.UpdatePD(p); err != nil {
				return err
			}
		}
		return nil
	})
	refuse("no other dn", vda.Mirror2, 0, "but none has an online pd")
}

func dropTombstones(tx store.Tx) error { return dropIf(tx, func(v *vda.VD) bool { return v.Deleted }) }
func dropStale(tx store.Tx) error {
	return dropIf(tx, func(v *vda.VD) bool { return v.Role == vda.Stale })
}

func dropIf(tx store.Tx, f func(v *vda.VD) bool) error {
	vds, err := tx.VDsOfDA("m")
	for i := range vds {
		if f(&vds[i]) {
			err = errors.Join(err, tx.DeleteVD(vds[i].ID), tx.GivePD(vds[i].PDID, vds[i].Clusters))
		}
	}
	return err
}

// TestTrimWaitsForMembersThatCatchUp: of members, one that catches up goes first, and none with
// all data does while those that are to stay lack some of it, as the database or the primary
// says.
func TestTrimWaitsForMembersThatCatchUp(t *testing.T) {
	lacks := func(bytes uint64, ids ...string) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.SetVDLacks(ids, bytes, 0) }
	}
	ill := func(id string) func(store.Tx) error {
		return func(tx store.Tx) error {
			return tx.SetHealth(store.ObjVD, id, vda.Health{Error: true, Msg: "no answer"})
		}
	}
	narrow := func(tx store.Tx) error {
		_, err := change(vda.Striped, 0)(storetest.Record(tx))
		return err
	}
	trim := func(behind ...string) func(store.Tx) error {
		return func(tx store.Tx) error { _, err := array.TrimLegs(tx, "m", behind...); return err }
	}
	caughtUp := func(cnID string) func(store.Tx) error {
		return func(tx store.Tx) error {
			_, errs, err := array.ChangeManyLegs(tx, []array.LegChange{array.CaughtUp("m", cnID)})
			return errors.Join(append(errs, err)...)
		}
	}
	moves := func(tx store.Tx) error {
		da, err := tx.DA("m")
		if err != nil {
			return err
		}
		_, err = array.MovePrimary(tx, array.Move{DAID: "m", Term: da.Term, To: "m-s"})
		return err
	}
	serves := func(tx store.Tx) error {
		da, err := tx.DA("m")
		if err != nil {
			return err
		}
		da.Moving = time.Time{}
		return tx.UpdateDA(da)
	}
	says := func(leg array.LegReport) func(store.Tx) error {
		return func(tx store.Tx) error {
			da, err := tx.DA("m")
			if err != nil {
				return err
			}
			return array.NoteLack(tx, &array.LegsReport{DAID: "m", Term: da.Term, Mirrors: []array.MirrorReport{{ID: "m0", Gen: 1,
				Legs: []array.LegReport{leg}}}})
		}
	}
	leaves := func(tx store.Tx) error {
		da, err := tx.DA("m")
		if err != nil {
			return err
		}
		da.Redundancy = vda.Striped
		return tx.UpdateDA(da)
	}
	type step struct {
		do   func(store.Tx) error
		want string
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"the first one catches up", []step{
			{lacks(4096, "a"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{narrow, "m0@2 a.1-> b.0; m1@2 c.0 d.1->"},
		}},
		{"the one with all data is not well", []step{
			{lacks(4096, "a"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{ill("b"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{narrow, "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim(), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{caughtUp(cn(1)), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"}, // which has no primary
			{trim(), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{caughtUp(cn(0)), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim(), "m0@2 a.0 b.1->; m1@2 c.0 d.1->"},
		}},
		{"another primary has not said it yet", []step{
			{lacks(4096, "a"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{ill("b"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{narrow, "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{moves, "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim(), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{serves, "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim("a"), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim(), "m0@2 a.0 b.1->; m1@2 c.0 d.1->"},
		}},
		{"each was said to, at another time", []step{
			{lacks(4096, "b"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{leaves, "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{trim("a"), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
		}},
		{"the primary has no mirror yet", []step{
			{lacks(4096, "a"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{says(array.LegReport{VDID: "a"}), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{ill("b"), "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{narrow, "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{says(array.LegReport{VDID: "a", Connected: true}), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim(), "m0@2 a.0 b.1->; m1@2 c.0 d.1->"},
		}},
		{"the primary says so", []step{
			{leaves, "m0@1 a.0 b.0; m1@1 c.0 d.0"},
			{trim("a"), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim("a"), "m0@1 a.0 b.0>; m1@2 c.0 d.1->"},
			{trim(), "m0@2 a.0 b.1->; m1@2 c.0 d.1->"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := newCluster(t)
			db.update(insertMirrored)
			for i, s := range c.steps {
				db.update(s.do)
				if err := db.View(t.Context(), func(tx store.Reader) error {
					got, err := legsText(tx)
					if got != s.want {
						t.Errorf("step %d: %q, want %q", i, got, s.want)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestAMoveForgetsWhoCatchesUp: the next primary says it again, if it is so.
func TestAMoveForgetsWhoCatchesUp(t *testing.T) {
	c := newCluster(t)
	c.update(insertMirrored)
	c.update(func(tx store.Tx) error { return tx.SetVDLacks([]string{"a"}, 4096, 0) })
	c.update(func(tx store.Tx) error {
		_, err := array.MovePrimary(tx, array.Move{DAID: "m", Term: 5, To: "m-s"})
		return err
	})
	c.update(func(tx store.Tx) error {
		v, err := tx.VD("a")
		if err == nil && v.Copied() {
			t.Errorf("%d bytes are lacking", v.Lack)
		}
		return err
	})
}
