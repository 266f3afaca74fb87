package portal_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

var ctx = context.Background()

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refusal checks that err is the portal's refusal with a gRPC code, a reply
// code, a request id, and each of the words.
func refusal(t *testing.T, err error, code codes.Code, reply int32, words ...string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("code %v (%s), want %v", st.Code(), st.Message(), code)
	}
	var info *apiv1.ReplyInfo
	for _, d := range st.Details() {
		if i, ok := d.(*apiv1.ReplyInfo); ok {
			info = i
		}
	}
	if info == nil {
		t.Fatalf("%v has no ReplyInfo", err)
	}
	if info.ReplyCode != reply || len(info.ReqId) != 32 || info.ReplyMsg != st.Message() {
		t.Errorf("reply_info %v, want code %d, an id of 32, the status' message", info, reply)
	}
	for _, w := range words {
		if !strings.Contains(info.ReplyMsg, w) {
			t.Errorf("message %q does not say %q", info.ReplyMsg, w)
		}
	}
}

// counts are the rows of a cluster.
type counts struct{ dns, pds, cns, das, exps int }

func count(t *testing.T, st store.Store) (n counts) {
	t.Helper()
	err := st.View(ctx, func(tx store.Reader) error {
		dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
		if err != nil {
			return err
		}
		cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
		if err != nil {
			return err
		}
		for i := range dns {
			pds, _, err := tx.DNObjects(dns[i].ID, 0)
			if err != nil {
				return err
			}
			n.pds += len(pds)
		}
		das, _, err := tx.ListDA(store.DAFilter{}, store.Page{})
		if err != nil {
			return err
		}
		dead, err := tx.DeletedDAs()
		if err != nil {
			return err
		}
		exps, _, err := tx.ListExp(store.ExpFilter{}, store.Page{})
		n.dns, n.cns, n.das, n.exps = len(dns), len(cns), len(das)+len(dead), len(exps)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTutorial makes what the tutorial makes, and takes it down again: no row
// and no object of a node is left.
func TestTutorial(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)

	da := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", CntlrCnt: 2, DaSize: 32 << 20,
		DaConf: `{"stripe_count":2, "stripe_size_kb":64}`}))
	m := da.DaMsg
	if da.ReplyInfo.ReplyMsg != "success" || len(da.ReplyInfo.ReqId) != 32 || len(da.WarningList) != 0 {
		t.Errorf("reply %v, warnings %q", da.ReplyInfo, da.WarningList)
	}
	if m.PhysicalSize != 32<<20 || m.Thin || m.Error || m.Term != 1 || len(m.GrpMsgList) != 1 || len(m.GrpMsgList[0].VdMsgList) != 2 ||
		len(m.CntlrMsgList) != 2 {
		t.Errorf("da %v", m)
	}
	if a, b := m.GrpMsgList[0].VdMsgList[0], m.GrpMsgList[0].VdMsgList[1]; a.DnName == b.DnName || a.Size != b.Size || a.Size < 16<<20 {
		t.Errorf("vds %v and %v", a, b)
	}
	if x := m.CntlrMsgList; x[0].CnName != "cn0:9820" || x[1].CnName != "cn1:9820" || x[0].Primary == x[1].Primary {
		t.Errorf("controllers %v", x)
	}
	exp := must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "exp0",
		InitiatorNqn: "nqn.2016-06.io.spdk:host0"}))
	e := exp.ExpMsg
	if e.ExpNqn != "nqn.2016-06.io.spdk:vda-exp-da0-exp0" || len(e.EsMsgList) != 2 || e.EsMsgList[0].Error || e.EsMsgList[1].CntlrIdx != 1 {
		t.Errorf("exp %v", e)
	}
	if want := `{"trtype":"tcp","traddr":"192.0.2.1","adrfam":"ipv4","trsvcid":"5000"}`; e.EsMsgList[0].CnListenerConf != want {
		t.Errorf("listener conf %s, want %s", e.EsMsgList[0].CnListenerConf, want)
	}
	if held := c.Agent("dn0:9720").Objects(); len(held) != 2 {
		t.Errorf("dn0 holds %v: not a pd and a vd", held)
	}

	must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "exp0"}))
	must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	for _, dn := range []string{"dn0:9720", "dn1:9720"} {
		pd := must[*apiv1.GetPdReply](t)(client.GetPd(ctx, &apiv1.GetPdRequest{DnName: dn, PdName: "pd0"})).PdMsg
		if pd.FreeSize != pd.TotalSize || pd.VdCnt != 0 || pd.TotalSize == 0 {
			t.Errorf("pd of %s after the array is gone: %v", dn, pd)
		}
		must[*apiv1.DeletePdReply](t)(client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: dn, PdName: "pd0"}))
		must[*apiv1.DeleteDnReply](t)(client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: dn}))
	}
	for _, cn := range []string{"cn0:9820", "cn1:9820"} {
		must[*apiv1.DeleteCnReply](t)(client.DeleteCn(ctx, &apiv1.DeleteCnRequest{CnName: cn}))
	}
	if n := count(t, c.Store); n != (counts{}) {
		t.Errorf("rows left: %+v", n)
	}
	// Agents know their node by its id and refuse older versions; a node that
	// comes back under its name must be welcome.
	c.Populate(client, 1, 1)
	if cn := must[*apiv1.GetCnReply](t)(client.GetCn(ctx, &apiv1.GetCnRequest{CnName: "cn0:9820"})); cn.CnMsg.Error {
		t.Errorf("cn0 created again: %v", cn.CnMsg)
	}
	must[*apiv1.DeletePdReply](t)(client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "pd0"}))
	for _, addr := range []string{"dn0:9720", "dn1:9720", "cn0:9820", "cn1:9820"} {
		if held := c.Agent(addr).Objects(); len(held) > 0 {
			t.Errorf("%s holds %v", addr, held)
		}
	}
}
