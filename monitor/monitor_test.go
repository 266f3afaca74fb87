package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// rig is a monitor over a database and fake agents, inside a synctest bubble:
// minutes pass in no time.
type rig struct {
	*testing.T
	uri    string
	store  *flaky
	agents *fakeagent.Cluster
	m      *Monitor
	dns    []*vda.DN
	cns    []*vda.CN
	pd     *vda.PD
}

// flaky is a database that can be away.
type flaky struct {
	store.Store
	away atomic.Bool
}

var errAway = vda.Errorf(vda.Unavailable, "the database is away")

func (f *flaky) Update(ctx context.Context, fn func(store.Tx) error) error {
	if f.away.Load() {
		return errAway
	}
	return f.Store.Update(ctx, fn)
}

func (f *flaky) View(ctx context.Context, fn func(store.Reader) error) error {
	if f.away.Load() {
		return errAway
	}
	return f.Store.View(ctx, fn)
}

// inBubble runs a test of a monitor that watches two dns, one with a pd, and
// three cns.
func inBubble(t *testing.T, fn func(r *rig)) {
	inEmptyBubble(t, func(r *rig) {
		stop := r.monitor()
		defer stop()
		fn(r)
	})
}

// inEmptyBubble is inBubble without a monitor.
func inEmptyBubble(t *testing.T, fn func(r *rig)) {
	uri := storetest.SQLite(t)
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		r := &rig{T: t, uri: uri, store: &flaky{Store: st}, agents: fakeagent.New()}
		defer r.agents.Close()
		r.update(func(tx store.Tx) error {
			r.dns, r.cns = nil, nil
			for i := range 2 {
				d := &vda.DN{Node: vda.Node{ID: store.NewID(), Name: fmt.Sprintf("dn%d", i), Online: true, Version: 1}}
				r.dns = append(r.dns, d)
				if err := tx.InsertNode(vda.DiskNode, &d.Node); err != nil {
					return err
				}
			}
			for i := range 3 {
				c := &vda.CN{Node: vda.Node{ID: store.NewID(), Name: fmt.Sprintf("cn%d", i), Online: true, Version: 1}}
				r.cns = append(r.cns, c)
				if err := tx.InsertNode(vda.ControllerNode, &c.Node); err != nil {
					return err
				}
			}
			r.pd = &vda.PD{ID: store.NewID(), DNID: r.dns[0].ID, Name: "pd0", Version: 1}
			return tx.InsertPD(r.pd)
		})
		for _, n := range []string{"dn0", "dn1", "cn0", "cn1", "cn2"} {
			r.agents.Start(n)
		}
		fn(r)
	})
}

// keptInTests is how many events the monitors of a rig keep.
const keptInTests = 50

// monitor starts the monitor of the rig.
func (r *rig) monitor() (stop func()) {
	r.m, stop = r.another(r.store)
	return stop
}

// another starts one more monitor, over a connection of its own to the
// database.
func (r *rig) another(st store.Store) (m *Monitor, stop func()) {
	m, err := New(Config{Store: storetest.Ordered(r.T, st), Dial: r.agents, KeepEvents: keptInTests,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	return m, func() {
		cancel()
		<-done
	}
}

func (r *rig) update(fn func(store.Tx) error) {
	r.Helper()
	if err := r.store.Update(r.Context(), fn); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) dn(i int) (d *vda.DN) {
	r.Helper()
	if err := r.store.Store.View(r.Context(), func(tx store.Reader) (err error) { d, err = tx.DN(r.dns[i].ID); return err }); err != nil {
		r.Fatal(err)
	}
	return d
}

func (r *rig) thePD() (p *vda.PD) {
	r.Helper()
	if err := r.store.Store.View(r.Context(), func(tx store.Reader) (err error) { p, err = tx.PD(r.pd.ID); return err }); err != nil {
		r.Fatal(err)
	}
	return p
}

// within waits until fn holds, at most d of the bubble's time.
func (r *rig) within(d time.Duration, what string, fn func() bool) {
	r.Helper()
	for end := time.Now().Add(d); !fn(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("%s: not within %v", what, d)
		}
	}
}

// bump gives a dn a new version.
func (r *rig) bump(i int) {
	r.Helper()
	r.update(func(tx store.Tx) error {
		v, err := tx.BumpNode(vda.DiskNode, r.dns[i].ID)
		if err != nil || i != 0 {
			return err
		}
		pd, err := tx.PD(r.pd.ID)
		if err != nil {
			return err
		}
		pd.Version = v
		return tx.UpdatePD(pd)
	})
}

// TestMirrorsOfCN: what a cn's agent says of its data plane stands in the database,
// and stays there while the node does not answer.
func TestMirrorsOfCN(t *testing.T) {
	inEmptyBubble(t, func(r *rig) {
		mirrors := func(i int) (is bool) {
			r.Helper()
			err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
				cn, err := tx.CN(r.cns[i].ID)
				if err == nil {
					is = cn.Mirrors
				}
				return err
			})
			if err != nil {
				r.Fatal(err)
			}
			return is
		}
		r.agents.Agent("cn1").CannotMirror()
		stop := r.monitor()
		defer stop()
		r.within(5*time.Second, "the cn that has mirrors is known", func() bool { return mirrors(0) })
		time.Sleep(5 * time.Second)
		if mirrors(1) {
			t.Error("a cn without mirrors is said to have them")
		}
		r.agents.Agent("cn0").BreakPlane("does not answer")
		time.Sleep(10 * time.Second)
		if !mirrors(0) {
			t.Error("a data plane that does not answer has no mirrors any more")
		}
		r.agents.Agent("cn0").BreakPlane("")
		r.agents.Agent("cn0").CannotMirror()
		r.within(10*time.Second, "another data plane that has none is noticed", func() bool { return !mirrors(0) })
	})
}

func TestHealth(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "the pd is formatted without a portal", func() bool { return r.thePD().TotalClusters == 100 })
		if d := r.dn(0); d.Applied != d.Version || d.DataPlaneVersion != "fake" {
			t.Errorf("dn %+v", d)
		}
		a := r.agents.Agent("dn0")

		a.Fail(r.pd.ID, "bad disk")
		r.within(3*time.Second, "a bad pd shows", func() bool { return r.thePD().Health.Msg == "bad disk" })
		since := r.thePD().Health.Since
		time.Sleep(4 * time.Second)
		if h := r.thePD().Health; !h.Since.Equal(since) || time.Since(h.Since) > 9*time.Second {
			t.Errorf("since %v became %v", since, h.Since)
		}
		a.Fail(r.pd.ID, "")
		r.within(3*time.Second, "and heals", func() bool { return r.thePD().Health == vda.Health{} })

		a.BreakPlane("does not answer")
		r.within(3*time.Second, "a bad data plane shows", func() bool {
			return r.dn(0).Health.Msg == "data plane: does not answer" && r.thePD().Health.Msg == "dn dn0: data plane: does not answer"
		})
		a.BreakPlane("")
		r.within(3*time.Second, "and heals", func() bool { return !r.dn(0).Health.Error && !r.thePD().Health.Error })

		a.Hang(true)
		r.within(6*time.Second, "a hung agent shows", func() bool { return strings.Contains(r.dn(0).Health.Msg, "no answer in time") })
		a.Hang(false)
		r.within(3*time.Second, "and heals", func() bool { return !r.dn(0).Health.Error })

		dead := r.agents.Agent("dn0")
		dead.Stop()
		r.within(3*time.Second, "a killed agent shows", func() bool { return strings.Contains(r.dn(0).Health.Msg, "not reachable") })
		if r.dn(1).Health.Error {
			t.Error("the other dn is in error too")
		}
		dead.Start()
		r.within(10*time.Second, "and heals", func() bool { return !r.dn(0).Health.Error && !r.thePD().Health.Error })
	})
}

func TestRestarts(t *testing.T) {
	inBubble(t, func(r *rig) {
		time.Sleep(5 * time.Second)
		a := r.agents.Agent("dn0")
		fulls := func() (n int) {
			for _, s := range a.Syncs() {
				if s.Base == 0 && !s.Refused {
					n++
				}
			}
			return n
		}
		fulls()
		for name, restart := range map[string]func(){"agent": a.RestartAgent, "data plane": a.RestartPlane, "state lost": a.Forget} {
			restart()
			time.Sleep(2 * time.Second)
			if n := fulls(); n != 1 {
				t.Errorf("%s: %d full syncs", name, n)
			}
			time.Sleep(5 * time.Second)
			if n := fulls(); n != 0 {
				t.Errorf("%s: %d more full syncs", name, n)
			}
		}
		time.Sleep(3 * time.Minute)
		if n := fulls(); n < 2 || n > 4 {
			t.Errorf("%d periodic syncs in three minutes", n)
		}
	})
}

// TestFinish has the portal die between its transaction and its sync.
func TestFinish(t *testing.T) {
	inBubble(t, func(r *rig) {
		time.Sleep(5 * time.Second)
		r.agents.Agent("dn0").Refuse(errors.New("busy"))
		r.bump(0)
		time.Sleep(20 * time.Second)
		if d := r.dn(0); d.Applied == d.Version || !strings.Contains(d.Health.Msg, "busy") {
			t.Errorf("a refused sync: %+v", d)
		}
		r.agents.Agent("dn0").Refuse(nil)
		r.within(31*time.Second, "it is tried again", func() bool { d := r.dn(0); return d.Applied == d.Version && !d.Health.Error })

		r.update(func(tx store.Tx) error {
			pd, err := tx.PD(r.pd.ID)
			if err != nil {
				return err
			}
			pd.Deleted = true
			if pd.Version, err = tx.BumpNode(vda.DiskNode, pd.DNID); err != nil {
				return err
			}
			return tx.UpdatePD(pd)
		})
		r.within(5*time.Second, "the tombstone is carried out", func() bool {
			err := r.store.Store.View(r.Context(), func(tx store.Reader) error { _, err := tx.PD(r.pd.ID); return err })
			return err != nil && vda.KindOf(err) == vda.NotFound
		})
		r.update(func(tx store.Tx) error { return tx.DeleteNode(vda.DiskNode, r.dns[0].ID) })
		time.Sleep(3 * time.Second)
		r.agents.Agent("dn0").Syncs()
		r.agents.Agent("dn0").RestartAgent()
		time.Sleep(5 * time.Second)
		if n := len(r.agents.Agent("dn0").Syncs()); n != 0 {
			t.Errorf("a deleted dn got %d syncs", n)
		}
	})
}

func TestDatabaseAway(t *testing.T) {
	inBubble(t, func(r *rig) {
		time.Sleep(5 * time.Second)
		if !r.m.Ready() {
			t.Fatal("not ready")
		}
		r.bump(0)
		r.store.away.Store(true)
		time.Sleep(10 * time.Second)
		if r.m.Ready() {
			t.Error("ready without a database")
		}
		r.agents.Agent("dn0").Syncs()
		r.agents.Agent("dn0").RestartPlane()
		r.agents.Agent("dn1").Stop()
		time.Sleep(20 * time.Second)
		if n := len(r.agents.Agent("dn0").Syncs()); n != 0 {
			t.Errorf("%d syncs on a stale picture", n)
		}
		if r.dn(1).Health.Error {
			t.Error("health was written")
		}
		r.store.away.Store(false)
		r.within(5*time.Second, "all recovers", func() bool {
			d := r.dn(0)
			return r.m.Ready() && d.Applied == d.Version && r.dn(1).Health.Error
		})
	})
}

// addDA makes an array with a vd on dn0 and controllers on all cns, the
// primary on cn0.
func (r *rig) addDA(name string) *vda.DA {
	r.Helper()
	da := &vda.DA{ID: store.NewID(), Name: name, Size: 1 << 20, PhysicalSize: 1 << 20, ClusterSize: 1 << 20, Term: 1}
	r.update(func(tx store.Tx) error {
		v, err := tx.BumpNode(vda.DiskNode, r.dns[0].ID)
		if err := errors.Join(err, tx.InsertDA(da), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: da.ID}), tx.TakePD(r.pd.ID, 1),
			tx.InsertMirror(&vda.Mirror{ID: "m-" + name, DAID: da.ID, Size: 1 << 20, Gen: 1}),
			tx.InsertVD(&vda.VD{ID: store.NewID(), DAID: da.ID, MirrorID: "m-" + name, PDID: r.pd.ID, DNID: r.dns[0].ID, Clusters: 1, Size: 1 << 20,
				Version: v})); err != nil {
			return err
		}
		for i, c := range r.cns {
			v, err := tx.BumpNode(vda.ControllerNode, c.ID)
			if err := errors.Join(err, tx.InsertCntlr(&vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: c.ID, Idx: uint32(i), Primary: i == 0,
				Version: v})); err != nil {
				return err
			}
		}
		return nil
	})
	return da
}

// primary is the cn with the array's primary, its term, and whether all its
// nodes have applied their versions.
func (r *rig) primary(da *vda.DA) (name string, term uint64, settled bool) {
	r.Helper()
	err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
		d, err := tx.DA(da.ID)
		if err != nil {
			return err
		}
		term, settled = d.Term, d.Created
		cntlrs, err := tx.CntlrsOfDA(da.ID)
		if err != nil {
			return err
		}
		for _, c := range cntlrs {
			cn, err := tx.CN(c.CNID)
			if err != nil {
				return err
			}
			settled = settled && cn.Applied == cn.Version
			if c.Primary {
				name = cn.Name
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	return name, term, settled
}

func TestFailover(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		das := []*vda.DA{r.addDA("da0"), r.addDA("da1"), r.addDA("da2"), r.addDA("da3")}
		at := func(want func(name string, term uint64, settled bool) bool) func() bool {
			return func() bool {
				for _, da := range das {
					if !want(r.primary(da)) {
						return false
					}
				}
				return true
			}
		}
		r.within(10*time.Second, "the arrays are up", at(func(_ string, _ uint64, settled bool) bool { return settled }))

		killed := time.Now()
		dead := r.agents.Agent("cn0")
		dead.Stop()
		r.within(3*time.Second, "killed: all move", at(func(name string, term uint64, _ bool) bool { return name != "cn0" && term == 2 }))
		if d := time.Since(killed); d > 200*time.Millisecond {
			t.Errorf("a killed agent's arrays moved after %v only", d)
		}
		perCN := map[string]int{}
		for _, da := range das {
			name, _, _ := r.primary(da)
			perCN[name]++
		}
		if perCN["cn1"] != 2 || perCN["cn2"] != 2 {
			t.Errorf("primaries are not spread: %v", perCN)
		}
		dead.Start()
		r.within(15*time.Second, "the old primary returns as a secondary",
			at(func(name string, _ uint64, settled bool) bool { return name != "cn0" && settled }))

		// A hung node is silent; it moves after the missed beats, not before.
		r.agents.Agent("cn1").Hang(true)
		time.Sleep(1500 * time.Millisecond)
		if perCN["cn1"] == 2 && at(func(name string, _ uint64, _ bool) bool { return name != "cn1" })() {
			t.Error("one missed beat moved arrays")
		}
		r.within(5*time.Second, "hung: all move", at(func(name string, _ uint64, _ bool) bool { return name != "cn1" }))
		r.agents.Agent("cn1").Hang(false)
		r.within(60*time.Second, "it returns", at(func(_ string, _ uint64, settled bool) bool { return settled }))

		// A hung data plane behind a healthy agent is a failed node.
		r.agents.Agent("cn2").SlowPlane()
		time.Sleep(1500 * time.Millisecond)
		if at(func(name string, _ uint64, _ bool) bool { return name != "cn2" })() {
			t.Error("a slow answer of the data plane moved arrays")
		}
		r.within(5*time.Second, "data plane hung: all move", at(func(name string, _ uint64, _ bool) bool { return name != "cn2" }))
		r.agents.Agent("cn2").BreakPlane("")

		// Nothing to move to: nothing moves, and nothing is lost.
		r.within(60*time.Second, "settled", at(func(_ string, _ uint64, settled bool) bool { return settled }))
		before := map[string]uint64{}
		for _, da := range das {
			_, term, _ := r.primary(da)
			before[da.ID] = term
		}
		r.agents.Agent("dn0").Stop()
		time.Sleep(3 * time.Second)
		r.agents.Agent("cn0").Stop()
		time.Sleep(20 * time.Second)
		for _, da := range das {
			if _, term, _ := r.primary(da); term != before[da.ID] {
				t.Errorf("%s moved although its dn is down", da.Name)
			}
		}
	})
}

// TestNoFailoverOnStalePicture kills a cn while the database is away.
func TestNoFailoverOnStalePicture(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "up", func() bool { _, _, settled := r.primary(da); return settled })
		r.store.away.Store(true)
		r.agents.Agent("cn0").Stop()
		time.Sleep(30 * time.Second)
		if name, term, _ := r.primary(da); name != "cn0" || term != 1 {
			t.Errorf("moved to %s, term %d", name, term)
		}
		r.store.away.Store(false)
		r.within(5*time.Second, "moves once the database is back",
			func() bool { name, term, _ := r.primary(da); return name != "cn0" && term == 2 })
	})
}

// TestDrain takes a cn offline: its primaries leave, and come back no more.
func TestDrain(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		da := r.addDA("da0")
		r.within(10*time.Second, "up", func() bool { _, _, settled := r.primary(da); return settled })
		r.update(func(tx store.Tx) error {
			for _, c := range r.cns[:2] {
				row, err := tx.CN(c.ID)
				if err != nil {
					return err
				}
				row.Online = false
				if err := tx.UpdateNode(vda.ControllerNode, &row.Node); err != nil {
					return err
				}
			}
			return nil
		})
		r.within(5*time.Second, "drained", func() bool { name, term, settled := r.primary(da); return name == "cn2" && term == 2 && settled })
		time.Sleep(20 * time.Second)
		if name, term, _ := r.primary(da); name != "cn2" || term != 2 {
			t.Errorf("it went on to %s, term %d", name, term)
		}
		for _, s := range r.agents.Agent("cn0").Syncs() {
			if len(s.Cn.Cntlrs) > 0 && s.Cn.Cntlrs[0].Term == 2 && s.Cn.Cntlrs[0].Deleted {
				t.Error("the drained controller was deleted")
			}
		}
	})
}
