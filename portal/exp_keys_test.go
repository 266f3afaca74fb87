package portal_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// newKey is a host's or a controller's key, as a user makes it.
func newKey() string { return dhchap.NewSecret(dhchap.SHA256).Reveal() }

// TestKeysOfAnExporter: keys reach the agents, apart from hosts whose NQN is enough; a host may
// use its last two until the old one is dropped; no reply, event or error shows one.
func TestKeysOfAnExporter(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	h := func(name string) string { return "nqn.2016-06.io.spdk:" + name }
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2}))
	k1, k2, k3, c1 := newKey(), newKey(), newKey(), newKey()
	create := &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e", InitiatorNqn: h("a"), DhchapKey: k1, DhchapCtrlrKey: c1}

	_, err := client.CreateExp(ctx, create)
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "a plain cluster keeps no keys of hosts")
	c.CanAuth()
	const not = "dhchap_key is not a DH-HMAC-CHAP secret (DHHC-1:HH:BASE64:, as nvme gen-dhchap-key makes them): "
	for field, bad := range map[string]*apiv1.CreateExpRequest{
		not + "it does not begin": {DhchapKey: "hunter2"},
		not + "its CRC-32 is wrong": {
			DhchapKey: k1[:12] + swapped(k1[12:13]) + k1[13:]},
		"dhchap_ctrlr_key is not a DH-HMAC-CHAP secret":    {DhchapKey: k1, DhchapCtrlrKey: "hunter2"},
		"dhchap_ctrlr_key is of no use without dhchap_key": {DhchapCtrlrKey: c1},
		"dhchap_ctrlr_key is the key of the host":          {DhchapKey: k1, DhchapCtrlrKey: k1},
	} {
		bad.DaName, bad.ExpName, bad.InitiatorNqn = "da0", "bad", h("a")
		_, err := client.CreateExp(ctx, bad)
		refusedWith(t, err, apiv1.CodeInvalid, field)
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	made := must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, create))
	_, err = client.CreateExp(ctx, create)
	refusedWith(t, err, apiv1.CodeIdentical, "already exists exactly")
	other := proto.CloneOf(create)
	other.DhchapKey = k2
	_, err = client.CreateExp(ctx, other)
	refusedWith(t, err, apiv1.CodeNameTaken, "dhchap_key is one, not another one")

	// told checks what both agents were told last: the hosts without a key, and the keys of those
	// with one, the newest first.
	told := func(plain []string, keys map[string]string) {
		t.Helper()
		for _, es := range made.ExpMsg.EsMsgList {
			e := lastCntlr(c, es.CnName).Exps[0]
			old := proto.CloneOf(e) // as an agent reads it that knows no keys
			old.AuthHosts = nil
			if got := strings.Join(old.Hosts(), " "); got != strings.Join(plain, " ") {
				t.Errorf("%s lets in %s by their NQNs, want %v", es.CnName, got, plain)
			}
			got := map[string]string{}
			for _, a := range e.AuthHosts {
				got[a.Nqn] = strings.TrimSpace(strings.Join([]string{a.New.Host, a.New.Ctrlr, a.Old.GetHost(), a.Old.GetCtrlr()}, " "))
				if a.New.Id == "" || a.New.Id == a.Old.GetId() {
					t.Errorf("ids %q and %q of the keys of %s", a.New.Id, a.Old.GetId(), a.Nqn)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(keys) {
				t.Errorf("%s is told of the keys %v, want %v", es.CnName, got, keys)
			}
		}
	}
	modify := func(req *apiv1.ModifyExpRequest) (*apiv1.ModifyExpReply, error) {
		req.DaName, req.ExpName = "da0", "e"
		return client.ModifyExp(ctx, req)
	}
	told(nil, map[string]string{h("a"): k1 + " " + c1})
	must[*apiv1.ModifyExpReply](t)(modify(&apiv1.ModifyExpRequest{DhchapKey: k2}))
	told(nil, map[string]string{h("a"): k2 + " " + c1 + " " + k1 + " " + c1})
	_, err = modify(&apiv1.ModifyExpRequest{DhchapKey: k3})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "repeat the call with drop_old_dhchap_key")
	r := must[*apiv1.ModifyExpReply](t)(modify(&apiv1.ModifyExpRequest{DhchapKey: k2})) // again: nothing changes
	told(nil, map[string]string{h("a"): k2 + " " + c1 + " " + k1 + " " + c1})
	if m := r.ExpMsg; fmt.Sprint(m.AuthInitiatorNqnList, m.RekeyInitiatorNqnList) != fmt.Sprint([]string{h("a")}, []string{h("a")}) {
		t.Errorf("the reply says %v", m)
	}
	must[*apiv1.ModifyExpReply](t)(modify(&apiv1.ModifyExpRequest{DropOldDhchapKey: true}))
	told(nil, map[string]string{h("a"): k2 + " " + c1})

	// No other host gets in by its NQN.
	_, err = modify(&apiv1.ModifyExpRequest{AddInitiatorNqn: []string{h("b")}})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "host "+h("b")+" would get in by its NQN: give its dhchap_key")
	b := h("b")
	_, err = modify(&apiv1.ModifyExpRequest{NewInitiatorNqn: &b})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "host "+h("b")+" would get in by its NQN")
	must[*apiv1.ModifyExpReply](t)(modify(&apiv1.ModifyExpRequest{AddInitiatorNqn: []string{b}, DhchapKey: k3}))
	told(nil, map[string]string{h("a"): k2 + " " + c1, h("b"): k3})
	_, err = modify(&apiv1.ModifyExpRequest{DhchapKey: k1})
	refusedWith(t, err, apiv1.CodeInvalid, "dhchap_host is missing")
	_, err = modify(&apiv1.ModifyExpRequest{DhchapKey: k1, DhchapHost: h("c")})
	refusedWith(t, err, apiv1.CodeNotFound, "dhchap_host "+h("c")+" is not a host of exp e")
	must[*apiv1.ModifyExpReply](t)(modify(&apiv1.ModifyExpRequest{RemoveInitiatorNqn: []string{h("a")}}))
	told(nil, map[string]string{h("b"): k3})

	// Neither does one of an exporter that gets its first key later, and others stay as they are.
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "f", InitiatorNqn: h("a")}))
	f := func(req *apiv1.ModifyExpRequest) {
		t.Helper()
		req.DaName, req.ExpName = "da0", "f"
		must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, req))
	}
	must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "e"}))
	f(&apiv1.ModifyExpRequest{AddInitiatorNqn: []string{h("b")}})
	f(&apiv1.ModifyExpRequest{DhchapHost: h("a"), DhchapKey: k1})
	for _, es := range made.ExpMsg.EsMsgList {
		for _, e := range lastCntlr(c, es.CnName).Exps {
			if e.Name == "f" && (e.InitiatorNqn != h("b") || len(e.AuthHosts) != 1 || e.AuthHosts[0].Nqn != h("a")) {
				t.Errorf("%s is told of the hosts %v, %v and %d with keys", es.CnName, e.InitiatorNqn, e.MoreInitiatorNqns, len(e.AuthHosts))
			}
		}
	}
	events := must[*apiv1.ListEventReply](t)(client.ListEvent(ctx, &apiv1.ListEventRequest{Limit: 1000}))
	got := must[*apiv1.ListExpReply](t)(client.ListExp(ctx, &apiv1.ListExpRequest{}))
	for _, key := range []string{k1, k2, k3, c1} {
		if shown := fmt.Sprint(events, got, r, made); strings.Contains(shown, key) || !strings.Contains(shown, "dhchap_key=(not shown)") {
			t.Errorf("a key is shown, or no event has its call: %s", shown)
		}
	}
}

// swapped is another base64 digit.
func swapped(s string) string {
	if s == "A" {
		return "B"
	}
	return "A"
}

// TestKeysNeedNewAgents: keys are refused while a controller is on a node that would let
// nobody in by them, and the hosts that it lets in stay.
func TestKeysNeedNewAgents(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2}))
	host := "nqn.2016-06.io.spdk:a"
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e", InitiatorNqn: host}))
	c.CanAuth()
	c.Change(func(tx store.Tx) error {
		cn, err := tx.Unlocked().NodeByName(vda.ControllerNode, "cn1:9820")
		if err != nil {
			return err
		}
		return tx.SetCNAuth(cn.ID, false)
	})
	_, err := client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "e", DhchapKey: newKey()})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "cn cn1:9820 is not known to have hosts authenticate, and would let none in: "+
		"upgrade its vda_cn_agent")
	_, err = client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "f", InitiatorNqn: host, DhchapKey: newKey()})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "cn cn1:9820 is not known to have hosts authenticate")
	m := must[*apiv1.GetExpReply](t)(client.GetExp(context.Background(), &apiv1.GetExpRequest{DaName: "da0", ExpName: "e"})).ExpMsg
	if m.InitiatorNqn != host || len(m.AuthInitiatorNqnList) > 0 {
		t.Errorf("the exporter is %v", m)
	}
}
