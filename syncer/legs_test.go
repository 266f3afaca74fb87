package syncer_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// mirrored makes the fixture's array one of a mirror, whose legs are its two vds.
func (f *fixture) mirrored() {
	f.update(func(tx store.Tx) error {
		da, err := tx.DA(f.da.ID)
		if err != nil {
			return err
		}
		da.Redundancy, da.MinLegs = vda.Mirror2, 1
		errs := []error{tx.UpdateDA(da), tx.DeleteMirror("m0"), tx.DeleteMirror("m1"),
			tx.InsertMirror(&vda.Mirror{ID: "m", DAID: da.ID, Size: 4 << 20, Gen: 3})}
		for _, v := range f.vd {
			v.MirrorID, v.Idx = "m", 0
			errs = append(errs, tx.UpdateVD(v))
		}
		return errors.Join(errs...)
	})
}

// TestAPrimaryWaitsForALegThatIsNotFenced: the old primary may answer reads from
// such a leg for a while.
func TestAPrimaryWaitsForALegThatIsNotFenced(t *testing.T) {
	f := newFixture(t)
	f.mirrored()
	f.syncAll()
	const wait = time.Second
	s, err := syncer.New(syncer.Config{Store: f.store, Dial: f.agents, FenceTimeout: wait, Log: slog.New(slog.DiscardHandler)})
	f.ok(err)
	f.agents.Agent("cn0:9820").Stop()
	f.agents.Agent("dn1:9720").Stop() // refuses at once
	f.forget()
	begin := time.Now()
	f.ok(s.Move(t.Context(), []array.Move{{DAID: f.da.ID, Term: 1, To: f.cntlr[1].ID}})[0])
	if took := time.Since(begin); took < wait {
		t.Errorf("the new primary was told after %v, though the dn of a leg admits the old one; it must wait %v", took, wait)
	}
	syncs := f.agents.Agent("cn1:9820").Syncs()
	if len(syncs) == 0 || len(syncs[0].Cn.Cntlrs) != 1 || len(syncs[0].Cn.Cntlrs[0].Grps) != 1 {
		t.Fatalf("the new primary was told %v", syncs)
	}
	g := syncs[0].Cn.Cntlrs[0].Grps[0]
	if len(g.Vds) != 0 || len(g.Mirrors) != 1 || g.Mirrors[0].Gen != 3 || g.Mirrors[0].DataSize != 4<<20 || len(g.Mirrors[0].Legs) != 2 {
		t.Fatalf("the group is %v", g)
	}
	for _, l := range g.Mirrors[0].Legs {
		if l.Role != apiv1.LegRole_LEG_ROLE_MEMBER {
			t.Errorf("a leg is %v", l)
		}
	}
	// Nobody waits for a leg that is stale.
	f.update(func(tx store.Tx) error {
		v, err := tx.VD(f.vd[1].ID)
		if err != nil {
			return err
		}
		v.Role = vda.Stale
		return tx.UpdateVD(v)
	})
	calls := len(f.agents.Agent("dn1:9720").Syncs())
	f.ok(s.Sync(t.Context(), array.CN(f.cn[1].ID), syncer.Full))
	f.equal("syncs of the dn of a stale leg", len(f.agents.Agent("dn1:9720").Syncs()), calls)
}
