package portal_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"vda"
	apiv1 "vda/api/v1"
	"vda/portal/portaltest"
	"vda/store"
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
	if pds, _, _ := c.Agent("dn0:9720").Objects(); pds != 0 {
		t.Errorf("%d pds are left", pds)
	}
	must[*apiv1.CreatePdReply](t)(client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: "pd0", PdConf: `{"type":"malloc","size":134217728}`}))
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20}))
}
