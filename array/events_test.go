package array_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// history are the events so far: "node_down dn dn0: text".
func (c *cluster) history() (all []string) {
	c.Helper()
	err := c.View(c.Context(), func(tx store.Reader) error {
		events, err := tx.ListEvents(store.EventFilter{}, store.EventPage{})
		for _, e := range events {
			line := fmt.Sprintf("%s %s %s: %s", e.Kind, e.Object, e.FullName(), e.Text)
			if e.Took > 0 {
				line += " (took)"
			}
			all = append(all, line)
		}
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	return all
}

// TestEvents: each transition leaves word of what happened, once.
func TestEvents(t *testing.T) {
	ill := func(msg string) vda.Health { return vda.Health{Error: true, Msg: msg} }
	node := func(n array.Node, h vda.Health) func(store.Tx) error {
		return func(tx store.Tx) error { return array.SetNodeHealth(tx, n, h) }
	}
	disk := func(h vda.Health) func(store.Tx) error {
		return func(tx store.Tx) error { return array.SetDiskHealth(tx, pd(0), h) }
	}
	legs := func(do func(store.Tx) (array.Plan, error)) func(store.Tx) error {
		return func(tx store.Tx) error { _, err := do(tx); return err }
	}
	report := func(g0 uint64, words string) func(store.Tx) error {
		return legs(func(tx store.Tx) (array.Plan, error) { return array.ChangeLegs(tx, said(5, [2]uint64{g0, 1}, words)) })
	}
	array1 := func(h vda.Health) func(store.Tx) error {
		return func(tx store.Tx) error {
			change := array.Begin(tx)
			return errors.Join(change.LockArrays("da0"), tx.SetHealth(store.ObjCntlr, cntlr("da0", 0), h), change.Settle("da0"))
		}
	}
	served := func(i int, term uint64) func(store.Tx) error {
		return func(tx store.Tx) error {
			change := array.Begin(tx)
			if err := change.LockArrays("da0"); err != nil {
				return err
			}
			v, err := tx.Cntlr(cntlr("da0", i))
			if err != nil {
				return err
			}
			return errors.Join(change.Served(v, term), change.Write())
		}
	}
	move := func(planned bool) func(store.Tx) error {
		return legs(func(tx store.Tx) (array.Plan, error) {
			return array.MovePrimary(tx, array.Move{DAID: "da0", Term: 1, To: cntlr("da0", 1), Planned: planned})
		})
	}
	scrub := func(state vda.ScrubState, differ uint64) func(store.Tx) error {
		return func(tx store.Tx) error {
			mirrors, err := tx.Unlocked().MirrorsOfDA("m")
			if err != nil {
				return err
			}
			r := &array.LegsReport{DAID: "m", Term: 5}
			for _, m := range mirrors {
				r.Mirrors = append(r.Mirrors, array.MirrorReport{ID: m.ID, Gen: m.Gen, Scrub: vda.Scrub{ID: m.Scrub.ID, State: state,
					Mismatches: differ, First: 4096}})
				differ = 0
			}
			return array.NoteScrub(tx, r)
		}
	}
	drop := func(ids ...string) func(store.Tx) error {
		return func(tx store.Tx) error {
			change := array.Begin(tx)
			if err := errors.Join(change.LockArrays("da0", "da1", "m"), change.LockPDs(pd(2))); err != nil {
				return err
			}
			for _, id := range ids {
				v, err := tx.VD(id)
				if err != nil {
					return err
				}
				if err := change.DropVD(v); err != nil {
					return err
				}
			}
			return nil
		}
	}
	type step struct {
		do   func(store.Tx) error
		want []string
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a node goes and comes", []step{
			{node(array.DN(dn(1)), ill("no answer")), []string{"node_down dn dn1: no answer"}},
			{node(array.DN(dn(1)), ill("another thing")), nil},
			{node(array.DN(dn(1)), vda.Health{}), []string{"node_up dn dn1: it is well again, after: another thing (took)"}},
			{node(array.DN(dn(1)), vda.Health{}), nil},
			{node(array.CN(cn(1)), ill("no answer")), []string{"node_down cn cn1: no answer"}},
		}},
		{"a disk fails and heals", []step{
			{disk(ill("I/O error")), []string{"disk_fault pd dn0/pd: I/O error"}},
			{disk(ill("worse")), nil},
			{disk(ill("dn dn0: no answer")), nil},
			{disk(vda.Health{}), []string{"disk_ok pd dn0/pd: it is well again, after: I/O error (took)"}},
		}},
		{"a disk goes with its dn", []step{
			{disk(ill("dn dn0: no answer")), nil},
			{disk(vda.Health{}), nil},
			{disk(ill("dn dn0: no answer")), nil},
			{disk(ill("I/O error")), []string{"disk_fault pd dn0/pd: I/O error"}},
		}},
		{"an array goes and comes", []step{
			{array1(ill("no way")), []string{"da_error da da0: controller 0: no way"}},
			{array1(ill("none at all")), nil},
			{array1(vda.Health{}), []string{"da_ok da da0: it is well again, after: controller 0: none at all (took)"}},
		}},
		{"a failover", []step{
			{served(0, 1), nil},
			{node(array.CN(cn(2)), ill("no answer")), []string{"node_down cn cn2: no answer"}},
			{move(false), []string{"failover_started da da0: its primary on cn cn2 (no answer) is replaced: cn cn1 takes over, with term 2"}},
			{served(0, 2), nil},
			{served(1, 1), nil},
			{served(1, 2), []string{"failover_ended da da0: its primary is controller 1 on cn cn1 (took)"}},
			{served(1, 2), nil},
		}},
		{"a planned failover", []step{
			{move(true), []string{"failover_started da da0: its primary on cn cn2 moves on purpose: cn cn1 takes over, with term 2"}},
		}},
		{"a leg is lost and heals", []step{
			{report(1, "al bc cc dc"), []string{"leg_lost vd m/a: vd 0 of group 0 on dn dn0: it does not answer and misses writes from now on"}},
			{report(1, "al bc cc dc"), nil},
			{legs(func(tx store.Tx) (array.Plan, error) { return array.AdmitLeg(tx, "m", "a", 1) }),
				[]string{"rebuild_started vd m/a: vd 0 of group 0 on dn dn0: what it lacks is copied to it"}},
			{report(2, "ac bc cc dc"), nil},
			{report(2, "ar bc cc dc"), []string{"rebuild_ended vd m/a: vd 0 of group 0 on dn dn0: it has all data (took)"}},
		}},
		{"a vd is replaced, and leaves what is drained", []step{
			{func(tx store.Tx) error { return tx.SetDNDrain(dn(2), true) }, nil},
			{func(tx store.Tx) error {
				n := newLeg("d", 3, 3)
				n.Moved = true
				_, err := array.DrainLeg(tx, n)
				return err
			}, []string{"leg_added vd m/NEW: vd 1 of group 0 on dn dn3: it takes the place of vd d on dn dn2: it moves"}},
			{drop("da0-vd0", "da1-vd0"), nil},
			{drop("d"), []string{"drain_ended dn dn2: no vd is on it now"}},
		}},
		{"a pd is drained", []step{
			{func(tx store.Tx) error {
				p, err := tx.PD(pd(2))
				if err != nil {
					return err
				}
				p.Drain = true
				return tx.UpdatePD(p)
			}, nil},
			{drop("d", "da0-vd0", "da1-vd0"), []string{"drain_ended pd dn2/pd: no vd is on it now"}},
		}},
		{"a scrub", []step{
			{func(tx store.Tx) error {
				da, err := tx.DA("m")
				_, err2 := array.BeginScrub(tx, da, "")
				return errors.Join(err, err2)
			}, nil},
			{scrub(vda.ScrubRunning, 0), nil},
			{scrub(vda.ScrubRunning, 2), []string{"scrub_mismatch da m: column 0 of group 0: legs differ in 2 blocks of 4096 bytes, the first at " +
				"offset 4096 of each vd", "da_error da m: a scrub has found, column 0 of group 0: its legs differ in 2 blocks of 4096 bytes, the " +
				"first at offset 4096 of each vd"}},
			{scrub(vda.ScrubDone, 2), []string{"scrub_ended da m: all legs have been compared"}},
			{scrub(vda.ScrubDone, 2), nil},
		}},
		{"a controller is replaced", []step{
			{legs(func(tx store.Tx) (array.Plan, error) {
				return array.Replace(tx, &array.Replacement{DAID: "da0", CntlrID: cntlr("da0", 1), To: cn(3)})
			}), []string{"controller_replaced da da0: controller 1 on cn cn1, which is gone, gets a successor on cn cn3"}},
			{func(tx store.Tx) error { return tx.SetCNDrain(cn(1), vda.DrainCntlrs) }, nil},
			{legs(func(tx store.Tx) (array.Plan, error) {
				return array.Replace(tx, &array.Replacement{DAID: "da1", CntlrID: cntlr("da1", 1), To: cn(3)})
			}), []string{"controller_replaced da da1: controller 1 on cn cn1, which is being drained, gets a successor on cn cn3"}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.update(insertMirrored)
			seen := 0
			for i, s := range tt.steps {
				if err := storetest.Ordered(t, c.Store).Update(t.Context(), s.do); err != nil {
					t.Fatalf("step %d: %v", i+1, err)
				}
				all := c.history()
				got := all[seen:]
				seen = len(all)
				for j, line := range got {
					if before, after, is := strings.Cut(line, "vd m/"); is {
						if id, rest, _ := strings.Cut(after, ":"); len(id) == 32 {
							got[j] = before + "vd m/NEW:" + rest
						}
					}
				}
				if !slices.Equal(got, s.want) {
					t.Errorf("step %d:\n got %q\nwant %q", i+1, got, s.want)
				}
			}
		})
	}
}
