package portal_test

import (
	"strings"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestADisksErrorsShowInExporters: a full or failing disk is the first thing
// that an exporter of its array says, new or old, on each controller.
func TestADisksErrorsShowInExporters(t *testing.T) {
	const words = "vd 0 of group 0: 4 I/O errors, of them 4 for want of space"
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	da := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 1 << 20, CntlrCnt: 2})).DaMsg
	create := func(name string) string {
		t.Helper()
		r := must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx,
			&apiv1.CreateExpRequest{DaName: "da0", ExpName: name, InitiatorNqn: "nqn.2014-08.org.example:h"}))
		return r.ReplyInfo.ReplyMsg
	}
	shows := func(name, want string) {
		t.Helper()
		list := must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: name})).ExpMsg.EsMsgList
		for _, es := range list {
			if es.Error != (want != "") || es.ErrorMsg != want {
				t.Errorf("%s on %s: %v %q, want %q", name, es.CnName, es.Error, es.ErrorMsg, want)
			}
		}
		if len(list) != 2 {
			t.Errorf("%s has %d states", name, len(list))
		}
	}
	listed := func(isError bool) int {
		return len(must[*apiv1.ListExpReply](t)(client.ListExp(ctx, &apiv1.ListExpRequest{Error: &isError})).ExpMsgList)
	}
	if msg := create("old"); msg != "success" {
		t.Error(msg)
	}
	shows("old", "")

	dn, vd := c.Agent("dn0:9720"), da.GrpMsgList[0].VdMsgList[0].VdId
	dn.Ail(vd, strings.TrimPrefix(words, "vd 0 of group 0: "))
	must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720"}))
	shows("old", words)
	if msg := create("new"); msg != "the exp is created; the disks of da da0 are not well ("+words+")" {
		t.Errorf("a new exporter: %q", msg)
	}
	shows("new", words)
	if bad, good := listed(true), listed(false); bad != 2 || good != 0 {
		t.Errorf("%d exporters are listed in error and %d not, want 2 and 0", bad, good)
	}

	dn.Ail(vd, "")
	must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720"}))
	shows("old", "")
	if bad, good := listed(true), listed(false); bad != 0 || good != 2 {
		t.Errorf("%d exporters are listed in error and %d not, want 0 and 2", bad, good)
	}
}
