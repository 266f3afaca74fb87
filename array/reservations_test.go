package array_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// reserve has da0 be an array with reservations, and those hold by cns, and no others.
func (c *cluster) reserve(cns ...int) {
	c.Helper()
	c.update(func(tx store.Tx) error {
		da, err := tx.DA("da0")
		if err != nil {
			return err
		}
		da.Reservations = true
		errs := []error{tx.UpdateDA(da)}
		for i := range nodes {
			errs = append(errs, tx.SetCNReserves(cn(i), false))
		}
		for _, i := range cns {
			errs = append(errs, tx.SetCNReserves(cn(i), true))
		}
		return errors.Join(errs...)
	})
}

// TestCheckReservations: an array gets them when they hold by all its controllers, and else the cn is
// named, with the reason.
func TestCheckReservations(t *testing.T) {
	c := newCluster(t)
	check := func() (err error) {
		t.Helper()
		if err := c.View(t.Context(), func(tx store.Reader) error {
			da, e := tx.DA("da0")
			if e == nil {
				err = array.CheckReservations(tx, da)
			}
			return e
		}); err != nil {
			t.Fatal(err)
		}
		return err
	}
	if err := check(); err != nil {
		t.Errorf("an array without reservations: %v", err)
	}
	c.reserve(0, 1, 2)
	if err := check(); err != nil {
		t.Errorf("all cns can: %v", err)
	}
	for _, row := range []struct {
		version string
		mirrors bool
		want    string
	}{
		{"", true, "cn1: vda_monitor has not heard yet"},
		{"SPDK v26.05", false, "cn1: its data plane is SPDK v26.05"},
		{"vda_tgt 1", true, "cn1: its vda_tgt or vda_cn_agent is of an earlier release"},
	} {
		c.reserve(0, 2, 3)
		c.update(func(tx store.Tx) error {
			n, err := tx.Node(vda.ControllerNode, cn(1))
			if err != nil {
				return err
			}
			n.DataPlaneVersion = row.version
			return errors.Join(tx.UpdateNode(vda.ControllerNode, n), tx.SetCNMirrors(cn(1), row.mirrors))
		})
		if err := check(); vda.KindOf(err) != vda.FailedPrecondition || !strings.Contains(err.Error(), row.want) {
			t.Errorf("cn1 is on %q: %v, want %q", row.version, err, row.want)
		}
	}
	c.update(func(tx store.Tx) error {
		v, err := tx.Cntlr(cntlr("da0", 1))
		if err != nil {
			return err
		}
		v.Deleted = true
		return tx.UpdateCntlr(v)
	})
	if err := check(); err != nil {
		t.Errorf("the controller on cn1 is deleted: %v", err)
	}
}

// TestReservationsStay: an array with reservations gets no controller, and no primary, on a cn by which
// they do not hold.
func TestReservationsStay(t *testing.T) {
	c := newCluster(t)
	successor := func() (to string) {
		t.Helper()
		c.update(func(tx store.Tx) error {
			r, err := array.PlanReplacement(tx, "da0", cntlr("da0", 1), func(string) bool { return true })
			if to = "none"; r != nil {
				to = r.To
			}
			return err
		})
		return to
	}
	replace := func() error {
		return c.Update(t.Context(), func(tx store.Tx) error {
			_, err := array.Replace(tx, &array.Replacement{DAID: "da0", CntlrID: cntlr("da0", 1), To: cn(3)})
			return err
		})
	}
	planned := func(to string) (m array.Move, err error) {
		c.update(func(tx store.Tx) error {
			m, err = array.PlannedMove(tx, "da0", to)
			return nil
		})
		return m, err
	}
	c.reserve(0, 1, 2)
	if to := successor(); to != "none" {
		t.Errorf("the successor is on %s, by which reservations do not hold", to)
	}
	if err := replace(); !errors.Is(err, array.ErrStale) {
		t.Errorf("cn3 cannot any more when it is to get a controller: %v", err)
	}
	c.reserve(0, 2)
	for range 2 { // whichever has fewer primaries
		if m, err := planned(""); err != nil || m.To != cntlr("da0", 2) {
			t.Errorf("a move to any: %+v, %v; want to cn0", m, err)
		}
	}
	if _, err := planned(cn(1)); vda.KindOf(err) != vda.FailedPrecondition || !strings.Contains(err.Error(), "would not hold by cn cn1") {
		t.Errorf("a move to cn1: %v", err)
	}
	err := c.Update(t.Context(), func(tx store.Tx) error {
		_, err := array.MovePrimary(tx, array.Move{DAID: "da0", Term: 1, To: cntlr("da0", 1)})
		return err
	})
	if vda.KindOf(err) != vda.FailedPrecondition || !strings.Contains(err.Error(), "would not hold by cn cn1") {
		t.Errorf("a failover to cn1: %v", err)
	}
	c.reserve(2)
	if _, err := planned(""); vda.KindOf(err) != vda.FailedPrecondition {
		t.Errorf("a move when no other can: %v", err)
	}
	c.update(func(tx store.Tx) error {
		left, err := array.LeftOnCN(tx, cn(2), vda.DrainPrimaries)
		if at := slices.IndexFunc(left, func(l array.Left) bool { return l.DAName == "da0" && l.Primary }); err == nil &&
			(at < 0 || !strings.Contains(left[at].Why, "its reservations would not hold by cn cn")) {
			t.Errorf("a drain of cn2 does not say why the primary stays: %+v", left)
		}
		return err
	})
	c.reserve(0, 1, 2, 3)
	if to := successor(); to != cn(3) {
		t.Errorf("the successor is on %s, want cn3, which can", to)
	}
	if err := replace(); err != nil {
		t.Error(err)
	}
	for _, able := range []bool{false, true} {
		c.update(func(tx store.Tx) error { return tx.SetCNReserves(cn(3), able) })
		err := c.Update(t.Context(), func(tx store.Tx) error {
			_, err := array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1, Reservations: true}, places(3),
				[]placement.Cntlr{{CNID: cn(3), Primary: true}})
			return err
		})
		if able && err != nil || !able && !errors.Is(err, array.ErrStale) {
			t.Errorf("create on cn3, which can: %v: %v", able, err)
		}
	}
}

// TestSetReservations: all controllers are told, and the primary first.
func TestSetReservations(t *testing.T) {
	c := newCluster(t)
	var r *storetest.Recorder
	var plan array.Plan
	c.update(func(tx store.Tx) error {
		r = storetest.Record(tx)
		da, err := r.DA("da1")
		if err == nil {
			da.Reservations = true
			plan, err = array.SetReservations(r, da)
		}
		return err
	})
	if len(r.Wrong) > 0 {
		t.Errorf("out of the lock order:\n%s", strings.Join(r.Wrong, "\n"))
	}
	if got := planText(plan); got != "primary cn2; secondaries cn0 cn1" {
		t.Errorf("the plan is %q", got)
	}
	if got, want := c.versions(), "cn0:21 da1-cntlr2:21 cn1:21 da1-cntlr1:21 cn2:21 da1-cntlr0:21 cn3:20 "+untouchedDNs; got != want {
		t.Errorf("versions are\n%s, want\n%s", got, want)
	}
}
