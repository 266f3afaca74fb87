package portal_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestPhysicalGrowth: an array gets another group of vds, which is shown, is part of it
// when its primary has said that it is there, and can be taken back until then. What
// cannot be had is refused with the reason, and takes no space.
func TestPhysicalGrowth(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 4, 2)
	c.CanMirror()
	ptr := func(n uint64) *uint64 { return &n }
	const mib = 1 << 20
	free := func() (bytes uint64) {
		t.Helper()
		for _, pd := range must[*apiv1.ListPdReply](t)(client.ListPd(ctx, &apiv1.ListPdRequest{})).PdMsgList {
			bytes += pd.FreeSize
		}
		return bytes
	}
	buy := func(name string, to uint64) (*apiv1.ModifyDaReply, error) {
		return client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: name, PhysicalSize: ptr(to)})
	}
	shown := func(name string) string {
		t.Helper()
		da := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: name})).DaMsg
		text := fmt.Sprintf("%d MiB, thin %v:", da.PhysicalSize/mib, da.Thin)
		for _, g := range da.GrpMsgList {
			text += fmt.Sprintf(" %d vds", len(g.VdMsgList))
			if g.Joining {
				text += " joining"
			}
		}
		return text
	}
	is := func(name, want string) {
		t.Helper()
		if got := shown(name); got != want {
			t.Errorf("da %s is %q, want %q", name, got, want)
		}
	}
	lazy := func(on bool) {
		for i := range 2 {
			c.Agent(fmt.Sprintf("cn%d:9820", i)).JoinNothing(on)
		}
	}
	for _, row := range []struct{ name, redundancy, one, two string }{
		{"striped", "none", "4 MiB, thin false: 2 vds", "12 MiB, thin false: 2 vds 2 vds"},
		{"mirrored", "mirror:2", "4 MiB, thin false: 4 vds", "12 MiB, thin false: 4 vds 4 vds"},
	} {
		must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: row.name, DaSize: 4 * mib, CntlrCnt: 2,
			Redundancy: row.redundancy, DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}))
		is(row.name, row.one)
		if r := must[*apiv1.ModifyDaReply](t)(buy(row.name, 12*mib)); r.ReplyInfo.ReplyMsg != "success" {
			t.Errorf("%v", r.ReplyInfo)
		}
		is(row.name, row.two)
		if r := must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: row.name, DaSize: ptr(12 * mib)})); r.DaMsg.
			DaSize != 12*mib {
			t.Errorf("%v", r)
		}
		must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: row.name}))
		is(row.name, row.two)
	}

	// Until the primary has said that it is there, it is not part of the array.
	before, was := free(), shown("striped")
	lazy(true)
	r := must[*apiv1.ModifyDaReply](t)(buy("striped", 20*mib))
	if !strings.Contains(r.ReplyInfo.ReplyMsg, "the da gets more physical size, but not all of it is there yet") {
		t.Errorf("%v", r.ReplyInfo)
	}
	is("striped", was+" 2 vds joining")
	_, err := buy("striped", 24*mib)
	refusal(t, err, codes.FailedPrecondition, 8, "it is getting 8388608 bytes more already; wait until it has them (da get), or give "+
		"physical_size 12582912, as it is now, to have that taken back")
	must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "striped"}))
	is("striped", was+" 2 vds joining")
	for range 2 {
		must[*apiv1.ModifyDaReply](t)(buy("striped", 12*mib))
		is("striped", was)
	}
	if now := free(); now != before {
		t.Errorf("%d bytes are free, before %d", now, before)
	}
	must[*apiv1.ModifyDaReply](t)(buy("mirrored", 20*mib))
	joiningIsNotPartOf(t, c, client, "mirrored")
	must[*apiv1.ModifyDaReply](t)(buy("mirrored", 12*mib))
	lazy(false)

	// A thin array stays thin.
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "thin", DaSize: 8 * mib, PhysicalSize: ptr(4 * mib),
		CntlrCnt: 2, DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}))
	must[*apiv1.ModifyDaReply](t)(buy("thin", 16*mib))
	is("thin", "16 MiB, thin true: 2 vds 2 vds")

	before = free()
	for to, why := range map[uint64]string{
		8 * mib: "physical_size is 8388608 bytes, and the array has 12582912: it is not made smaller",
		1 << 40: "physical_size is 1099511627776 bytes, and with 0 snapshots the metadata that were set aside when it was made suffice for ",
	} {
		_, err := buy("striped", to)
		refusal(t, err, codes.FailedPrecondition, 8, why)
	}
	if _, err = buy("striped", 8<<30); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than all pds have: %v", err)
	}
	_, err = buy("striped", 12*mib+1)
	refusal(t, err, codes.InvalidArgument, 2, "physical_size is 12582913 bytes, not a multiple of the cluster size 1048576")
	_, err = client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "striped", PhysicalSize: ptr(16 * mib), DaSize: ptr(16 * mib)})
	refusal(t, err, codes.InvalidArgument, 2, "physical_size is given beside other fields; change it in a request of its own, before da_size")
	if now := free(); now != before {
		t.Errorf("after refusals %d bytes are free, before %d", now, before)
	}

	// It goes with the array, whatever has become of it.
	lazy(true)
	must[*apiv1.ModifyDaReply](t)(buy("thin", 24*mib))
	for _, name := range []string{"striped", "mirrored", "thin"} {
		must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: name}))
	}
	c.Change(func(tx store.Tx) error {
		pds, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
		for _, pd := range pds {
			if pd.FreeClusters != pd.TotalClusters || pd.VDCount != 0 {
				t.Errorf("pd %s has %d vds and %d of %d clusters free when all arrays are gone", pd.Name, pd.VDCount, pd.FreeClusters,
					pd.TotalClusters)
			}
		}
		return err
	})
}

// joiningIsNotPartOf: an array lacks nothing, and is not in error, when the vds of a group
// that is joining are not there.
func joiningIsNotPartOf(t *testing.T, c *portaltest.Cluster, client apiv1.PortalClient, name string) {
	t.Helper()
	ill, seen := 0, func() *apiv1.DaMsg {
		t.Helper()
		return must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: name})).DaMsg
	}
	for _, g := range seen().GrpMsgList {
		for _, v := range g.VdMsgList {
			if g.Joining {
				ill++
				c.Change(func(tx store.Tx) error {
					return tx.SetHealth(store.ObjVD, v.VdId, vda.Health{Error: true, Msg: "no answer"})
				})
			}
		}
	}
	if ill == 0 {
		t.Fatalf("no group of %s is joining", name)
	}
	list := must[*apiv1.ListDaReply](t)(client.ListDa(ctx, &apiv1.ListDaRequest{})).DaMsgList
	for _, da := range append(list, seen()) {
		if da.DaName == name && (da.Error || da.RedundancyState != string(vda.RedundancyFull)) {
			t.Errorf("da %s is %s, in error %v (%s), as %d vds of a group that is joining are in error", name, da.RedundancyState, da.Error,
				da.ErrorMsg, ill)
		}
	}
	for _, g := range seen().GrpMsgList { // but it is shown
		for _, v := range g.VdMsgList {
			if v.Error != g.Joining {
				t.Errorf("%v of a group that is joining: %v", v, g.Joining)
			}
		}
	}
}
