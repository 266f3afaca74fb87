package portal_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestGrowth: an array's new size is shown and reaches its primary with the reply, and
// moves with the primary. What cannot be had is refused with the reason, and changes
// nothing.
func TestGrowth(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	ptr := func(n uint64) *uint64 { return &n }
	const mib = 1 << 20
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 * mib, PhysicalSize: ptr(16 * mib),
		CntlrCnt: 2}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, // it grows while hosts use it
		&apiv1.CreateExpRequest{DaName: "da0", ExpName: "e", InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	// told is the size that the present primary was told of last.
	told := func() uint64 {
		t.Helper()
		for _, v := range getDa(t, client).CntlrMsgList {
			if v.Primary {
				return lastCntlr(c, v.CnName).GetSize()
			}
		}
		t.Fatal("there is no primary")
		return 0
	}
	grow := func(to uint64) (*apiv1.ModifyDaReply, error) {
		return client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", DaSize: ptr(to)})
	}
	is := func(size uint64) {
		t.Helper()
		if got := getDa(t, client); got.DaSize != size || got.PhysicalSize != 16*mib {
			t.Errorf("da_size %d, physical_size %d, want %d and 16 MiB", got.DaSize, got.PhysicalSize, size)
		}
	}
	heard := func(size uint64) { // of what it was told since
		t.Helper()
		if is(size); told() != size {
			t.Errorf("the primary was not told of %d bytes", size)
		}
	}
	for range 2 { // it is repeated when the answer is lost
		if r := must[*apiv1.ModifyDaReply](t)(grow(6 * mib)); r.DaMsg.DaSize != 6*mib || r.ReplyInfo.ReplyMsg != "success" {
			t.Errorf("%v", r)
		}
	}
	heard(6 * mib)
	must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0"}))
	heard(6 * mib)

	for to, why := range map[uint64]string{
		4 * mib:   "da_size is 4194304 bytes, and the array has 6291456: it is not made smaller",
		17 * mib:  "da_size is 17825792 bytes, and the array has bought 16777216 (physical_size); give it more of that first",
		640 * mib: "give it more of that first",
	} {
		_, err := grow(to)
		refusal(t, err, codes.FailedPrecondition, 8, why)
	}
	for to, why := range map[uint64]string{
		6*mib + 1: "not a multiple of the cluster size 1048576; the nearest are 6291456 and 7340032",
		0:         "da_size is 0",
	} {
		_, err := grow(to)
		refusal(t, err, codes.InvalidArgument, 2, why)
	}
	is(6 * mib)

	// What snapshots hold cannot be grown into.
	must[*apiv1.CreateSnapReply](t)(client.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s"}))
	if err := c.Store.Update(ctx, func(tx store.Tx) error {
		da, err := tx.DAByName("da0")
		if err != nil {
			return err
		}
		snaps, err := tx.SnapsOfDA(da.ID)
		if err != nil {
			return err
		}
		snaps[0].Held = 6 * mib
		return tx.UpdateSnap(&snaps[0])
	}); err != nil {
		t.Fatal(err)
	}
	_, err := grow(11 * mib)
	refusal(t, err, codes.FailedPrecondition, 8, "its snapshots hold 6291456, writable ones at their full size (snap list); "+
		"delete some, or grow to 10485760 at most")
	must[*apiv1.ModifyDaReply](t)(grow(10 * mib))
	heard(10 * mib)

	// A thin array promises more, up to 64 times what it has bought.
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "thin", DaSize: 4 * mib, PhysicalSize: ptr(2 * mib)}))
	thin := func(to uint64) error {
		_, err := client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "thin", DaSize: ptr(to)})
		return err
	}
	if err := thin(128 * mib); err != nil {
		t.Error(err)
	}
	refusal(t, thin(129*mib), codes.FailedPrecondition, 8, "more than 64 times physical_size; the largest for this array is 134217728")
}

// TestNoGrowthOnSPDK: an array with a controller on SPDK is not told to grow.
func TestNoGrowthOnSPDK(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	physical := uint64(16 << 20)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, PhysicalSize: &physical,
		CntlrCnt: 2}))
	name := getDa(t, client).CntlrMsgList[1].CnName
	c.RunsSPDK(name)
	_, err := client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", DaSize: &physical})
	refusal(t, err, codes.FailedPrecondition, 8, "cn "+name+" of it runs SPDK (SPDK v26.05), which cannot safely grow an array that is in use")
	more := uint64(32 << 20)
	_, err = client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", PhysicalSize: &more})
	refusal(t, err, codes.FailedPrecondition, 8, "cn "+name+" of it runs SPDK (SPDK v26.05), which cannot add disks to an "+
		"array that is in use")
	if got := getDa(t, client); got.DaSize != 4<<20 || got.PhysicalSize != physical || len(got.GrpMsgList) != 1 {
		t.Errorf("%v", got)
	}
}
