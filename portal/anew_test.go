package portal_test

import (
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// Versions leap when a restored database is accepted. A node that is deleted
// then can be created again at once, and used.
func TestANodeIsCreatedAgainAfterRestored(t *testing.T) {
	t.Parallel()
	uri := dbtest.SQLite(t)
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	c := portaltest.On(t, uri)
	client := c.Client()
	c.Agent("dn0:9720")
	c.Agent("cn0:9820")
	createDn := &apiv1.CreateDnRequest{DnName: "dn0:9720", DnListenerConf: portaltest.Listener(4000)}
	createCn := &apiv1.CreateCnRequest{CnName: "cn0:9820", CnListenerConf: portaltest.Listener(5000)}
	for round := range 3 {
		dn := must[*apiv1.CreateDnReply](t)(client.CreateDn(ctx, createDn))
		cn := must[*apiv1.CreateCnReply](t)(client.CreateCn(ctx, createCn))
		for _, info := range []*apiv1.ReplyInfo{dn.ReplyInfo, cn.ReplyInfo} {
			if info.ReplyMsg != "success" {
				t.Errorf("round %d: %s", round, info.ReplyMsg)
			}
		}
		pd := must[*apiv1.CreatePdReply](t)(client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: "pd0", PdConf: `{"type":"malloc","size":134217728}`}))
		if pd.ReplyInfo.ReplyMsg != "success" {
			t.Errorf("round %d: pd: %s", round, pd.ReplyInfo.ReplyMsg)
		}
		if _, err := store.Supersede(ctx, uri); err != nil {
			t.Fatal(err)
		}
		must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720"}))
		must[*apiv1.SyncupCnReply](t)(client.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"}))
		must[*apiv1.DeletePdReply](t)(client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "pd0"}))
		must[*apiv1.DeleteDnReply](t)(client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: "dn0:9720"}))
		must[*apiv1.DeleteCnReply](t)(client.DeleteCn(ctx, &apiv1.DeleteCnRequest{CnName: "cn0:9820"}))
	}
}
