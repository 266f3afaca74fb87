package portal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestSpaceOfOrphans: what is in use on a disk and unknown to the database is
// not free, until it is gone.
func TestSpaceOfOrphans(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20}))
	pd := func() *apiv1.PdMsg {
		must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720"}))
		return must[*apiv1.GetPdReply](t)(client.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720", PdName: "pd0"})).PdMsg
	}
	before := pd()
	if before.OrphanSize != 0 || before.FreeSize == 0 {
		t.Fatalf("pd %v", before)
	}
	c.Agent("dn0:9720").Occupy(100)
	with := pd()
	if with.OrphanSize != 100<<20 || with.FreeSize != before.FreeSize-100<<20 {
		t.Errorf("with 100 MiB of orphans: %v, before %v", with, before)
	}
	_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da1", DaSize: 64 << 20})
	refusal(t, err, codes.ResourceExhausted, 10)
	must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	if free := pd(); free.OrphanSize != 100<<20 || free.FreeSize+free.OrphanSize != free.TotalSize {
		t.Errorf("without the array: %v", free)
	}
	c.Agent("dn0:9720").Occupy(0)
	if free := pd(); free.OrphanSize != 0 || free.FreeSize != free.TotalSize {
		t.Errorf("without orphans: %v", free)
	}
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da1", DaSize: 64 << 20}))
}

// TestNodeAddedAgain: a node that was deleted by force and is added again lets
// go of what it has when its user says so, and works.
func TestNodeAddedAgain(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	dn := &apiv1.CreateDnRequest{DnName: "dn0:9720", DnListenerConf: portaltest.Listener(4000)}
	must[*apiv1.DeleteDnReply](t)(client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: "dn0:9720", Force: true}))
	r := must[*apiv1.CreateDnReply](t)(client.CreateDn(ctx, dn))
	if !r.DnMsg.Error || !strings.Contains(r.ReplyInfo.ReplyMsg, "allow_empty") {
		t.Errorf("reply %v", r)
	}
	s := must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720", AllowEmpty: true}))
	if s.ReplyInfo.ReplyMsg != "success" {
		t.Errorf("reply %v", s)
	}
	// As the monitor does at its next heartbeat.
	if err := c.Store.Update(ctx, func(tx store.Tx) error { return tx.SetHealth(store.ObjDN, r.DnMsg.DnId, vda.Health{}) }); err != nil {
		t.Fatal(err)
	}
	if held := c.Agent("dn0:9720").Objects(); len(held) > 0 {
		t.Errorf("%v are left", held)
	}
	must[*apiv1.CreatePdReply](t)(client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: "pd0", PdConf: `{"type":"malloc","size":134217728}`}))
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20}))
}

// forget takes an array out of the database, as restoring a backup does that is
// older than it, and has all nodes brought to that state.
func forget(t *testing.T, c *portaltest.Cluster, client apiv1.PortalClient, name string) {
	t.Helper()
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		da, err := tx.DAByName(name)
		if err != nil {
			return err
		}
		var errs error
		exps, err := tx.ExpsOfDA(da.ID)
		errs = errors.Join(errs, err)
		for _, e := range exps {
			ess, err := tx.ESsOfExp(e.ID)
			errs = errors.Join(errs, err)
			for _, es := range ess {
				errs = errors.Join(errs, tx.DeleteES(es.ID))
			}
			errs = errors.Join(errs, tx.DeleteExp(e.ID))
		}
		snaps, err := tx.SnapsOfDA(da.ID)
		errs = errors.Join(errs, err)
		for _, s := range snaps {
			errs = errors.Join(errs, tx.DeleteSnap(s.ID))
		}
		cntlrs, err := tx.CntlrsOfDA(da.ID)
		errs = errors.Join(errs, err)
		for _, c := range cntlrs {
			errs = errors.Join(errs, tx.DeleteCntlr(c.ID))
		}
		vds, err := tx.VDsOfDA(da.ID)
		errs = errors.Join(errs, err)
		for _, v := range vds {
			errs = errors.Join(errs, tx.DeleteVD(v.ID), tx.GivePD(v.PDID, v.Clusters))
		}
		mirrors, err := tx.MirrorsOfDA(da.ID)
		errs = errors.Join(errs, err)
		for _, m := range mirrors {
			errs = errors.Join(errs, tx.DeleteMirror(m.ID))
		}
		grps, err := tx.GrpsOfDA(da.ID)
		errs = errors.Join(errs, err)
		for _, g := range grps {
			errs = errors.Join(errs, tx.DeleteGrp(g.ID))
		}
		return errors.Join(errs, tx.DeleteDA(da.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dn := range must[*apiv1.ListDnReply](t)(client.ListDn(ctx, &apiv1.ListDnRequest{})).DnMsgList {
		must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: dn.DnName, AllowEmpty: true}))
	}
	for _, cn := range must[*apiv1.ListCnReply](t)(client.ListCn(ctx, &apiv1.ListCnRequest{})).CnMsgList {
		must[*apiv1.SyncupCnReply](t)(client.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: cn.CnName, AllowEmpty: true}))
	}
}

// TestOrphans: an array that a restored database does not know is listed; it is
// adopted with its vds, controllers and exporters as they were, or deleted
// with its data.
func TestOrphans(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2, DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e",
		InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	get := func() *apiv1.DaMsg {
		t.Helper()
		return must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
	}
	free := func() (free, orphans uint64) {
		t.Helper()
		for _, pd := range must[*apiv1.ListPdReply](t)(client.ListPd(ctx, &apiv1.ListPdRequest{})).PdMsgList {
			free, orphans = free+pd.FreeSize, orphans+pd.OrphanSize
		}
		return free, orphans
	}
	list := func() map[string]int {
		t.Helper()
		kinds := map[string]int{}
		for _, o := range must[*apiv1.ListOrphanReply](t)(client.ListOrphan(ctx, &apiv1.ListOrphanRequest{})).OrphanMsgList {
			kinds[o.Kind]++
		}
		return kinds
	}
	before := get()
	beforeFree, _ := free()
	if l := list(); len(l) != 0 {
		t.Errorf("orphans of a cluster that is well: %v", l)
	}
	forget(t, c, client, "da0")
	if l := list(); l["da"] != 1 || l["vd"] != 2 {
		t.Fatalf("orphans %v", l)
	}
	if f, o := free(); f != beforeFree || o == 0 {
		t.Errorf("%d bytes free, %d of orphans; %d were free with the array", f, o, beforeFree)
	}
	_, err := client.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: before.GrpMsgList[0].VdMsgList[0].VdId})
	refusal(t, err, codes.FailedPrecondition, 8, "adopted with its da")
	_, err = client.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: "nix"})
	refusal(t, err, codes.NotFound, 3, "nix")
	r := must[*apiv1.AdoptOrphanReply](t)(client.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: before.DaId}))
	if r.ReplyInfo.ReplyMsg != "success" {
		t.Errorf("adopt: %v", r)
	}
	after := get()
	if after.Term <= before.Term || after.Error {
		t.Errorf("adopted: %v", after)
	}
	after.Term = before.Term
	if d := cmp.Diff(before, after, protocmp.Transform(), protocmp.IgnoreFields(&apiv1.DaMsg{}, "term")); d != "" {
		t.Errorf("adopted with a difference: %s", d)
	}
	exp := must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "e"})).ExpMsg
	if len(exp.EsMsgList) != 2 || exp.InitiatorNqn != "nqn.2016-06.io.spdk:h" {
		t.Errorf("exp %v", exp)
	}
	if f, o := free(); f != beforeFree || o != 0 {
		t.Errorf("adopted: %d bytes free, %d of orphans", f, o)
	}
	if l := list(); len(l) != 0 {
		t.Errorf("orphans after all was adopted: %v", l)
	}

	forget(t, c, client, "da0")
	must[*apiv1.DeleteOrphanReply](t)(client.DeleteOrphan(ctx, &apiv1.DeleteOrphanRequest{OrphanId: before.DaId}))
	if l := list(); len(l) != 0 {
		t.Errorf("orphans after all was deleted: %v", l)
	}
	for _, dn := range []string{"dn0:9720", "dn1:9720"} {
		must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: dn}))
	}
	if f, o := free(); f <= beforeFree || o != 0 {
		t.Errorf("deleted: %d bytes free, %d of orphans", f, o)
	}
}

// TestOrphanedPd: the pd of a dn that was deleted by force and is added again is
// adopted with its stamp, under its own name or another.
func TestOrphanedPd(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	pd := must[*apiv1.GetPdReply](t)(client.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720", PdName: "pd0"})).PdMsg
	must[*apiv1.DeleteDnReply](t)(client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: "dn0:9720", Force: true}))
	must[*apiv1.CreateDnReply](t)(client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: "dn0:9720", DnListenerConf: portaltest.Listener(4000)}))
	must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720", AllowEmpty: true}))
	l := must[*apiv1.ListOrphanReply](t)(client.ListOrphan(ctx, &apiv1.ListOrphanRequest{})).OrphanMsgList
	if len(l) != 1 || l[0].OrphanId != pd.PdId || l[0].Kind != "pd" || l[0].Conf != pd.PdConf {
		t.Fatalf("orphans %v", l)
	}
	must[*apiv1.AdoptOrphanReply](t)(client.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: pd.PdId, NewName: ptr("pd7")}))
	got := must[*apiv1.GetPdReply](t)(client.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720", PdName: "pd7"})).PdMsg
	if got.PdId != pd.PdId || got.TotalSize != pd.TotalSize {
		t.Errorf("adopted as %v", got)
	}
}

// TestAdoptThin: a thin array that is adopted has the physical size that it had, so that it
// can grow by itself again when it is told to. That it was to, and its labels, no node knows.
func TestAdoptThin(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 4, 2)
	c.CanMirror()
	const mib = 1 << 20
	for _, bought := range []uint64{4 * mib, 24 * mib} { // less than its size, and more
		first, limit := uint64(4*mib), uint64(32*mib)
		must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 16 * mib, PhysicalSize: &first,
			CntlrCnt: 2, AutoGrow: limit, DaConf: `{"stripe_count":1,"stripe_size_kb":64}`, Label: []string{"env=prod"}, Description: "a"}))
		if bought > first {
			must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", PhysicalSize: &bought}))
		}
		before := getDa(t, client)
		forget(t, c, client, "da0")
		must[*apiv1.AdoptOrphanReply](t)(client.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: before.DaId}))
		after := getDa(t, client)
		if !after.Thin || after.PhysicalSize != bought || len(after.GrpMsgList) != len(before.GrpMsgList) {
			t.Errorf("adopted: thin %v, physical_size %d in %d groups; it had %d in %d", after.Thin, after.PhysicalSize, len(after.GrpMsgList),
				bought, len(before.GrpMsgList))
		}
		if after.AutoGrow != 0 || len(after.LabelList) != 0 || after.Description != "" {
			t.Errorf("adopted: auto_grow %d, labels %v, description %q", after.AutoGrow, after.LabelList, after.Description)
		}
		must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", AutoGrow: &limit}))
		c.Change(func(tx store.Tx) error {
			da, err := tx.DAByName("da0")
			if err != nil {
				return err
			}
			full := vda.Space{Total: bought, Used: bought} // as its primary says
			if !array.RunsLow(da, array.SpaceReport{DAID: da.ID, Term: da.Term, Space: full}) {
				t.Errorf("with %d bytes of physical size, all in use, it does not run low", bought)
			}
			return nil
		})
		must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	}
}
