package portal_test

import (
	"fmt"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// TestArraysAreChangedInTheLockOrder: what a portal does with arrays and
// exporters, beside the transitions themselves, keeps to their lock order.
func TestArraysAreChangedInTheLockOrder(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	c.Populate(c.Client(), 3, 3)
	client := c.Client(func(cfg *portal.Config) { cfg.Store = storetest.Ordered(t, c.Store) })
	for i := range 3 {
		da := fmt.Sprint("da", i)
		must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx,
			&apiv1.CreateDaRequest{DaName: da, DaSize: 4 << 20, CntlrCnt: 3, DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}))
		must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx,
			&apiv1.CreateExpRequest{DaName: da, ExpName: "e", InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
		must[*apiv1.CreateSnapReply](t)(client.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: da, SnapName: "s"}))
		must[*apiv1.ModifySnapReply](t)(client.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: da, SnapName: "s", NewSnapName: ptr("s2")}))
		must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx,
			&apiv1.CreateExpRequest{DaName: da, ExpName: "of-snap", InitiatorNqn: "nqn.2016-06.io.spdk:h", SnapName: "s2"}))
		to := "nqn.2016-06.io.spdk:h2"
		must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: da, ExpName: "e", NewInitiatorNqn: &to}))
		must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: da}))
		must[*apiv1.SyncupDaReply](t)(client.SyncupDa(ctx, &apiv1.SyncupDaRequest{DaName: da}))
		must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: da, ExpName: "e"}))
		must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: da, ExpName: "of-snap"}))
		must[*apiv1.RollbackSnapReply](t)(client.RollbackSnap(ctx, &apiv1.RollbackSnapRequest{DaName: da, SnapName: "s2"}))
		must[*apiv1.DeleteSnapReply](t)(client.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: da, SnapName: "s2"}))
		name := da + "-renamed"
		must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: da, NewDaName: &name}))
		must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: name}))
	}
}

// TestNodesAndPdsAreChangedInTheLockOrder: so do requests on nodes and pds, those
// that are refused as well.
func TestNodesAndPdsAreChangedInTheLockOrder(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	c.Populate(c.Client(), 3, 3)
	client := c.Client(func(cfg *portal.Config) { cfg.Store = storetest.Ordered(t, c.Store) })
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2}))
	dns := must[*apiv1.ListDnReply](t)(client.ListDn(ctx, &apiv1.ListDnRequest{})).DnMsgList
	cns := must[*apiv1.ListCnReply](t)(client.ListCn(ctx, &apiv1.ListCnRequest{})).CnMsgList
	off := false
	for _, dn := range dns {
		for _, pd := range dn.PdMsgList {
			must[*apiv1.ModifyPdReply](t)(client.ModifyPd(ctx, &apiv1.ModifyPdRequest{DnName: dn.DnName, PdName: pd.PdName, NewOnline: &off}))
			_, _ = client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: dn.DnName, PdName: pd.PdName})
			_, _ = client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: dn.DnName, PdName: pd.PdName, PdConf: pd.PdConf})
		}
		must[*apiv1.CreatePdReply](t)(client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: dn.DnName, PdName: "more",
			PdConf: `{"type":"malloc","size":67108864}`}))
		must[*apiv1.DeletePdReply](t)(client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: dn.DnName, PdName: "more"}))
		_, _ = client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: dn.DnName, PdName: "more", Force: true})
		must[*apiv1.ModifyDnReply](t)(client.ModifyDn(ctx, &apiv1.ModifyDnRequest{DnName: dn.DnName, NewOnline: &off}))
		_, _ = client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: dn.DnName})
		_, _ = client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: dn.DnName, Force: true})
		_, _ = client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: dn.DnName, DnListenerConf: dn.DnListenerConf})
	}
	for _, cn := range cns {
		must[*apiv1.ModifyCnReply](t)(client.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: cn.CnName, NewOnline: &off}))
		_, _ = client.DeleteCn(ctx, &apiv1.DeleteCnRequest{CnName: cn.CnName})
		_, _ = client.DeleteCn(ctx, &apiv1.DeleteCnRequest{CnName: cn.CnName, Force: true})
		_, _ = client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: cn.CnName, CnListenerConf: cn.CnListenerConf})
	}
}
