package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
)

// beside makes another array, whose primary is on a cn and which has a vd on each dn.
func (f *fixture) beside(cn int) (cntlr *vda.Cntlr, vds []*vda.VD) {
	f.update(func(tx store.Tx) error {
		at, err := tx.BumpNode(vda.ControllerNode, f.cn[cn].ID)
		da := &vda.DA{ID: store.NewID(), Name: fmt.Sprint("beside", cn), Size: 1 << 20, PhysicalSize: 1 << 20, CntlrCnt: 1,
			StripeCount: 2, StripeSizeKB: 64, ClusterSize: 1 << 20, Term: 1, Created: true}
		cntlr = &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: f.cn[cn].ID, Primary: true, Version: at}
		errs := []error{err, tx.InsertDA(da), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: da.ID, Size: 2 << 20}), tx.InsertCntlr(cntlr)}
		vds = nil
		for i := range f.dn {
			at, err := tx.BumpNode(vda.DiskNode, f.dn[i].ID)
			m := &vda.Mirror{ID: store.NewID(), DAID: da.ID, Idx: uint32(i), Size: 1 << 20, Gen: 1}
			v := &vda.VD{ID: store.NewID(), DAID: da.ID, Idx: uint32(i), PDID: f.pd[i].ID, DNID: f.dn[i].ID, Clusters: 1, Size: 1 << 20,
				MirrorID: m.ID, Version: at}
			errs, vds = append(errs, err, tx.TakePD(f.pd[i].ID, 1), tx.InsertMirror(m), tx.InsertVD(v)), append(vds, v)
		}
		return errors.Join(errs...)
	})
	return cntlr, vds
}

// TestAnArrayInErrorHoldsUpNoOther: how far a node has come with an array is known though it
// cannot carry out what another one is to be, and is written once.
func TestAnArrayInErrorHoldsUpNoOther(t *testing.T) {
	f := newFixture(t)
	ill, _ := f.beside(0)
	_, illVDs := f.beside(2)
	f.syncAll()
	f.syncAll()
	w := &watched{Store: storetest.Ordered(t, f.store), locked: map[string]bool{}}
	s, err := syncer.New(syncer.Config{Store: w, Dial: f.agents, Timeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler)})
	f.ok(err)
	// change has others be something else beside the array, on its primary's cn and on a dn; these fail.
	change := func() {
		f.agents.Agent("cn0:9820").Fail(ill.ID, "it cannot be so")
		f.agents.Agent("dn0:9720").Fail(illVDs[0].ID, "it cannot be so")
		f.update(func(tx store.Tx) error {
			var errs []error
			for _, id := range []string{ill.ID, f.cntlr[0].ID} {
				c, err := tx.Cntlr(id)
				if err != nil {
					return err
				}
				c.Version, err = tx.BumpNode(vda.ControllerNode, f.cn[0].ID)
				errs = append(errs, err, tx.UpdateCntlr(c))
			}
			for _, id := range []string{illVDs[0].ID, f.vd[0].ID} {
				v, err := tx.VD(id)
				if err != nil {
					return err
				}
				v.Version, err = tx.BumpNode(vda.DiskNode, f.dn[0].ID)
				errs = append(errs, err, tx.UpdateVD(v))
			}
			return errors.Join(errs...)
		})
	}
	// come checks of which objects the database knows that they are as they are to be.
	come := func(what string, wantIll, wantOther bool) {
		t.Helper()
		f.view(func(tx store.Reader) error {
			cn, err := tx.CN(f.cn[0].ID)
			dn, err2 := tx.DN(f.dn[0].ID)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			for id, want := range map[string]bool{ill.ID: wantIll, f.cntlr[0].ID: wantOther} {
				c, err := tx.Cntlr(id)
				if err != nil {
					return err
				}
				if c.CarriedOut(cn.Applied) != want {
					t.Errorf("%s: the cn has carried out %d of %d, and of controller %s %d of %d; that is to count as carried out: %t", what,
						cn.Applied, cn.Version, id, c.Applied, c.Version, want)
				}
			}
			for id, want := range map[string]bool{illVDs[0].ID: wantIll, f.vd[0].ID: wantOther} {
				v, err := tx.VD(id)
				if err != nil {
					return err
				}
				if v.CarriedOut(dn.Applied) != want {
					t.Errorf("%s: the dn has carried out %d of %d, and of vd %s %d of %d; that is to count as carried out: %t", what, dn.Applied,
						dn.Version, id, v.Applied, v.Version, want)
				}
			}
			return nil
		})
	}
	nodes := []array.Node{array.CN(f.cn[0].ID), array.DN(f.dn[0].ID)}
	for _, scope := range []syncer.Scope{syncer.Changes, syncer.Full} {
		change()
		come("before a Sync", false, false)
		for _, at := range nodes {
			f.ok(s.Sync(t.Context(), at, scope))
		}
		come("after a Sync", false, true)
		w.since()
		for _, at := range nodes {
			f.ok(s.Sync(t.Context(), at, syncer.Full))
		}
		if updates, _, locked := w.since(); updates > 0 {
			t.Errorf("the same answers once more are written, in %d transactions, which lock %v", updates, locked)
		}
		f.agents.Agent("cn0:9820").Fail(ill.ID, "")
		f.agents.Agent("dn0:9720").Fail(illVDs[0].ID, "")
		for _, at := range nodes {
			f.ok(s.Sync(t.Context(), at, syncer.Changes))
		}
		come("when all is well", true, true)
	}
	f.view(func(tx store.Reader) error { // a secondary has nothing to let go of
		c, err := tx.Cntlr(f.cntlr[1].ID)
		f.equal("noted of a secondary", c.Applied, 0)
		return err
	})
}

// TestAPrimaryWaitsForNoVDOfAnotherArray: a leg is fenced when its dn has said so, though
// it could not carry out what another vd is to be.
func TestAPrimaryWaitsForNoVDOfAnotherArray(t *testing.T) {
	f := newFixture(t)
	f.mirrored()
	_, ill := f.beside(2)
	f.syncAll()
	for i := range f.dn {
		f.agents.Agent(f.dn[i].Name).Fail(ill[i].ID, "it cannot be so")
		f.update(func(tx store.Tx) error {
			v, err := tx.VD(ill[i].ID)
			if err != nil {
				return err
			}
			v.Version, err = tx.BumpNode(vda.DiskNode, f.dn[i].ID)
			return errors.Join(err, tx.UpdateVD(v))
		})
	}
	s, err := syncer.New(syncer.Config{Store: f.store, Dial: f.agents, FenceTimeout: time.Hour, Log: slog.New(slog.DiscardHandler)})
	f.ok(err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	f.agents.Agent("cn0:9820").Stop()
	f.forget()
	f.ok(s.Move(ctx, []array.Move{{DAID: f.da.ID, Term: 1, To: f.cntlr[1].ID}})[0])
	told := f.agents.Agent("cn1:9820").Syncs()
	if len(told) == 0 || len(told[0].Cn.Cntlrs) != 1 {
		t.Fatalf("2 minutes after both dns have fenced their legs the new primary is told %v", told)
	}
	if told[0].Cn.Cntlrs[0].Grps[0].Mirrors[0].Unfenced {
		t.Error("it is told that none is fenced")
	}
	for i := range f.dn {
		f.agents.Agent(f.dn[i].Name).Syncs()
	}
	f.ok(s.Sync(ctx, array.CN(f.cn[1].ID), syncer.Full))
	for i := range f.dn {
		f.equal("Syncs of a dn that has fenced them before", len(f.agents.Agent(f.dn[i].Name).Syncs()), 0)
	}
}
