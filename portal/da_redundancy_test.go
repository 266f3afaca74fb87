package portal_test

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestModifyRedundancy: an array that serves gets another leg per column, and its vds
// room for labels; what cannot be is refused with the reason, and changes nothing.
func TestModifyRedundancy(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 3, 2)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2,
		DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}))
	modify := func(to string, minLegs uint32) *apiv1.ModifyDaRequest {
		r := &apiv1.ModifyDaRequest{DaName: "da0"}
		if to != "" {
			r.Redundancy = &to
		}
		if minLegs > 0 {
			r.MinLegs = &minLegs
		}
		return r
	}
	refused := func(what string, r *apiv1.ModifyDaRequest, words string) {
		t.Helper()
		if _, err := client.ModifyDa(ctx, r); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", what, err, words)
		}
	}
	refused("no cn can mirror", modify("mirror:2", 0), "whether its data plane can mirror")
	c.CanMirror()
	refused("a redundancy of its own", modify("raid6", 0), "must be none, mirror:2 or mirror:3")
	refused("min_legs above", modify("", 2), "min_legs 2 must be 1 to 1")
	both := modify("mirror:2", 0)
	both.RwIosPerSec = new(uint64)
	refused("beside limits", both, "in a request of their own")
	refused("too few dns", modify("mirror:3", 4), "min_legs 4 must be 1 to 3")
	before := getDa(t, client)
	if before.Redundancy != "none" || len(before.GrpMsgList[0].VdMsgList) != 2 {
		t.Fatalf("da %v", before)
	}
	da := must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, modify("mirror:2", 2))).DaMsg
	stale, members := 0, 0
	for _, v := range da.GrpMsgList[0].VdMsgList {
		switch v.Role {
		case "stale":
			stale++
		case "member":
			members++
		}
		if v.Size < da.GrpMsgList[0].Size/2+vda.LegTail {
			t.Errorf("vd %v has no room for a label", v)
		}
	}
	if da.Redundancy != "mirror:2" || da.MinLegs != 2 || stale != 2 || members != 2 || da.RedundancyState != "single" {
		t.Errorf("da %v", da)
	}
	refused("before it has all its legs", modify("mirror:3", 0), "wait until it has all its legs")
	da = must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, modify("none", 0))).DaMsg
	if da.Redundancy != "none" || da.MinLegs != 1 {
		t.Errorf("da %v", da)
	}
}
