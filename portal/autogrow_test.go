package portal_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestAutoGrow: what a thin array is to grow to by itself is set when it is made or later,
// is shown, and can be ended; what cannot be is refused with the reason.
func TestAutoGrow(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 4, 2)
	const mib = 1 << 20
	ptr := func(n uint64) *uint64 { return &n }
	thin := func(name string, limit uint64, below uint32) *apiv1.CreateDaRequest {
		return &apiv1.CreateDaRequest{DaName: name, DaSize: 16 * mib, PhysicalSize: ptr(4 * mib), CntlrCnt: 2, AutoGrow: limit,
			AutoGrowBelow: below}
	}
	is := func(name string, limit uint64, below uint32) {
		t.Helper()
		da := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: name})).DaMsg
		if da.AutoGrow != limit || da.AutoGrowBelow != below {
			t.Errorf("da %s grows to %d below %d, want %d and %d", name, da.AutoGrow, da.AutoGrowBelow, limit, below)
		}
	}
	onSPDK := func(version string) {
		c.Change(func(tx store.Tx) error {
			cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
			for i := range cns {
				n, nodeErr := tx.Node(vda.ControllerNode, cns[i].ID)
				if nodeErr != nil {
					return nodeErr
				}
				n.DataPlaneVersion = version
				err = errors.Join(err, tx.UpdateNode(vda.ControllerNode, n))
			}
			return err
		})
	}
	onSPDK("SPDK v26.05")
	_, err := client.CreateDa(ctx, thin("a", 8*mib, 0))
	refusal(t, err, codes.ResourceExhausted, 10, "controllers of an array with auto_grow have to be on cns that run vda_tgt, as SPDK cannot "+
		"add disks to an array in use: ")
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, thin("spdk", 0, 0)))
	_, err = client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "spdk", AutoGrow: ptr(8 * mib)})
	refusal(t, err, codes.FailedPrecondition, 8, "of it runs SPDK (")
	must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "spdk"}))
	onSPDK("")
	c.CanMirror()

	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, thin("a", 8*mib, 0)))
	is("a", 8*mib, 20)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, thin("b", 8*mib, 30)))
	is("b", 8*mib, 30)
	for _, step := range []struct {
		limit *uint64
		below *uint32
		want  uint64
		at    uint32
	}{
		{ptr(12 * mib), nil, 12 * mib, 30}, {nil, proto.Uint32(50), 12 * mib, 50}, {nil, proto.Uint32(0), 12 * mib, 20},
		{ptr(0), nil, 0, 0}, {ptr(4 * mib), proto.Uint32(5), 4 * mib, 5},
	} {
		must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "b", AutoGrow: step.limit, AutoGrowBelow: step.below}))
		is("b", step.want, step.at)
	}

	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "thick", DaSize: 4 * mib, PhysicalSize: ptr(8 * mib),
		CntlrCnt: 2}))
	for _, row := range []struct {
		req  *apiv1.CreateDaRequest
		code codes.Code
		n    int32
		why  string
	}{
		{thin("c", 0, 10), codes.InvalidArgument, 2, "auto_grow_below is 10, and auto_grow, the physical size up to which the array grows by " +
			"itself, is 0 or missing; give both"},
		{thin("c", 8*mib, 51), codes.InvalidArgument, 2, "auto_grow_below is 51; it must be 1 to 50"},
		{thin("c", 3*mib, 0), codes.InvalidArgument, 2, "auto_grow is 3145728 bytes, less than the physical size of da c, 4194304"},
		{thin("c", 8*mib+1, 0), codes.InvalidArgument, 2, "auto_grow is 8388609 bytes, not a multiple of the cluster size 1048576"},
		{thin("c", 1<<40, 0), codes.InvalidArgument, 2, "auto_grow is 1099511627776 bytes, and the metadata of da c suffice for a physical " +
			"size of "},
		{&apiv1.CreateDaRequest{DaName: "c", DaSize: 4 * mib, AutoGrow: 8 * mib}, codes.FailedPrecondition, 8, "auto_grow is 8388608: da c is " +
			"not thin, so that no write lacks room on it"},
		{&apiv1.CreateDaRequest{DaName: "c", FromDa: "thick", AutoGrow: 8 * mib}, codes.InvalidArgument, 2, "auto_grow is given for a " +
			"clone; set it with ModifyDa when the clone has all data"},
	} {
		_, err := client.CreateDa(ctx, row.req)
		refusal(t, err, row.code, row.n, row.why)
	}
	for _, row := range []struct {
		req  *apiv1.ModifyDaRequest
		code codes.Code
		n    int32
		why  string
	}{
		{&apiv1.ModifyDaRequest{DaName: "thick", AutoGrow: ptr(16 * mib)}, codes.FailedPrecondition, 8, "da thick is not thin"},
		{&apiv1.ModifyDaRequest{DaName: "a", AutoGrow: ptr(3 * mib)}, codes.InvalidArgument, 2, "auto_grow is 3145728 bytes, less than"},
		{&apiv1.ModifyDaRequest{DaName: "a", AutoGrow: ptr(1 << 40)}, codes.InvalidArgument, 2, "the metadata of da a suffice for"},
		{&apiv1.ModifyDaRequest{DaName: "a", AutoGrow: ptr(0), AutoGrowBelow: proto.Uint32(10)}, codes.InvalidArgument, 2, "give both"},
		{&apiv1.ModifyDaRequest{DaName: "a", AutoGrow: ptr(8 * mib), PhysicalSize: ptr(8 * mib)}, codes.InvalidArgument, 2, "physical_size is " +
			"given beside other fields"},
	} {
		_, err := client.ModifyDa(ctx, row.req)
		refusal(t, err, row.code, row.n, row.why)
	}
	is("a", 8*mib, 20)
}
