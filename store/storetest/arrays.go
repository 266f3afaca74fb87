package storetest

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func testDA(t *testing.T, s *suite) {
	da := newDA()
	g1 := &vda.Grp{ID: store.NewID(), DAID: da.ID, Idx: 1, Size: 8 << 20}
	g0 := &vda.Grp{ID: store.NewID(), DAID: da.ID, Idx: 0, Size: 4 << 20}
	m1 := &vda.Mirror{ID: store.NewID(), DAID: da.ID, Idx: 1, Size: 4 << 20, Gen: 7}
	m0 := &vda.Mirror{ID: store.NewID(), DAID: da.ID, Idx: 0, Size: 4 << 20, Gen: 1}
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.InsertDA(da), tx.InsertGrp(g1), tx.InsertGrp(g0), tx.InsertMirror(m1), tx.InsertMirror(m0))
	})
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		again := *m1
		again.ID = store.NewID()
		return tx.InsertMirror(&again)
	})
	g1.Joining, g1.Adds = true, 3<<20
	s.update(t, func(tx store.Tx) error { return tx.UpdateGrp(g1) })
	m1.Gen, m1.Recovered, m1.Size = 8, 7, 5<<20
	s.update(t, func(tx store.Tx) error { return tx.UpdateMirror(m1) })
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		again := newDA()
		again.Name = da.Name
		return tx.InsertDA(again)
	})
	m0.Scrub = vda.Scrub{ID: "s", Term: 5, State: vda.ScrubRunning, Done: 1 << 40, Mismatches: 3, Repaired: 1, First: 4096}
	s.update(t, func(tx store.Tx) error { return errors.Join(tx.SetMirrorScrub(m0.ID, m0.Scrub), tx.UpdateMirror(m0)) })
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetMirrorScrub("none", m0.Scrub) })
	upd := *da
	upd.Name, upd.Term, upd.Created, upd.Size, upd.StaysThin, upd.Reservations = da.Name+"-new", 6, false, 1<<41, true, true
	upd.Limits, upd.AutoGrow = vda.Limits{RWIOs: 2000, WMB: 1 << 20}, vda.AutoGrow{Limit: 1 << 40, LowPercent: 20}
	space := vda.Space{Total: 1 << 39, Used: 1 << 38}
	s.update(t, func(tx store.Tx) error { return errors.Join(tx.SetDASpace(da.ID, space), tx.UpdateDA(&upd)) })
	upd.Space = space // which UpdateDA leaves as it is
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetDASpace("none", space) })
	s.refused(t, vda.FailedPrecondition, func(tx store.Tx) error { return tx.UpdateDA(da) }) // term 5
	s.refused(t, vda.NotFound, func(tx store.Tx) error { _, err := tx.DAByName(da.Name); return err })
	s.view(t, func(tx store.Reader) error {
		got, err := tx.DAByName(upd.Name)
		if err != nil {
			return err
		}
		same(t, "by name", got, &upd)
		growing, err := tx.AutoGrowDAs()
		same(t, "those that grow by themselves", growing, []vda.DA{upd})
		if err != nil {
			return err
		}
		grps, err := tx.GrpsOfDA(da.ID)
		same(t, "groups by index", grps, []vda.Grp{*g0, *g1})
		if err != nil {
			return err
		}
		mirrors, err := tx.MirrorsOfDA(da.ID)
		same(t, "mirrors by place", mirrors, []vda.Mirror{*m0, *m1})
		if err != nil {
			return err
		}
		rows, _, err := tx.ListDA(store.DAFilter{Error: ptr(true)}, store.Page{})
		found := false
		for _, r := range rows {
			found = found || r.ID == da.ID
		}
		if !found {
			t.Error("da in error is not listed")
		}
		return err
	})
	s.refused(t, vda.FailedPrecondition, func(tx store.Tx) error { return tx.DeleteDA(da.ID) })
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.DeleteMirror(m0.ID), tx.DeleteMirror(m1.ID), tx.DeleteGrp(g0.ID), tx.DeleteGrp(g1.ID), tx.DeleteDA(da.ID))
	})
	for name, fn := range map[string]func(store.Tx) error{
		"DA":           func(tx store.Tx) error { _, err := tx.DA(da.ID); return err },
		"UpdateDA":     func(tx store.Tx) error { return tx.UpdateDA(da) },
		"DeleteDA":     func(tx store.Tx) error { return tx.DeleteDA(da.ID) },
		"DeleteGrp":    func(tx store.Tx) error { return tx.DeleteGrp(g0.ID) },
		"UpdateMirror": func(tx store.Tx) error { return tx.UpdateMirror(m0) },
		"DeleteMirror": func(tx store.Tx) error { return tx.DeleteMirror(m0.ID) },
	} {
		t.Run(name+" of none", func(t *testing.T) { s.refused(t, vda.NotFound, fn) })
	}
}

func testVD(t *testing.T, s *suite) {
	c := s.newCluster(t)
	first := newVD(c.da, c.pd)
	first.Idx = 0
	second := newVD(c.da, c.pd)
	second.GrpIdx, second.Idx = 1, 0
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.InsertVD(second), tx.InsertVD(first))
	})
	upd := *second
	upd.Version, upd.Clusters, upd.Size, upd.Role, upd.Epoch, upd.MirrorID = 20, 9, 9<<20, vda.Target, 4, "n"
	upd.Leaving, upd.Moved = false, false
	s.update(t, func(tx store.Tx) error { return errors.Join(tx.SetVDLack(upd.ID, 1<<40, 3<<20), tx.UpdateVD(&upd)) })
	upd.Lack, upd.CopyRate = 1<<40, 3<<20 // which UpdateVD leaves as it is
	s.view(t, func(tx store.Reader) error {
		got, err := tx.VD(second.ID)
		if err != nil {
			return err
		}
		same(t, "updated", got, &upd)
		rows, err := tx.VDsOfDA(c.da.ID)
		if err != nil {
			return err
		}
		same(t, "by group and index", rows, []vda.VD{*first, *c.vd, upd})
		rows, err = tx.VDsOfPD(c.pd.ID)
		if len(rows) != 3 {
			t.Errorf("%d vds on the pd, want 3", len(rows))
		}
		return err
	})
	s.update(t, func(tx store.Tx) error { return tx.DeleteVD(first.ID) })
	for name, fn := range map[string]func(store.Tx) error{
		"VD":       func(tx store.Tx) error { _, err := tx.VD(first.ID); return err },
		"UpdateVD": func(tx store.Tx) error { return tx.UpdateVD(first) },
		"DeleteVD": func(tx store.Tx) error { return tx.DeleteVD(first.ID) },
	} {
		t.Run(name+" of none", func(t *testing.T) { s.refused(t, vda.NotFound, fn) })
	}
}

// testDraining: vds are found by the dn or pd that is being drained, tombstones are
// not.
func testDraining(t *testing.T, s *suite) {
	c := s.newCluster(t)
	gone := newVD(c.da, c.pd)
	gone.Idx, gone.Deleted = 7, true
	s.update(t, func(tx store.Tx) error { return tx.InsertVD(gone) })
	found := func(want bool) {
		t.Helper()
		s.view(t, func(tx store.Reader) error {
			rows, err := tx.DrainingVDs()
			got := map[string]bool{}
			for i := range rows {
				got[rows[i].ID] = true
			}
			if got[c.vd.ID] != want || got[gone.ID] {
				t.Errorf("vds on what is drained: %v; want %s in it: %v", got, c.vd.ID, want)
			}
			return err
		})
	}
	found(false)
	for _, want := range []bool{true, true, false} {
		s.update(t, func(tx store.Tx) error {
			return errors.Join(tx.SetDNDrain(c.dn.ID, want), tx.UpdateNode(vda.DiskNode, &c.dn.Node))
		})
		found(want)
		s.view(t, func(tx store.Reader) error {
			dn, err := tx.DN(c.dn.ID)
			if err == nil && dn.Drain != want {
				t.Errorf("drain is %v, want %v", dn.Drain, want)
			}
			return err
		})
	}
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetDNDrain("none", true) })
	for _, want := range []bool{true, false} {
		pd := *c.pd
		pd.Drain = want
		s.update(t, func(tx store.Tx) error { return tx.UpdatePD(&pd) })
		found(want)
		s.view(t, func(tx store.Reader) error {
			got, err := tx.PD(pd.ID)
			if err == nil && got.Drain != want {
				t.Errorf("pd %+v, want drain %v", got, want)
			}
			return err
		})
	}
}

func testCntlr(t *testing.T, s *suite) {
	c := s.newCluster(t)
	counts := func(want ...uint32) {
		t.Helper()
		s.view(t, func(tx store.Reader) error {
			cn, err := tx.CN(c.cn.ID)
			if err == nil && (cn.CntlrCount != want[0] || cn.PrimaryCount != want[1]) {
				t.Errorf("cn counts %d controllers, %d primaries; want %v", cn.CntlrCount, cn.PrimaryCount, want)
			}
			return err
		})
	}
	counts(1, 1)
	second := newCntlr(c.da, c.cn, 1)
	s.update(t, func(tx store.Tx) error { return tx.InsertCntlr(second) })
	counts(2, 1)
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error { return tx.InsertCntlr(newCntlr(c.da, c.cn, 1)) })
	counts(2, 1)
	upd := *c.cntlr
	upd.Primary, upd.Version = false, 12
	s.update(t, func(tx store.Tx) error { return tx.UpdateCntlr(&upd) })
	counts(2, 0)
	s.update(t, func(tx store.Tx) error { return tx.UpdateCntlr(&upd) })
	counts(2, 0)
	s.view(t, func(tx store.Reader) error {
		got, err := tx.Cntlr(upd.ID)
		if err != nil {
			return err
		}
		same(t, "updated", got, &upd)
		rows, err := tx.CntlrsOfDA(c.da.ID)
		if err != nil {
			return err
		}
		same(t, "by index", rows, []vda.Cntlr{upd, *second})
		rows, err = tx.CntlrsOfCN(c.cn.ID)
		if len(rows) != 2 {
			t.Errorf("%d controllers on the cn, want 2", len(rows))
		}
		return err
	})
	upd.Primary = true
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.UpdateCntlr(&upd), tx.DeleteES(c.es.ID), tx.DeleteCntlr(upd.ID))
	})
	counts(1, 0)
	for name, fn := range map[string]func(store.Tx) error{
		"Cntlr":       func(tx store.Tx) error { _, err := tx.Cntlr(upd.ID); return err },
		"UpdateCntlr": func(tx store.Tx) error { return tx.UpdateCntlr(&upd) },
		"DeleteCntlr": func(tx store.Tx) error { return tx.DeleteCntlr(upd.ID) },
		"InsertCntlr": func(tx store.Tx) error { return tx.InsertCntlr(newCntlr(c.da, newCN(), 7)) },
	} {
		t.Run(name+" of none", func(t *testing.T) { s.refused(t, vda.NotFound, fn) })
	}
}

// testAilingVDs reads the vds in error of several arrays in one question.
func testAilingVDs(t *testing.T, s *suite) {
	a, b := s.newCluster(t), s.newCluster(t)
	ailing := func(want ...string) {
		t.Helper()
		s.view(t, func(tx store.Reader) error {
			vds, err := tx.AilingVDs([]string{a.da.ID, b.da.ID, "none"})
			var got []string
			for i := range vds {
				got = append(got, vds[i].ID+" "+vds[i].Health.Msg)
			}
			same(t, "vds in error", got, want)
			return err
		})
	}
	set := func(c *cluster, h vda.Health) {
		s.update(t, func(tx store.Tx) error { return tx.SetHealth(store.ObjVD, c.vd.ID, h) })
	}
	set(a, vda.Health{})
	set(b, vda.Health{Error: true, Msg: "full"})
	ailing(b.vd.ID + " full")
	set(b, vda.Health{})
	ailing()
	s.view(t, func(tx store.Reader) error {
		vds, err := tx.AilingVDs(nil)
		if len(vds) != 0 {
			t.Errorf("of no array: %v", vds)
		}
		return err
	})
}

// testLegsOf reads the legs of several arrays in one question, and no vd of a striped
// one or of a group that is joining.
func testLegsOf(t *testing.T, s *suite) {
	a, b, striped := s.newCluster(t), s.newCluster(t), s.newCluster(t)
	gone := newVD(b.da, b.pd)
	gone.Deleted = true
	joins := newVD(b.da, b.pd)
	joins.GrpIdx = 7
	s.update(t, func(tx store.Tx) error {
		striped.vd.MirrorID = ""
		return errors.Join(tx.UpdateVD(striped.vd), tx.InsertVD(gone), tx.InsertVD(joins),
			tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: b.da.ID, Idx: 7, Joining: true}),
			tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: a.da.ID, Idx: 7, Joining: true}), // another array's
			tx.InsertMirror(&vda.Mirror{ID: "x", DAID: a.da.ID, GrpIdx: 1, Size: 4 << 20, Gen: 2}),
			tx.InsertMirror(&vda.Mirror{ID: "y", DAID: a.da.ID, Idx: 1, Size: 6 << 20, Gen: 1}),
			tx.InsertMirror(&vda.Mirror{ID: "z", DAID: b.da.ID, Size: 8 << 20, Gen: 1}))
	})
	want := []string{a.vd.ID, b.vd.ID}
	if a.da.ID > b.da.ID {
		want = []string{b.vd.ID, a.vd.ID}
	}
	s.view(t, func(tx store.Reader) error {
		legs, err := tx.LegsOf([]string{a.da.ID, b.da.ID, striped.da.ID, "none"})
		var got []string
		for i := range legs {
			got = append(got, legs[i].ID)
		}
		same(t, "legs", got, want)
		if err != nil {
			return err
		}
		mirrors, err2 := tx.MirrorsOf([]string{a.da.ID, "none"})
		own, err3 := tx.MirrorsOfDA(a.da.ID)
		none, err4 := tx.MirrorsOf(nil)
		if len(own) != 2 || len(none) != 0 {
			t.Errorf("mirrors %v, of no array %v", own, none)
		}
		slices.SortFunc(mirrors, func(x, y vda.Mirror) int { return cmp.Or(cmp.Compare(x.GrpIdx, y.GrpIdx), cmp.Compare(x.Idx, y.Idx)) })
		same(t, "mirrors", mirrors, own)
		if err := errors.Join(err2, err3, err4); err != nil {
			return err
		}
		legs, err = tx.LegsOf(nil)
		if len(legs) != 0 {
			t.Errorf("of no array: %v", legs)
		}
		return err
	})
	ill := vda.Health{Error: true, Msg: "I/O errors"}
	s.update(t, func(tx store.Tx) error {
		for _, c := range []*cluster{a, b, striped} {
			c.vd.Role, c.vd.Leaving = vda.Member, false
			if err := errors.Join(tx.UpdateVD(c.vd), tx.SetHealth(store.ObjVD, c.vd.ID, vda.Health{})); err != nil {
				return err
			}
		}
		return errors.Join(tx.SetHealth(store.ObjVD, a.vd.ID, ill), tx.SetHealth(store.ObjVD, striped.vd.ID, ill))
	})
	s.view(t, func(tx store.Reader) error {
		legs, err := tx.UnsettledLegs()
		var got []string
		for i := range legs {
			if slices.Contains([]string{a.vd.ID, b.vd.ID, striped.vd.ID}, legs[i].ID) { // others are other tests'
				got = append(got, legs[i].ID)
			}
		}
		same(t, "unsettled legs", got, []string{a.vd.ID})
		return err
	})
}

// testCntlrsOfDAs reads the controllers of several arrays in one question, without
// those that are being deleted.
func testCntlrsOfDAs(t *testing.T, s *suite) {
	a, b, other := s.newCluster(t), s.newCluster(t), s.newCluster(t)
	want := []string{a.cntlr.ID, b.cntlr.ID}
	if a.da.ID > b.da.ID {
		want = []string{b.cntlr.ID, a.cntlr.ID}
	}
	look := func(want ...string) {
		t.Helper()
		s.view(t, func(tx store.Reader) error {
			rows, err := tx.CntlrsOfDAs([]string{b.da.ID, a.da.ID, "none"})
			var got []string
			for i := range rows {
				got = append(got, rows[i].ID)
			}
			same(t, "controllers", got, want)
			return err
		})
	}
	look(want...)
	s.update(t, func(tx store.Tx) error {
		b.cntlr.Deleted = true
		return tx.UpdateCntlr(b.cntlr)
	})
	look(a.cntlr.ID)
	s.view(t, func(tx store.Reader) error {
		rows, err := tx.CntlrsOfDAs(nil)
		if len(rows) != 0 {
			t.Errorf("of no array, though %s has one: %v", other.da.ID, rows)
		}
		return err
	})
}
