package portal_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestBackendListener: controllers of arrays that serve reach each other elsewhere than
// hosts do when all their nodes have an address for it, and hosts hear nothing of it.
func TestBackendListener(t *testing.T) {
	ctx := context.Background()
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 3)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "exp0",
		InitiatorNqn: "nqn.2016-06.io.spdk:host0"}))
	da := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
	before := must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "exp0"})).ExpMsg
	var primary, secondary string
	for _, m := range da.CntlrMsgList {
		if m.Primary {
			primary = m.CnName
		} else {
			secondary = m.CnName
		}
	}
	last := func(cn string) *apiv1.CntlrSpec {
		t.Helper()
		syncs := c.Agent(cn).Syncs()
		for _, s := range slices.Backward(syncs) {
			if len(s.Cn.Cntlrs) > 0 {
				return s.Cn.Cntlrs[0]
			}
		}
		t.Fatalf("cn %s was told nothing", cn)
		return nil
	}
	set := func(cn, conf string) {
		t.Helper()
		r := must[*apiv1.ModifyCnReply](t)(client.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: cn, NewCnBackendListenerConf: &conf}))
		if r.CnMsg.CnBackendListenerConf != conf || r.ReplyInfo.ReplyMsg != "success" {
			t.Errorf("cn %s: %v", cn, r)
		}
	}
	hop := vda.HopNQN(before.ExpId)
	set(primary, portaltest.Listener(6000)) // the other is on its agent of before yet
	if s := last(secondary); s.PrimaryListener.Trsvcid == "6000" || s.Exps[0].HopNqn != "" || len(s.Exps) != 1 {
		t.Errorf("a secondary that has no back-end listener is told %v", s)
	}
	if s := last(primary); len(s.BackendHostNqns) != 0 || len(s.SecondaryHostNqns) != 1 || len(s.Exps) != 2 {
		t.Errorf("a primary whose secondary has no back-end listener is told %v", s)
	}
	set(secondary, portaltest.Listener(6001))
	s := last(secondary)
	if s.PrimaryListener.Trsvcid != "6000" || s.Exps[0].HopNqn != hop || len(s.Exps) != 2 || s.Exps[1].Nqn != hop {
		t.Errorf("the secondary is told %v", s)
	}
	p := last(primary)
	if !slices.Equal(p.BackendHostNqns, []string{vda.ProxyHostNQN(s.Id)}) || len(p.Exps) != 2 || p.Exps[0].Backend || p.Exps[0].HopNqn != "" {
		t.Errorf("the primary is told %v", p)
	}
	if h := p.Exps[1]; h.Nqn != hop || !h.Backend || len(h.Hosts()) > 0 ||
		h.NsUuid == p.Exps[0].NsUuid || h.EsId == p.Exps[0].EsId || h.Id == before.ExpId {
		t.Errorf("what secondaries connect to is %v", h)
	}
	after := must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "exp0"})).ExpMsg
	for i, e := range after.EsMsgList {
		if e.CnListenerConf != before.EsMsgList[i].CnListenerConf || e.Error {
			t.Errorf("hosts are sent to %s, before to %s; error %q", e.CnListenerConf, before.EsMsgList[i].CnListenerConf, e.ErrorMsg)
		}
	}

	// What is wrong with it is shown, by the exporter's path.
	c.Agent(primary).Fail(h(p), "no such address on this machine")
	must[*apiv1.SyncupCnReply](t)(client.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: primary}))
	after = must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "exp0"})).ExpMsg
	if !slices.ContainsFunc(after.EsMsgList, func(e *apiv1.EsMsg) bool {
		return e.Error && strings.Contains(e.ErrorMsg, "at the back-end listener: no such address")
	}) {
		t.Errorf("nobody hears of it: %v", after.EsMsgList)
	}
	c.Agent(primary).Fail(h(p), "")

	set(secondary, "")
	if s := last(secondary); s.PrimaryListener.Trsvcid == "6000" || s.Exps[0].HopNqn != "" || len(s.Exps) != 1 {
		t.Errorf("a secondary that has none any more is told %v", s)
	}

	// Collisions, both ways.
	for what, call := range map[string]func() error{
		"the listener address 192.0.2.1 port 5000 is that of cn cn0:9820": func() error {
			_, err := client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: "new:1", CnListenerConf: portaltest.Listener(9),
				CnBackendListenerConf: portaltest.Listener(5000)})
			return err
		},
		"the listener address 192.0.2.1 port 6000 is that of cn " + primary: func() error {
			_, err := client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: "new:1", DnListenerConf: portaltest.Listener(6000)})
			return err
		},
		"the listener address 192.0.2.1 port 4000 is that of dn dn0:9720": func() error {
			_, err := client.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: "cn0:9820", NewCnBackendListenerConf: ptr(portaltest.Listener(4000))})
			return err
		},
		"cn_backend_listener_conf: 192.0.2.1 port 9 is where hosts connect to the node": func() error {
			_, err := client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: "new:1", CnListenerConf: portaltest.Listener(9),
				CnBackendListenerConf: portaltest.Listener(9)})
			return err
		},
		"new_cn_backend_listener_conf: 192.0.2.1 port 5000 is where hosts connect to the node": func() error {
			_, err := client.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: "cn0:9820", NewCnBackendListenerConf: ptr(portaltest.Listener(5000))})
			return err
		},
		`new_cn_backend_listener_conf "10.0.0.1" is not a JSON object`: func() error {
			_, err := client.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: "cn0:9820", NewCnBackendListenerConf: ptr("10.0.0.1")})
			return err
		},
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := must[*apiv1.CreateCnReply](t)(client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: "new:1", CnListenerConf: portaltest.Listener(9),
		CnBackendListenerConf: portaltest.Listener(10)}))
	if r.CnMsg.CnBackendListenerConf != portaltest.Listener(10) {
		t.Errorf("created with %v", r.CnMsg)
	}
}

// h is the id under which the first hop of a spec is reported.
func h(c *apiv1.CntlrSpec) string {
	at := slices.IndexFunc(c.Exps, func(e *apiv1.ExpSpec) bool { return strings.HasPrefix(e.Nqn, vda.HopNQNPrefix) })
	return c.Exps[at].EsId
}
