package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// testSeveral: the methods about many rows read and write what those about one do, of those that are named
// and of no others.
func testSeveral(t *testing.T, s *suite) {
	var cs []*cluster
	for range 4 {
		c := s.newCluster(t)
		c.vd.MirrorID = store.NewID()
		s.update(t, func(tx store.Tx) error {
			return errors.Join(tx.UpdateVD(c.vd), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: c.da.ID, Size: 7 << 20}),
				tx.InsertMirror(&vda.Mirror{ID: c.vd.MirrorID, DAID: c.da.ID, Idx: 1, Size: 7 << 20, Gen: 5}))
		})
		cs = append(cs, c)
	}
	slices.SortFunc(cs, func(a, b *cluster) int { return map[bool]int{true: -1, false: 1}[a.da.ID < b.da.ID] })
	some := cs[1:3] // of which some have a neighbour on either side
	of := func(id func(c *cluster) string) (ids []string) {
		for _, c := range some {
			ids = append(ids, id(c))
		}
		return ids
	}
	das, vds, cntlrs := of(func(c *cluster) string { return c.da.ID }), of(func(c *cluster) string { return c.vd.ID }),
		of(func(c *cluster) string { return c.cntlr.ID })
	backwards := []string{das[1], store.NewID(), das[0], das[1]}

	s.update(t, func(tx store.Tx) error {
		rows, err := tx.DAs(backwards)
		if err == nil && (len(rows) != 2 || rows[0].ID != das[0] || rows[1].ID != das[1]) {
			t.Errorf("DAs returns %d rows, or in another order than that of ids", len(rows))
		}
		return err
	})
	s.view(t, func(tx store.Reader) error {
		for i, c := range some {
			one := func(what string, want any, err error, several any, err2 error) {
				if err := errors.Join(err, err2); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				same(t, what, several, want)
			}
			daRows, err := tx.DAs(backwards)
			want, err2 := tx.DA(c.da.ID)
			one("DAs", *want, err2, daRows[i], err)
			vdRows, err := tx.VDsOf(backwards)
			wantVDs, err2 := tx.VDsOfDA(c.da.ID)
			one("VDsOf", wantVDs, err2, vdRows[i:i+1], err)
			vdRows, err = tx.VDsByID([]string{c.vd.ID, store.NewID()})
			one("VDsByID", wantVDs, nil, vdRows, err)
			grpRows, err := tx.GrpsOf(backwards)
			wantGrps, err2 := tx.GrpsOfDA(c.da.ID)
			one("GrpsOf", wantGrps, err2, grpRows[i:i+1], err)
			cntlrRows, err := tx.CntlrsOf(backwards)
			wantCntlrs, err2 := tx.CntlrsOfDA(c.da.ID)
			one("CntlrsOf", wantCntlrs, err2, cntlrRows[i:i+1], err)
			cntlrRows, err = tx.CntlrsByID([]string{c.cntlr.ID})
			one("CntlrsByID", wantCntlrs, nil, cntlrRows, err)
			mirrorRows, err := tx.MirrorsOf(backwards)
			wantMirrors, err2 := tx.MirrorsOfDA(c.da.ID)
			one("MirrorsOf", wantMirrors, err2, mirrorRows[i:i+1], err)
			esRows, err := tx.ESsOfCntlrs([]string{c.cntlr.ID, store.NewID()})
			wantESs, err2 := tx.ESsOfCntlr(c.cntlr.ID)
			one("ESsOfCntlrs", wantESs, err2, esRows, err)
		}
		none, err := tx.VDsOf(nil)
		if len(none) > 0 {
			t.Errorf("%d vds of no arrays", len(none))
		}
		return err
	})

	state := store.LegState{Role: vda.Target, Epoch: 8, Version: 77}
	ill := vda.Health{Error: true, Msg: "no answer", Since: noon.Add(time.Hour)}
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.SetLegs(vds, state), tx.SetVDLacks(vds, 1<<40, 99),
			tx.SetMirrorGens(of(func(c *cluster) string { return c.vd.MirrorID }), 6), tx.SetCntlrVersions(cntlrs, 55),
			tx.SetHealths(store.ObjCntlr, append(slices.Clone(cntlrs), store.NewID()), vda.Health{}),
			tx.SetHealths(store.ObjVD, vds, ill), tx.SetHealths(store.ObjDA, nil, ill))
	})
	s.view(t, func(tx store.Reader) error {
		for i, c := range cs {
			wantVD, wantCntlr, gen := *c.vd, *c.cntlr, uint64(5)
			if i == 1 || i == 2 {
				wantVD.Role, wantVD.Leaving, wantVD.Moved, wantVD.Epoch, wantVD.Version = state.Role, false, false, 8, 77
				wantVD.Lack, wantVD.CopyRate, wantVD.Health.Msg = 1<<40, 99, "no answer" // since it was new
				wantCntlr.Version, wantCntlr.Health, gen = 55, vda.Health{}, 6
			}
			vd, err := tx.VD(c.vd.ID)
			cntlr, err2 := tx.Cntlr(c.cntlr.ID)
			mirrors, err3 := tx.MirrorsOfDA(c.da.ID)
			if err := errors.Join(err, err2, err3); err != nil {
				return err
			}
			same(t, "the vd", *vd, wantVD)
			same(t, "the controller", *cntlr, wantCntlr)
			same(t, "the mirror's gen", mirrors[0].Gen, gen)
		}
		return nil
	})
	// What is carried out never goes back, and says nothing of a later version.
	applied := func(upTo uint64, vd, cntlr uint64) {
		t.Helper()
		ids := func(of []string) []string { return append(slices.Clone(of), store.NewID()) }
		s.update(t, func(tx store.Tx) error {
			return errors.Join(tx.SetApplied(store.ObjVD, ids(vds), upTo), tx.SetApplied(store.ObjCntlr, ids(cntlrs), upTo))
		})
		s.view(t, func(tx store.Reader) error {
			for i, c := range cs {
				v, err := tx.VD(c.vd.ID)
				p, err2 := tx.Cntlr(c.cntlr.ID)
				if err := errors.Join(err, err2); err != nil {
					return err
				}
				wantVD, wantCntlr := vd, cntlr
				if i != 1 && i != 2 {
					wantVD, wantCntlr = 0, 0
				}
				same(t, "what is carried out of the vd", v.Applied, wantVD)
				same(t, "what is carried out of the controller", p.Applied, wantCntlr)
				if v.CarriedOut(0) != (wantVD == v.Version) || p.CarriedOut(0) != (wantCntlr == p.Version) || !v.CarriedOut(v.Version) {
					t.Errorf("%+v and %+v: carried out: %v, %v", v, p, v.CarriedOut(0), p.CarriedOut(0))
				}
			}
			return nil
		})
	}
	applied(54, 0, 0)
	applied(60, 0, 55)
	applied(100, 77, 55)
	s.update(t, func(tx store.Tx) error {
		vd, err := tx.VD(vds[0])
		vd.Version, vd.Applied = 99, 1 // what is read stays, whatever the row is to be
		return errors.Join(err, tx.UpdateVD(vd), tx.SetApplied(store.ObjVD, vds, 98))
	})
	s.view(t, func(tx store.Reader) error {
		vd, err := tx.VD(vds[0])
		same(t, "what is carried out of a vd that has changed", vd.Applied, uint64(77))
		return err
	})
	if err := s.Update(s.ctx, func(tx store.Tx) error { return tx.SetApplied(store.ObjPD, vds, 1) }); vda.KindOf(err) != vda.Internal {
		t.Errorf("what is carried out of a pd: %v", err)
	}
	// Nothing is passed over silently but healths, and what is carried out.
	for _, set := range []func(tx store.Tx) error{
		func(tx store.Tx) error { return tx.SetLegs([]string{vds[0], store.NewID()}, state) },
		func(tx store.Tx) error { return tx.SetMirrorGens([]string{store.NewID()}, 7) },
		func(tx store.Tx) error { return tx.SetCntlrVersions([]string{store.NewID()}, 7) },
		func(tx store.Tx) error { return tx.SetVDLacks([]string{store.NewID()}, 7, 7) },
	} {
		s.refused(t, vda.NotFound, set)
	}
}
