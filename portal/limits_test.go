package portal_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestLimits: the limits of an array are shown, reach its primary with the reply, move
// with the primary, and come back with an array that is adopted.
func TestLimits(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	ptr := func(n uint64) *uint64 { return &n }
	create := &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2, RwIosPerSec: 3000, RMbytesPerSec: 7, RebuildMbps: 40}
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, create))
	type limits [5]uint64
	shown := func(m *apiv1.DaMsg) limits {
		return limits{m.RwIosPerSec, m.RwMbytesPerSec, m.RMbytesPerSec, m.WMbytesPerSec, m.RebuildMbps}
	}
	if got := shown(getDa(t, client)); got != (limits{3000, 0, 7, 0, 40}) {
		t.Errorf("limits %v", got)
	}
	// told are the limits that the present primary was told of last.
	told := func() limits {
		t.Helper()
		for _, v := range getDa(t, client).CntlrMsgList {
			if v.Primary {
				l := lastCntlr(c, v.CnName).GetLimits()
				return limits{l.GetRwIosPerSec(), l.GetRwMbytesPerSec(), l.GetRMbytesPerSec(), l.GetWMbytesPerSec(), l.GetRebuildMbps()}
			}
		}
		t.Fatal("there is no primary")
		return limits{}
	}
	if got := told(); got != (limits{3000, 0, 7, 0, 40}) {
		t.Errorf("the primary was told of the limits %v", got)
	}
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, // limits change while hosts use it
		&apiv1.CreateExpRequest{DaName: "da0", ExpName: "e", InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	r := must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx,
		&apiv1.ModifyDaRequest{DaName: "da0", RwIosPerSec: ptr(0), WMbytesPerSec: ptr(100), RebuildMbps: ptr(9)}))
	if got := shown(r.DaMsg); got != (limits{0, 0, 7, 100, 9}) || r.ReplyInfo.ReplyMsg != "success" {
		t.Errorf("after a modify: %v, %v", got, r.ReplyInfo)
	}
	if got := told(); got != (limits{0, 0, 7, 100, 9}) {
		t.Errorf("after a modify the primary was told of the limits %v", got)
	}
	must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0"}))
	if got := told(); got != (limits{0, 0, 7, 100, 9}) {
		t.Errorf("after a failover the primary was told of the limits %v", got)
	}

	_, err := client.CreateDa(ctx, create)
	refusal(t, err, codes.AlreadyExists, 4, "rw_ios_per_sec is 0, not 3000", "w_mbytes_per_sec is 100, not 0", "rebuild_mbps is 9, not 40")
	create.DaName, create.RwIosPerSec = "da1", 1500
	_, err = client.CreateDa(ctx, create)
	refusal(t, err, codes.InvalidArgument, 2, "rw_ios_per_sec is 1500", "multiple of 1000", "1000 or 2000")
	for field, req := range map[string]*apiv1.ModifyDaRequest{
		"rw_ios_per_sec is 999":              {RwIosPerSec: ptr(999)},
		"rw_mbytes_per_sec is 1048577":       {RwMbytesPerSec: ptr(1<<20 + 1)},
		"r_mbytes_per_sec is 18446744073709": {RMbytesPerSec: ptr(^uint64(0))},
		"w_mbytes_per_sec is 2000000":        {WMbytesPerSec: ptr(2000000)},
		"rebuild_mbps is 1048577":            {RebuildMbps: ptr(1<<20 + 1)},
	} {
		req.DaName = "da0"
		_, err = client.ModifyDa(ctx, req)
		refusal(t, err, codes.InvalidArgument, 2, field)
	}
	_, err = client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0"})
	refusal(t, err, codes.InvalidArgument, 2, "nothing to modify", "new_da_name", "rw_ios_per_sec", "rebuild_mbps")
	if got := shown(getDa(t, client)); got != (limits{0, 0, 7, 100, 9}) {
		t.Errorf("after what was refused: %v", got)
	}
}
