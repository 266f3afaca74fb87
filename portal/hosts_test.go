package portal_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// lastCntlr is a controller as its cn was told of it last, the only one there; nil
// when it has not been told of it since it was asked.
func lastCntlr(c *portaltest.Cluster, cn string) *apiv1.CntlrSpec {
	for _, s := range slices.Backward(c.Agent(cn).Syncs()) {
		if !s.Refused && len(s.Cn.Cntlrs) > 0 {
			return s.Cn.Cntlrs[0]
		}
	}
	return nil
}

// TestHostsOfAnExporter: hosts are let in and kept out while others stay, all
// controllers are told, and the exporter is found by each of them.
func TestHostsOfAnExporter(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	h := func(name string) string { return "nqn.2016-06.io.spdk:" + name }
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e", InitiatorNqn: h("a")}))
	modify := func(add, remove []string) (*apiv1.ModifyExpReply, error) {
		return client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "e", AddInitiatorNqn: add, RemoveInitiatorNqn: remove})
	}
	hosts := func(want ...string) {
		t.Helper()
		m := must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "e"})).ExpMsg
		if got := append([]string{m.InitiatorNqn}, m.MoreInitiatorNqnList...); !slices.Equal(got, want) {
			t.Errorf("hosts %q, want %q", got, want)
		}
		for _, es := range m.EsMsgList {
			told := lastCntlr(c, es.CnName)
			if got := told.GetExps(); told != nil && !slices.Equal(got[0].Hosts(), want) {
				t.Errorf("%s was told of the hosts %q, want %q", es.CnName, got[0].Hosts(), want)
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			nqn := h(name)
			list := must[*apiv1.ListExpReply](t)(client.ListExp(ctx, &apiv1.ListExpRequest{InitiatorNqn: &nqn})).ExpMsgList
			if (len(list) == 1) != slices.Contains(want, nqn) {
				t.Errorf("%d exps are found by host %s; the hosts are %q", len(list), name, want)
			}
		}
	}
	hosts(h("a"))
	must[*apiv1.ModifyExpReply](t)(modify([]string{h("b"), h("c")}, nil))
	hosts(h("a"), h("b"), h("c"))
	must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0"}))
	hosts(h("a"), h("b"), h("c"))
	must[*apiv1.ModifyExpReply](t)(modify(nil, []string{h("a")}))
	hosts(h("b"), h("c"))

	_, err := modify(nil, nil)
	refusal(t, err, codes.InvalidArgument, 2, "nothing to modify", "add_initiator_nqn")
	_, err = modify(nil, []string{h("a")})
	refusal(t, err, codes.NotFound, 3, "remove_initiator_nqn", h("a"), h("b"))
	_, err = modify(nil, []string{h("b"), h("c")})
	refusal(t, err, codes.FailedPrecondition, 8, "without a host", "delete the exp")
	_, err = modify([]string{"host"}, nil)
	refusal(t, err, codes.InvalidArgument, 2, "add_initiator_nqn", `"host"`)
	one := h("a")
	_, err = client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "e", NewInitiatorNqn: &one, AddInitiatorNqn: []string{one}})
	refusal(t, err, codes.InvalidArgument, 2, "new_initiator_nqn", "without add_initiator_nqn")
	hosts(h("b"), h("c"))

	c.RunsSPDK("cn1:9820")
	r := must[*apiv1.ModifyExpReply](t)(modify([]string{h("a")}, nil))
	if !strings.Contains(r.ReplyInfo.ReplyMsg, "cn1:9820 runs SPDK, whose reservations are one controller's alone") {
		t.Errorf("reply %q", r.ReplyInfo.ReplyMsg)
	}
	must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "e", NewInitiatorNqn: &one}))
	hosts(one)
}

// TestRemovedHostBehindASilentNode: as long as a node has not said that a host is disconnected
// there, the reply to its removal names the node.
func TestRemovedHostBehindASilentNode(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	h := func(name string) string { return "nqn.2016-06.io.spdk:" + name }
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e", InitiatorNqn: h("a")}))
	modify := func(req *apiv1.ModifyExpRequest) string {
		t.Helper()
		req.DaName, req.ExpName = "da0", "e"
		return must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, req)).ReplyInfo.ReplyMsg
	}
	modify(&apiv1.ModifyExpRequest{AddInitiatorNqn: []string{h("b")}})
	c.Agent("cn1:9820").Stop()
	if msg := modify(&apiv1.ModifyExpRequest{RemoveInitiatorNqn: []string{h("b")}}); !strings.Contains(msg, "the exp is modified, but cn "+
		"cn1:9820 could not be brought up to date") || strings.Contains(msg, "cn0:9820") {
		t.Errorf("reply %q", msg)
	}
	c.Agent("cn1:9820").Start()
	await(t, func() bool { // the connection is tried again within a second
		must[*apiv1.SyncupCnReply](t)(client.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn1:9820"}))
		told := lastCntlr(c, "cn1:9820")
		return told != nil && slices.Equal(told.Exps[0].Hosts(), []string{h("a")})
	})
}
