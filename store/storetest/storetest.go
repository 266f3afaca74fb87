// Package storetest is the conformance suite of store.Store: every database
// must pass it unchanged.
package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Run checks the store that uri names. Its schema exists; what other tests
// left in it does not matter, for all names made here are new.
func Run(t *testing.T, uri string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	for _, c := range []struct {
		name string
		fn   func(*testing.T, *suite)
	}{
		{"ClusterID", testClusterID},
		{"DN", testDN},
		{"CN", testCN},
		{"Some", testSome},
		{"PD", testPD},
		{"DA", testDA},
		{"VD", testVD},
		{"Draining", testDraining},
		{"Cntlr", testCntlr},
		{"Exp", testExp},
		{"Snap", testSnap},
		{"Tags", testTags},
		{"Trash", testTrash},
		{"Suspects", testSuspects},
		{"Several", testSeveral},
		{"Security", testSecurity},
		{"Paging", testPaging},
		{"Tombstones", testTombstones},
		{"Health", testHealth},
		{"Versions", testVersions},
		{"Marks", testMarks},
		{"References", testReferences},
		{"Text", testText},
		{"Ways", testWays},
		{"AilingVDs", testAilingVDs},
		{"LegsOf", testLegsOf},
		{"OnNode", testOnNode},
		{"CntlrsOfDAs", testCntlrsOfDAs},
		{"OrphanSpace", testOrphanSpace},
		{"Monitors", testMonitors},
		{"Events", testEvents},
		{"OldEvents", testOldEvents},
		{"Rollback", testRollback},
		{"View", testView},
		{"Unlocked", testUnlocked},
		{"TakePD", testTakePD},
		{"ReadModifyWrite", testReadModifyWrite},
		{"ConflictRetry", testConflictRetry},
		{"Deadlock", testDeadlock},
		{"Cancel", testCancel},
	} {
		t.Run(c.name, func(t *testing.T) { c.fn(t, &suite{Store: s, ctx: ctx}) })
	}
}

type suite struct {
	store.Store
	ctx context.Context
}

func (s *suite) update(t *testing.T, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(s.ctx, fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func (s *suite) view(t *testing.T, fn func(store.Reader) error) {
	t.Helper()
	if err := s.View(s.ctx, fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// refused runs fn in an update that must fail with the kind.
func (s *suite) refused(t *testing.T, kind vda.Kind, fn func(store.Tx) error) {
	t.Helper()
	err := s.Update(s.ctx, fn)
	var e *vda.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("got %v, want an error of kind %q", err, kind)
	}
	if e.Object == "" {
		t.Errorf("error names no object: %v", err)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s: -want +got\n%s", what, d)
	}
}

func ptr[T any](v T) *T { return &v }

// noon is a time with the precision that the store keeps.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)

// The newX functions return a row with every field set.

func newDN() *vda.DN {
	id := store.NewID()
	return &vda.DN{Node: vda.Node{ID: id, Name: "dn-" + id, Addr: id + ":9720", Location: "rack-" + id, Online: true, Version: 3, Applied: 2,
		Listener:         vda.Listener{TrType: "tcp", TrAddr: "192.168.0.14", AdrFam: "ipv4", TrSvcID: "4420"},
		DataPlaneVersion: "SPDK v26.05", AgentVersion: "1.2", Health: vda.Health{Error: true, Msg: "new", Since: noon}}}
}

func newCN() *vda.CN {
	id := store.NewID()
	return &vda.CN{Node: vda.Node{ID: id, Name: "cn-" + id + ":9820", Location: "rack-" + id, Online: true, Version: 3, Applied: 2,
		Listener:         vda.Listener{TrType: "tcp", TrAddr: "192.168.0.16", AdrFam: "ipv4", TrSvcID: "4430"},
		DataPlaneVersion: "SPDK v26.05", AgentVersion: "1.2", Health: vda.Health{Error: true, Msg: "new", Since: noon}}}
}

func newPD(dn *vda.DN) *vda.PD {
	id := store.NewID()
	return &vda.PD{ID: id, DNID: dn.ID, Name: "pd-" + id, Conf: `{"type":"malloc","size":67108864}`, Online: true,
		ClusterSize: 1 << 20, TotalClusters: 100, FreeClusters: 100, Version: 4, Health: vda.Health{Error: true, Msg: "new", Since: noon}}
}

func newDA() *vda.DA {
	id := store.NewID()
	return &vda.DA{ID: id, Name: "da-" + id, Size: 1 << 40, PhysicalSize: 1 << 39, CntlrCnt: 2, StripeCount: 2, StripeSizeKB: 64,
		Conf: `{"stripe_count":2}`, ClusterSize: 1 << 20, Redundancy: vda.Mirror2, MinLegs: 1, Term: 5, Moving: noon, Created: true,
		Limits: vda.Limits{RWIOs: 1000, RWMB: 2, RMB: 3, WMB: 4},
		Health: vda.Health{Error: true, Msg: "new", Since: noon}}
}

func newVD(da *vda.DA, pd *vda.PD) *vda.VD {
	return &vda.VD{ID: store.NewID(), DAID: da.ID, GrpIdx: 0, Idx: 1, PDID: pd.ID, DNID: pd.DNID, Clusters: 7, Size: 7 << 20, MirrorID: "m",
		Role: vda.Stale, Leaving: true, Moved: true, Epoch: 3, Version: 9,
		Health: vda.Health{Error: true, Msg: "new", Since: noon}}
}

func newCntlr(da *vda.DA, cn *vda.CN, idx uint32) *vda.Cntlr {
	return &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: cn.ID, Idx: idx, Primary: idx == 0, Version: 4,
		Health: vda.Health{Error: true, Msg: "new", Since: noon}}
}

func newExp(da *vda.DA) *vda.Exp {
	id := store.NewID()
	return &vda.Exp{ID: id, DAID: da.ID, Name: "exp-" + id, NQN: "nqn.2016-06.io.spdk:vda-exp-" + id,
		InitiatorNQN: "nqn.2016-06.io.spdk:host-" + id, MoreHosts: []string{"nqn.2016-06.io.spdk:other-" + id},
		Keys: []vda.HostKeys{{NQN: "nqn.2016-06.io.spdk:other-" + id, New: vda.KeyPair{ID: "2", Host: "new", Ctrlr: "its"},
			Old: &vda.KeyPair{ID: "1", Host: "old"}}},
		SnapName: "snap", Serial: id[:20], NSUUID: id, Version: 4}
}

// cluster is a dn with a pd, a cn, and a da of one vd, one cntlr and one exp.
type cluster struct {
	dn    *vda.DN
	pd    *vda.PD
	cn    *vda.CN
	da    *vda.DA
	vd    *vda.VD
	cntlr *vda.Cntlr
	exp   *vda.Exp
	es    *vda.ES
}

func (s *suite) newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{dn: newDN(), cn: newCN(), da: newDA()}
	c.pd = newPD(c.dn)
	c.vd = newVD(c.da, c.pd)
	c.cntlr = newCntlr(c.da, c.cn, 0)
	c.exp = newExp(c.da)
	c.es = &vda.ES{ID: store.NewID(), ExpID: c.exp.ID, CntlrID: c.cntlr.ID}
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.InsertNode(vda.DiskNode, &c.dn.Node), tx.InsertPD(c.pd), tx.InsertNode(vda.ControllerNode, &c.cn.Node),
			tx.InsertDA(c.da),
			tx.InsertVD(c.vd), tx.InsertCntlr(c.cntlr), tx.InsertExp(c.exp), tx.InsertES(c.es))
	})
	return c
}
