package monitor

import (
	"errors"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// cntlrs are an array's controllers, tombstones too, by the names of their
// cns.
func (r *rig) cntlrs(da *vda.DA) map[string]vda.Cntlr {
	r.Helper()
	all := map[string]vda.Cntlr{}
	if err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
		rows, err := tx.CntlrsOfDA(da.ID)
		for _, c := range rows {
			cn, cnErr := tx.CN(c.CNID)
			if cnErr != nil {
				return cnErr
			}
			all[cn.Name] = c
		}
		return err
	}); err != nil {
		r.Fatal(err)
	}
	return all
}

// shrink leaves an array the first n of its controllers.
func (r *rig) shrink(da *vda.DA, n int) {
	r.Helper()
	r.update(func(tx store.Tx) error {
		rows, err := tx.CntlrsOfDA(da.ID)
		if err != nil {
			return err
		}
		for _, c := range rows[n:] {
			if err := tx.DeleteCntlr(c.ID); err != nil {
				return err
			}
		}
		d, err := tx.DA(da.ID)
		if err != nil {
			return err
		}
		d.CntlrCnt, d.Created = uint32(n), true
		return errors.Join(tx.UpdateDA(d), tx.InsertExp(&vda.Exp{ID: store.NewID(), DAID: da.ID, Name: "exp", NQN: "nqn." + da.Name}))
	})
}

func TestRepairOfPlacement(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.m.cfg.Timing.RepairAfter = 30 * time.Second
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		two, one := r.addDA("two"), r.addDA("one")
		r.within(10*time.Second, "they are up", func() bool {
			_, _, a := r.primary(two)
			_, _, b := r.primary(one)
			return a && b
		})
		r.shrink(two, 2) // cn0 and cn1
		r.shrink(one, 1) // cn0
		dead := r.agents.Agent("cn0")
		dead.Stop()
		r.within(3*time.Second, "the one with a secondary moves", func() bool { name, _, _ := r.primary(two); return name == "cn1" })
		time.Sleep(20 * time.Second)
		if n := len(r.cntlrs(two)); n != 2 || len(r.cntlrs(one)) != 1 {
			t.Errorf("%d controllers before the time", n)
		}
		r.within(30*time.Second, "both are repaired", func() bool {
			a, b := r.cntlrs(two), r.cntlrs(one)
			return len(a) == 3 && a["cn0"].Deleted && a["cn1"].Primary && !a["cn2"].Deleted && a["cn2"].Idx > 1 &&
				len(b) == 2 && b["cn0"].Deleted && !b["cn0"].Primary && (b["cn1"].Primary || b["cn2"].Primary)
		})
		var paths int
		if err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
			ess, err := tx.ESsOfCntlr(r.cntlrs(two)["cn2"].ID)
			paths = len(ess)
			return err
		}); err != nil || paths != 1 {
			t.Errorf("the new controller has %d exporters, %v", paths, err)
		}
		time.Sleep(time.Minute)
		if a, b := r.cntlrs(two), r.cntlrs(one); len(a) != 3 || len(b) != 2 {
			t.Errorf("repaired again: %v, %v", a, b)
		}
		// The node returns, carries the tombstones out, and is free.
		dead.Start()
		r.within(30*time.Second, "its rows go", func() bool { return len(r.cntlrs(two)) == 2 && len(r.cntlrs(one)) == 1 })
		if left := dead.Objects(); len(left) != 0 {
			t.Errorf("it still holds %v", left)
		}
	})
}

func TestPrimaryCutOffFromADn(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "the array is up", func() bool { _, _, s := r.primary(da); return s })
		lose := func(cnName string, lost, primary time.Duration) {
			_, term, _ := r.primary(da)
			r.agents.Agent(cnName).Lose(&apiv1.Unreached{CntlrId: r.cntlrs(da)[cnName].ID, DaId: da.ID, VdIds: []string{"v"}, Term: term,
				LostMs: uint32(lost.Milliseconds()), PrimaryMs: uint32(primary.Milliseconds())})
		}
		stays := func(why, want string) {
			t.Helper()
			time.Sleep(12 * time.Second)
			if name, _, _ := r.primary(da); name != want {
				t.Fatalf("%s: moved to %s", why, name)
			}
		}
		r.agents.Agent("cn1").CannotReach("")
		lose("cn0", 4*time.Second, time.Hour)
		stays("it may be back soon", "cn0")
		lose("cn0", time.Minute, 20*time.Second)
		stays("it is primary only since 20 s", "cn0")
		r.agents.Agent("cn2").CannotReach("")
		lose("cn0", time.Minute, time.Hour)
		stays("no other reaches more", "cn0")
		r.agents.Agent("cn2").CannotReach()
		r.within(7*time.Second, "it moves to the one that reaches the dn", func() bool { name, _, s := r.primary(da); return name == "cn2" && s })
		// What the old one said was about another term.
		stays("old news", "cn2")
		r.agents.Agent("cn0").Lose()
		lose("cn2", time.Minute, time.Hour)
		dead := r.agents.Agent("dn0")
		dead.Stop()
		stays("the dn is down for all", "cn2")
		r.agents.Agent("cn2").Lose()
		dead.Start()
		time.Sleep(5 * time.Second)
	})
}

func TestRestoredBackup(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "the array is up", func() bool { _, _, s := r.primary(da); return s })
		// What happened after the backup was made: 50 changes of dn0, and
		// failovers.
		a := r.agents.Agent("dn0")
		var cluster string
		if err := r.store.Store.View(r.Context(), func(tx store.Reader) (err error) { cluster, err = tx.ClusterID(); return err }); err != nil {
			t.Fatal(err)
		}
		a.Join(cluster, r.dns[0].ID, r.dn(0).Version+50)
		a.Saw(da.ID, 7)
		r.bump(0)
		r.within(30*time.Second, "the node refuses it", func() bool { return r.dn(0).Health.Error })
		before := a.Objects()
		a.Syncs()
		if _, err := store.Supersede(r.Context(), r.uri); err != nil {
			t.Fatal(err)
		}
		r.within(30*time.Second, "the node takes it", func() bool {
			d := r.dn(0)
			_, _, settled := r.primary(da)
			return !d.Health.Error && d.Applied == d.Version && settled
		})
		if all := a.Syncs(); len(all) > 0 && !all[0].Refused && all[0].Base != 0 && all[0].Version < 1<<32+100 {
			t.Errorf("a delta to what the node does not hold: base %d", all[0].Base)
		}
		if after := a.Objects(); len(after) != len(before) {
			t.Errorf("objects %v became %v", before, after)
		}
		if term := a.Term(da.ID); term <= 7 {
			t.Errorf("term %d", term)
		}
	})
}
