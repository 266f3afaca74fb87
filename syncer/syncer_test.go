package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// fixture is a database with two dns of one pd each, three cns, and an array
// of two vds and three controllers with one exporter.
type fixture struct {
	*testing.T
	uri    string
	store  store.Store
	agents *fakeagent.Cluster
	syncer *syncer.Syncer
	dn     [2]*vda.DN
	pd     [2]*vda.PD
	vd     [2]*vda.VD
	cn     [3]*vda.CN
	cntlr  [3]*vda.Cntlr
	es     [3]*vda.ES
	da     *vda.DA
	exp    *vda.Exp
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	uri := storetest.SQLite(t)
	st, err := store.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, uri: uri, store: st, agents: fakeagent.New()}
	t.Cleanup(func() { st.Close() })
	t.Cleanup(f.agents.Close)
	f.syncer, err = syncer.New(syncer.Config{Store: storetest.Ordered(t, st), Dial: f.agents, Timeout: 10 * time.Second,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f.da = &vda.DA{ID: store.NewID(), Name: "da0", Size: 8 << 20, PhysicalSize: 8 << 20, CntlrCnt: 3, StripeCount: 2, StripeSizeKB: 64,
		ClusterSize: 1 << 20, Term: 1}
	f.exp = &vda.Exp{ID: store.NewID(), DAID: f.da.ID, Name: "exp0", NQN: "nqn.2016-06.io.spdk:vda-exp-da0-exp0", InitiatorNQN: "nqn.x",
		Serial: "1", NSUUID: "u"}
	f.update(func(tx store.Tx) error {
		for i := range f.dn {
			f.dn[i] = &vda.DN{Node: vda.Node{ID: store.NewID(), Name: fmt.Sprintf("dn%d:9720", i), Online: true, Version: 2}}
			f.pd[i] = &vda.PD{ID: store.NewID(), DNID: f.dn[i].ID, Name: "pd0", Version: 1}
			if err := errors.Join(tx.InsertNode(vda.DiskNode, &f.dn[i].Node), tx.InsertPD(f.pd[i])); err != nil {
				return err
			}
			f.agents.Start(f.dn[i].Name)
		}
		if err := errors.Join(tx.InsertDA(f.da), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: f.da.ID, Size: 10 << 20}),
			tx.InsertExp(f.exp)); err != nil {
			return err
		}
		for i := range f.cn {
			f.cn[i] = &vda.CN{Node: vda.Node{ID: store.NewID(), Name: fmt.Sprintf("cn%d:9820", i), Online: true, Version: 2}}
			f.cntlr[i] = &vda.Cntlr{ID: store.NewID(), DAID: f.da.ID, CNID: f.cn[i].ID, Idx: uint32(i), Primary: i == 0, Version: 2}
			f.es[i] = &vda.ES{ID: store.NewID(), ExpID: f.exp.ID, CntlrID: f.cntlr[i].ID}
			if err := errors.Join(tx.InsertNode(vda.ControllerNode, &f.cn[i].Node), tx.InsertCntlr(f.cntlr[i]), tx.InsertES(f.es[i])); err != nil {
				return err
			}
			f.agents.Start(f.cn[i].Name)
		}
		return nil
	})
	// The pds are formatted first, so that they have room for the vds.
	for i := range f.dn {
		f.ok(f.syncer.Sync(t.Context(), array.DN(f.dn[i].ID), syncer.Changes))
	}
	f.update(func(tx store.Tx) error {
		for i := range f.vd {
			v, err := tx.BumpNode(vda.DiskNode, f.dn[i].ID)
			f.vd[i] = &vda.VD{ID: store.NewID(), DAID: f.da.ID, Idx: uint32(i), PDID: f.pd[i].ID, DNID: f.dn[i].ID, Clusters: 5, Size: 5 << 20,
				MirrorID: fmt.Sprint("m", i), Version: v}
			m := &vda.Mirror{ID: f.vd[i].MirrorID, DAID: f.da.ID, Idx: uint32(i), Size: 5 << 20, Gen: 1}
			if err := errors.Join(err, tx.TakePD(f.pd[i].ID, 5), tx.InsertVD(f.vd[i]), tx.InsertMirror(m)); err != nil {
				return err
			}
		}
		return nil
	})
	f.forget()
	return f
}

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) update(fn func(store.Tx) error) {
	f.Helper()
	f.ok(f.store.Update(f.Context(), fn))
}

func (f *fixture) view(fn func(store.Reader) error) {
	f.Helper()
	f.ok(f.store.View(f.Context(), fn))
}

// forget drops the calls the agents have got so far.
func (f *fixture) forget() {
	for i := range f.dn {
		f.agents.Agent(f.dn[i].Name).Syncs()
	}
	for i := range f.cn {
		if a := f.agents.Agent(f.cn[i].Name); a != nil {
			a.Syncs()
		}
	}
}

// syncAll syncs all nodes, which must work.
func (f *fixture) syncAll() {
	f.Helper()
	for i := range f.dn {
		f.ok(f.syncer.Sync(f.Context(), array.DN(f.dn[i].ID), syncer.Changes))
	}
	for i := range f.cn {
		f.ok(f.syncer.Sync(f.Context(), array.CN(f.cn[i].ID), syncer.Changes))
	}
}

// behind returns the names of nodes whose Applied is below their Version.
func (f *fixture) behind() []string {
	var names []string
	f.view(func(tx store.Reader) error {
		names = nil
		dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
		for _, n := range dns {
			if n.Applied < n.Version {
				names = append(names, n.Name)
			}
		}
		cns, _, err2 := tx.ListCN(store.NodeFilter{}, store.Page{})
		for _, n := range cns {
			if n.Applied < n.Version {
				names = append(names, n.Name)
			}
		}
		return errors.Join(err, err2)
	})
	return names
}

func (f *fixture) equal(what string, got, want any) {
	f.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		f.Fatalf("%s: got %s, want %s", what, g, w)
	}
}

func TestCreate(t *testing.T) {
	f := newFixture(t)
	f.view(func(tx store.Reader) error {
		pd, err := tx.PD(f.pd[0].ID)
		f.equal("pd after format", []any{pd.ClusterSize, pd.TotalClusters, pd.FreeClusters}, []any{1 << 20, 100, 95})
		return err
	})
	f.syncAll()
	f.equal("behind", f.behind(), []string{})
	s := f.agents.Agent("cn0:9820").Syncs()
	f.equal("syncs of the primary", len(s), 2) // create, then the news that it is created
	c := s[0].Cn.Cntlrs[0]
	f.equal("create", []any{c.Primary, c.Create, c.MinCntlid, c.MaxCntlid, c.Term, c.HostNqn, len(c.Grps), len(c.Grps[0].Vds),
		len(c.SecondaryHostNqns)},
		[]any{true, true, 1, 1000, 1, vda.PrimaryHostNQN(f.da.ID, 1), 1, 2, 2})
	f.equal("vd target", c.Grps[0].Vds[1].Nqn, "nqn.2016-06.io.spdk:vda-vd-"+f.vd[1].ID)
	f.equal("exp", []any{c.Exps[0].EsId}, []any{f.es[0].ID})
	if s[1].Cn.Cntlrs[0].Create {
		t.Error("the array is to be created twice")
	}
	c = f.agents.Agent("cn2:9820").Syncs()[0].Cn.Cntlrs[0]
	f.equal("secondary", []any{c.Primary, c.Create, c.MinCntlid, c.MaxCntlid, c.HostNqn, len(c.Grps), c.PrimaryCnId},
		[]any{false, false, 2001, 3000, vda.ProxyHostNQN(c.Id), 0, f.cn[0].ID})
	v := f.agents.Agent("dn0:9720").Syncs()[0].Dn.Vds[0]
	f.equal("vd", []any{v.HostNqn, v.Term, v.Size, len(v.Uuid)}, []any{vda.PrimaryHostNQN(f.da.ID, 1), 1, 5 << 20, 36})
	f.view(func(tx store.Reader) error {
		da, err := tx.DA(f.da.ID)
		f.equal("created", da.Created, true)
		return err
	})
}

func TestDelta(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	f.forget()
	f.syncAll()
	f.equal("objects of an empty delta", len(f.agents.Agent("dn0:9720").Syncs()[0].IDs), 0)

	a := f.agents.Agent("dn0:9720")
	a.Forget() // its state directory is lost
	f.ok(f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Changes))
	s := a.Syncs()
	f.equal("refused, then full", []any{len(s), s[0].Refused, s[1].Base, len(s[1].IDs)}, []any{2, true, 0, 2})
	if s[1].Dn.Pds[0].Format {
		t.Error("a disk that was formatted once would be formatted again")
	}
	f.ok(f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Full))
	f.equal("full", len(a.Syncs()[0].IDs), 2)
}

// TestCauseComesFirst: an array's error is that of its vd, not what the
// controllers met for want of it, and the primary's before a secondary's.
func TestCauseComesFirst(t *testing.T) {
	f := newFixture(t)
	msg := func() (m string) {
		f.syncAll()
		f.view(func(tx store.Reader) error {
			da, err := tx.DA(f.da.ID)
			m = da.Health.Msg
			return err
		})
		return m
	}
	f.ok(f.store.Update(t.Context(), func(tx store.Tx) error { // the primary is not the first of the list
		f.cntlr[0].Primary, f.cntlr[1].Primary = false, true
		return errors.Join(tx.UpdateCntlr(f.cntlr[0]), tx.UpdateCntlr(f.cntlr[1]))
	}))
	for i := range 2 {
		f.agents.Agent(fmt.Sprintf("cn%d:9820", i)).Fail(f.cntlr[i].ID, fmt.Sprintf("connect invalid parameters %d", i))
	}
	f.agents.Agent("dn0:9720").Fail(f.vd[0].ID, "no space")
	f.equal("all", msg(), "vd 0 of group 0: no space (and 2 more)")
	f.agents.Agent("dn0:9720").Fail(f.vd[0].ID, "")
	f.equal("controllers", msg(), "controller 1: connect invalid parameters 1 (and 1 more)")
}

// TestAiling: an object that is as desired on a disk that is not well shows the
// error, up to its array, and is not sent again for it: its node is not behind.
func TestAiling(t *testing.T) {
	f := newFixture(t)
	f.agents.Agent("dn0:9720").Ail(f.vd[0].ID, "3 I/O errors")
	f.syncAll()
	f.equal("behind", f.behind(), []string{})
	f.view(func(tx store.Reader) error {
		vd, err := tx.VD(f.vd[0].ID)
		da, err2 := tx.DA(f.da.ID)
		f.equal("errors", []string{vd.Health.Msg, da.Health.Msg}, []string{"3 I/O errors", "vd 0 of group 0: 3 I/O errors"})
		return errors.Join(err, err2)
	})
}

// TestUnfinished shows that an object in error is named again until it heals.
func TestUnfinished(t *testing.T) {
	f := newFixture(t)
	a := f.agents.Agent("dn0:9720")
	a.Fail(f.vd[0].ID, "no space")
	f.syncAll()
	f.equal("behind", f.behind(), []string{"dn0:9720"})
	health := func() (vd, da vda.Health) {
		f.view(func(tx store.Reader) error {
			v, err := tx.VD(f.vd[0].ID)
			d, err2 := tx.DA(f.da.ID)
			vd, da = v.Health, d.Health
			return errors.Join(err, err2)
		})
		return
	}
	vd, da := health()
	f.equal("errors", []string{vd.Msg, da.Msg}, []string{"no space", "vd 0 of group 0: no space"})
	a.Syncs()
	a.Fail(f.vd[0].ID, "")
	f.syncAll()
	f.equal("named again", a.Syncs()[0].IDs, []string{f.vd[0].ID})
	f.equal("behind", f.behind(), []string{})
	vd, da = health()
	f.equal("healed", []any{vd, da}, []any{vda.Health{}, vda.Health{}})
}

func TestDelete(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	// The exporter first.
	f.update(func(tx store.Tx) error {
		f.exp.Deleted = true
		if err := tx.UpdateExp(f.exp); err != nil {
			return err
		}
		for _, c := range f.cntlr {
			row, err := tx.Cntlr(c.ID)
			if err != nil {
				return err
			}
			if row.Version, err = tx.BumpNode(vda.ControllerNode, c.CNID); err != nil {
				return err
			}
			if err := tx.UpdateCntlr(row); err != nil {
				return err
			}
		}
		return nil
	})
	f.ok(f.syncer.Sync(t.Context(), array.CN(f.cn[0].ID), syncer.Changes))
	f.ok(f.syncer.Sync(t.Context(), array.CN(f.cn[1].ID), syncer.Changes))
	f.view(func(tx store.Reader) error { _, err := tx.Exp(f.exp.ID); return err }) // one state is left
	f.ok(f.syncer.Sync(t.Context(), array.CN(f.cn[2].ID), syncer.Changes))
	lookup := f.store.View(t.Context(), func(tx store.Reader) error { _, err := tx.Exp(f.exp.ID); return err })
	if err := lookup; err == nil || vda.KindOf(err) != vda.NotFound {
		t.Fatalf("exp is still there: %v", err)
	}

	// Then the array, with one dn away.
	f.update(func(tx store.Tx) error {
		da, err := tx.DA(f.da.ID)
		if err != nil {
			return err
		}
		da.Deleted = true
		if err := tx.UpdateDA(da); err != nil {
			return err
		}
		for _, v := range f.vd {
			row, err := tx.VD(v.ID)
			if err != nil {
				return err
			}
			row.Deleted = true
			if row.Version, err = tx.BumpNode(vda.DiskNode, v.DNID); err != nil {
				return err
			}
			if err := tx.UpdateVD(row); err != nil {
				return err
			}
		}
		for _, c := range f.cntlr {
			row, err := tx.Cntlr(c.ID)
			if err != nil {
				return err
			}
			row.Deleted = true
			if row.Version, err = tx.BumpNode(vda.ControllerNode, c.CNID); err != nil {
				return err
			}
			if err := tx.UpdateCntlr(row); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range f.cn {
		f.ok(f.syncer.Sync(t.Context(), array.CN(f.cn[i].ID), syncer.Changes))
	}
	s := f.agents.Agent("cn0:9820").Syncs()
	last := s[len(s)-1].Cn
	if c := last.Cntlrs[0]; !c.Deleted || !c.DestroyData || !last.AllowEmpty {
		t.Errorf("tombstone of the primary: %v", last)
	}
	gone := f.agents.Agent("dn1:9720")
	gone.Stop()
	f.ok(f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Changes))
	err := f.syncer.Sync(t.Context(), array.DN(f.dn[1].ID), syncer.Changes)
	if vda.KindOf(err) != vda.Unavailable || !strings.Contains(err.Error(), "dn1:9720") {
		t.Errorf("a dn that is away: %v", err)
	}
	f.view(func(tx store.Reader) error {
		das, err := tx.DeletedDAs()
		f.equal("tombstones of arrays", len(das), 1)
		return err
	})
	gone.Start()
	fakeagent.Wait(t, "sync after the dn came back", func() bool {
		return f.syncer.Sync(t.Context(), array.DN(f.dn[1].ID), syncer.Changes) == nil
	})
	f.view(func(tx store.Reader) error {
		das, err := tx.DeletedDAs()
		f.equal("tombstones of arrays", len(das), 0)
		for i := range f.pd {
			pd, err := tx.PD(f.pd[i].ID)
			if err != nil {
				return err
			}
			f.equal("space given back", []any{pd.FreeClusters, pd.VDCount}, []any{100, 0})
		}
		cn, err2 := tx.CN(f.cn[0].ID)
		f.equal("controllers", []any{cn.CntlrCount, cn.PrimaryCount}, []any{0, 0})
		return errors.Join(err, err2)
	})
	f.equal("behind", f.behind(), []string{})
	for _, a := range []string{"dn0:9720", "dn1:9720"} {
		f.equal("left on "+a, len(f.agents.Agent(a).Objects()), 1) // the pd
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	a := f.agents.Agent("dn0:9720")
	for name, c := range map[string]struct {
		err  error
		kind vda.Kind
		want string
	}{
		"precondition": {status.Error(codes.FailedPrecondition, "wrong listener"), vda.FailedPrecondition, "sync refused: wrong listener"},
		"invalid":      {status.Error(codes.InvalidArgument, "bad size"), vda.InvalidArgument, "sync refused: bad size"},
		"internal":     {status.Error(codes.Internal, "oops"), vda.Internal, "sync refused: oops"},
		"unavailable":  {status.Error(codes.Unavailable, "x"), vda.Unavailable, ""},
	} {
		a.Refuse(c.err)
		err := f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Changes)
		if vda.KindOf(err) != c.kind || syncer.Refusal(err) != c.want {
			t.Errorf("%s: %v, refusal %q", name, err, syncer.Refusal(err))
		}
	}
	a.Refuse(nil)
	a.Join(f.clusterID(), f.dn[0].ID, 99)
	err := f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Changes)
	if !strings.Contains(syncer.Refusal(err), "restoring a backup") {
		t.Errorf("a node ahead of the database: %v", err)
	}
	f.equal("requests to it", len(a.Syncs()), 5) // no full set is tried
	impatient, err := syncer.New(syncer.Config{Store: f.store, Dial: f.agents, Timeout: 50 * time.Millisecond})
	f.ok(err)
	f.agents.Agent("dn1:9720").Hang(true)
	err = impatient.Sync(t.Context(), array.DN(f.dn[1].ID), syncer.Changes)
	if vda.KindOf(err) != vda.Unavailable || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("a hung agent: %v", err)
	}
	if err := f.syncer.Sync(t.Context(), array.DN(store.NewID()), syncer.Changes); vda.KindOf(err) != vda.NotFound {
		t.Errorf("an unknown dn: %v", err)
	}
}

func (f *fixture) clusterID() (id string) {
	f.view(func(tx store.Reader) (err error) { id, err = tx.ClusterID(); return err })
	return id
}

func TestShrunkPD(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	a := f.agents.Agent("dn0:9720")
	msg := func() (m string) {
		f.view(func(tx store.Reader) error {
			pd, err := tx.PD(f.pd[0].ID)
			m = fmt.Sprintln(pd.TotalClusters, pd.FreeClusters, pd.Health.Msg)
			return err
		})
		return m
	}
	a.SetCapacity(4) // 5 are in use
	f.ok(f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Full))
	f.equal("too small", msg(), "100 95 the disk has become smaller than what is in use\n")
	a.SetCapacity(200)
	f.ok(f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Full))
	f.equal("grown", msg(), "200 195 \n")
}

func (f *fixture) primary() (cn string, term uint64) {
	f.view(func(tx store.Reader) error {
		cn = ""
		da, err := tx.DA(f.da.ID)
		if err != nil {
			return err
		}
		term = da.Term
		cntlrs, err := tx.CntlrsOfDA(f.da.ID)
		for _, c := range cntlrs {
			if c.Primary {
				n, err := tx.CN(c.CNID)
				if err != nil {
					return err
				}
				cn += n.Name
			}
		}
		return err
	})
	return cn, term
}

// order checks that every call of a comes before every call of b.
func (f *fixture) order(what string, a, b []fakeagent.Sync) {
	f.Helper()
	if len(a) == 0 || len(b) == 0 {
		f.Fatalf("%s: %d calls, then %d", what, len(a), len(b))
	}
	if a[len(a)-1].At > b[0].At {
		f.Errorf("%s: call %d came after call %d", what, a[len(a)-1].At, b[0].At)
	}
}

func TestPlannedSwitch(t *testing.T) {
	f := newFixture(t)
	if err := f.syncer.FailoverDa(t.Context(), f.da.ID, ""); vda.KindOf(err) != vda.FailedPrecondition {
		t.Errorf("an array that was never up: %v", err)
	}
	f.syncAll()
	f.forget()
	f.ok(f.syncer.FailoverDa(t.Context(), f.da.ID, f.cn[2].ID))
	cn, term := f.primary()
	f.equal("primary", []any{cn, term}, []any{"cn2:9820", 2})
	old, dn0, dn1 := f.agents.Agent("cn0:9820").Syncs(), f.agents.Agent("dn0:9720").Syncs(), f.agents.Agent("dn1:9720").Syncs()
	now, other := f.agents.Agent("cn2:9820").Syncs(), f.agents.Agent("cn1:9820").Syncs()
	for _, n := range []string{"cn1:9820", "cn2:9820"} {
		told := f.agents.Agent(n).StandBys()
		if len(told) != 1 || !slices.Equal(told[0].DaIDs, []string{f.da.ID}) || told[0].At > old[0].At {
			f.Errorf("%s stands by %v, before the old primary retires in call %d", n, told, old[0].At)
		}
	}
	if told := f.agents.Agent("cn0:9820").StandBys(); len(told) > 0 {
		f.Errorf("the old primary stands by: %v", told)
	}
	f.order("retire before fence", old[:1], dn0)
	f.order("fence before promote", dn0, now)
	f.order("fence before promote", dn1, now)
	f.order("promote before follow", now, other)
	if c := old[0].Cn.Cntlrs[0]; c.Primary || c.Deleted || c.Term != 2 || c.PrimaryCnId != f.cn[2].ID {
		t.Errorf("the old primary is told %v", c)
	}
	if c := now[0].Cn.Cntlrs[0]; !c.Primary || c.Create || c.HostNqn != vda.PrimaryHostNQN(f.da.ID, 2) || c.MinCntlid != 2001 {
		t.Errorf("the new primary is told %v", c)
	}
	if v := dn0[0].Dn.Vds[0]; v.HostNqn != vda.PrimaryHostNQN(f.da.ID, 2) || v.Term != 2 {
		t.Errorf("the dn is told %v", v)
	}
	f.equal("behind", f.behind(), []string{})
	f.view(func(tx store.Reader) error {
		a, err := tx.CN(f.cn[0].ID)
		b, err2 := tx.CN(f.cn[2].ID)
		f.equal("primaries counted", []any{a.PrimaryCount, b.PrimaryCount}, []any{0, 1})
		return errors.Join(err, err2)
	})
	for to, want := range map[string]string{f.cn[2].ID: "no controller that could", store.NewID(): "no controller that could"} {
		if err := f.syncer.FailoverDa(t.Context(), f.da.ID, to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

// TestResume cuts a failover off after each stage; whatever node is synced
// first then, dns are fenced before the new primary is told.
func TestResume(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	f.agents.Agent("cn0:9820").Stop()
	ctx, cancel := context.WithCancel(t.Context())
	for _, n := range f.dn {
		f.agents.Agent(n.Name).Hang(true)
	}
	f.agents.Agent("cn1:9820").Hang(true)
	go func() { // after stage 1, when the dns have been asked, the monitor dies
		defer cancel()
		for t.Context().Err() == nil && (f.agents.Agent(f.dn[0].Name).Waited() == 0 || f.agents.Agent(f.dn[1].Name).Waited() == 0) {
			time.Sleep(time.Millisecond)
		}
	}()
	err := f.syncer.Move(ctx, []array.Move{{DAID: f.da.ID, Term: 1, To: f.cntlr[1].ID}})[0]
	if err == nil {
		t.Fatal("the move was not cut off")
	}
	cn, term := f.primary()
	f.equal("primary", []any{cn, term}, []any{"cn1:9820", 2})
	for _, n := range f.dn {
		f.agents.Agent(n.Name).Hang(false)
	}
	f.agents.Agent("cn1:9820").Hang(false)
	f.forget()
	f.ok(f.syncer.Sync(t.Context(), array.CN(f.cn[1].ID), syncer.Changes)) // another monitor
	now := f.agents.Agent("cn1:9820").Syncs()
	for _, n := range f.dn {
		f.order("fence before promote", f.agents.Agent(n.Name).Syncs(), now)
	}
	f.equal("term on the dns", []uint64{f.agents.Agent("dn0:9720").Term(f.da.ID), f.agents.Agent("dn1:9720").Term(f.da.ID)}, []uint64{2, 2})

	if told := f.agents.Agent("cn1:9820").StandBys(); len(told) > 0 {
		t.Errorf("a failover has nobody stand by: %v", told)
	}

	// A second monitor that decided the same on an older picture is too late.
	err = f.syncer.Move(t.Context(), []array.Move{{DAID: f.da.ID, Term: 1, To: f.cntlr[2].ID}})[0]
	if vda.KindOf(err) != vda.FailedPrecondition {
		t.Errorf("a move decided in an old term: %v", err)
	}
}

func TestMoveMany(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	const arrays = 60
	moves := []array.Move{}
	f.update(func(tx store.Tx) error {
		moves = moves[:0]
		for i := range arrays {
			da := *f.da
			da.ID, da.Name, da.Created = store.NewID(), fmt.Sprint("many", i), true
			if err := errors.Join(tx.InsertDA(&da), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: da.ID})); err != nil {
				return err
			}
			for j := range f.vd {
				v, err := tx.BumpNode(vda.DiskNode, f.dn[j].ID)
				if err := errors.Join(err, tx.TakePD(f.pd[j].ID, 1),
					tx.InsertMirror(&vda.Mirror{ID: fmt.Sprint("m", i, "-", j), DAID: da.ID, Idx: uint32(j), Size: 1 << 20, Gen: 1}),
					tx.InsertVD(&vda.VD{ID: store.NewID(), DAID: da.ID, Idx: uint32(j), PDID: f.pd[j].ID, MirrorID: fmt.Sprint("m", i, "-", j),
						DNID: f.dn[j].ID, Clusters: 1, Size: 1 << 20, Version: v})); err != nil {
					return err
				}
			}
			for j := range 2 {
				v, err := tx.BumpNode(vda.ControllerNode, f.cn[j].ID)
				c := &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: f.cn[j].ID, Idx: uint32(j), Primary: j == 0, Version: v}
				if err := errors.Join(err, tx.InsertCntlr(c)); err != nil {
					return err
				}
				if j == 1 {
					moves = append(moves, array.Move{DAID: da.ID, Term: 1, To: c.ID})
				}
			}
		}
		return nil
	})
	f.syncAll()
	f.forget()
	f.agents.Agent("cn0:9820").Stop()
	// A call to a dn that has taken longer than FenceTimeout is repeated.
	patient, err := syncer.New(syncer.Config{Store: f.store, Dial: f.agents, Timeout: 2 * time.Minute, FenceTimeout: time.Minute,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range patient.Move(t.Context(), moves) {
		if err != nil {
			t.Fatalf("move %d: %v", i, err)
		}
	}
	s := f.agents.Agent("dn0:9720").Syncs()
	f.equal("calls to a dn", len(s), 1)
	f.equal("vds told in it", len(s[0].IDs), arrays)
	s = f.agents.Agent("cn1:9820").Syncs()
	f.equal("controllers told in the first call", len(s[0].IDs), arrays)
	if slices.Contains(f.behind(), "cn1:9820") {
		t.Error("the new primary's cn is behind")
	}
}
