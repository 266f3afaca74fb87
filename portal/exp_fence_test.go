package portal_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestFence: a deletion that is a fence fails until the hosts can write no more, also
// when it is repeated by somebody for whom the exporter is gone already.
func TestFence(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2}))
	da := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
	at, other := da.CntlrMsgList[0].CnName, da.CntlrMsgList[1].CnName
	if !da.CntlrMsgList[0].Primary {
		at, other = other, at
	}
	primary, secondary := c.Agent(at), c.Agent(other)
	create := func() {
		t.Helper()
		must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "exp0",
			InitiatorNqn: "nqn.2016-06.io.spdk:host0"}))
	}
	fence := &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "exp0", Fence: true}
	succeeds := func() bool { // once the portal has connected to the node again
		_, err := client.DeleteExp(ctx, fence)
		return err == nil
	}

	// All answer: it is a fence, and there is nothing to repeat.
	create()
	must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, fence))
	_, err := client.DeleteExp(ctx, fence)
	refusal(t, err, codes.NotFound, 3)

	// The primary is away: the call fails as often as it is made.
	create()
	primary.Stop()
	for range 2 {
		_, err = client.DeleteExp(ctx, fence)
		refusal(t, err, codes.FailedPrecondition, 8, "its hosts may still write", at)
	}
	// So does one for all that are deleted, which deletes none.
	all := &apiv1.DeleteExpRequest{DaName: "da0", Fence: true}
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "exp1",
		InitiatorNqn: "nqn.2016-06.io.spdk:host1"}))
	for range 2 {
		_, err = client.DeleteExp(ctx, all)
		refusal(t, err, codes.FailedPrecondition, 8, "exp exp0 of da da0 is deleted, but its hosts may still write", at)
	}
	_, err = client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0"})
	refusal(t, err, codes.InvalidArgument, 2, "exp_name")
	must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "exp1"}))
	// Without a fence it is gone.
	_, err = client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "exp0"})
	refusal(t, err, codes.NotFound, 3)
	// Another of the name, which goes with the one before.
	primary.Start()
	await(t, func() bool {
		_, err := client.DeleteExp(ctx, all)
		return err == nil
	})
	must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "exp1", Fence: true}))
	must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, all)) // there is none
	create()
	await(t, succeeds)

	// A secondary that is away passes nothing on to a primary that has confirmed.
	create()
	secondary.Stop()
	must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, fence))
	// Unless that is a primary which has not served yet: the dns may not know of it.
	c.Change(func(tx store.Tx) error {
		da, err := tx.DAByName("da0")
		if err != nil {
			return err
		}
		da.Moving = time.Now().UTC()
		return tx.UpdateDA(da)
	})
	_, err = client.DeleteExp(ctx, fence)
	refusal(t, err, codes.FailedPrecondition, 8, "does not serve yet")
	secondary.Start()
	await(t, succeeds)
	c.Change(func(tx store.Tx) error {
		da, err := tx.DAByName("da0")
		if err != nil {
			return err
		}
		exps, err := tx.ExpsOfDA(da.ID)
		if len(exps) > 0 {
			t.Errorf("left: %v", exps)
		}
		return err
	})
}

// TestFormerHostsOfAName: an exporter of a name that was another host's is not made while a
// secondary may still have that host: its connection to the primary goes by the NQN, and
// would pass on what it writes.
func TestFormerHostsOfAName(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2}))
	da := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
	other := da.CntlrMsgList[0].CnName
	if da.CntlrMsgList[0].Primary {
		other = da.CntlrMsgList[1].CnName
	}
	secondary := c.Agent(other)
	create := func(name, host string) error {
		_, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: name, InitiatorNqn: "nqn.2016-06.io.spdk:" + host})
		return err
	}
	remove := func(name string, fence bool) {
		t.Helper()
		must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: name, Fence: fence}))
	}
	for _, fence := range []bool{true, false} {
		if err := create("exp0", "former"); err != nil {
			t.Fatal(err)
		}
		secondary.Stop()
		remove("exp0", fence)
		refusal(t, create("exp0", "next"), codes.FailedPrecondition, 8, "exp_name exp0", other, "nqn.2016-06.io.spdk:former", "another exp_name")
		if err := create("exp1", "next"); err != nil { // of another name
			t.Error(err)
		}
		remove("exp1", fence)
		if err := create("exp0", "former"); err != nil { // the same host again
			t.Error(err)
		}
		remove("exp0", fence)
		refusal(t, create("exp0", "next"), codes.FailedPrecondition, 8, other) // two of the name are left
		secondary.Start()
		await(t, func() bool {
			if create("exp0", "next") == nil {
				return true
			}
			// A monitor would see to it; here, the call that is repeated.
			must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "exp0", Fence: true}))
			return false
		})
		remove("exp0", fence)
	}
}

// TestFenceOfAWritableSnapshot: hosts write to one, so that a fence waits for its exporters, also
// when it has another name by then or is deleted itself; and the name of such an exporter is not taken
// over, not by the same hosts either. Exporters of a snapshot that takes no writes are in nobody's way.
func TestFenceOfAWritableSnapshot(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	physical := uint64(48 << 20)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, PhysicalSize: &physical,
		CntlrCnt: 2}))
	da := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
	at, other := da.CntlrMsgList[0].CnName, da.CntlrMsgList[1].CnName
	if !da.CntlrMsgList[0].Primary {
		at, other = other, at
	}
	primary, secondary := c.Agent(at), c.Agent(other)
	snap := func(name, from string) {
		t.Helper()
		must[*apiv1.CreateSnapReply](t)(client.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: name, FromSnap: from}))
	}
	create := func(name, snap string) error {
		_, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: name, SnapName: snap,
			InitiatorNqn: "nqn.2016-06.io.spdk:host0"})
		return err
	}
	remove := func(name string) {
		t.Helper()
		must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: name}))
	}
	fence := func() error {
		_, err := client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", Fence: true})
		return err
	}
	snap("monday", "")
	snap("try", "monday")

	// The same host comes again while a secondary may still have it.
	for name, from := range map[string]string{"look": "monday", "work": "try"} {
		if err := create(name, from); err != nil {
			t.Fatal(err)
		}
	}
	secondary.Stop()
	remove("look")
	remove("work")
	if err := create("look", "monday"); err != nil {
		t.Error(err)
	}
	refusal(t, create("work", "try"), codes.FailedPrecondition, 8, "exp_name work", other, "another exp_name")
	if err := fence(); err != nil { // its primary has confirmed
		t.Error(err)
	}
	secondary.Start()
	await(t, func() bool {
		_, _ = client.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: other})
		return create("work", "try") == nil
	})

	// The primary has not confirmed.
	primary.Stop()
	remove("look")
	if err := fence(); err != nil {
		t.Errorf("an exporter of a snapshot that takes no writes: %v", err)
	}
	remove("work")
	says := "exp work of da da0 is deleted, but its hosts may still write"
	refusal(t, fence(), codes.FailedPrecondition, 8, says, at)
	must[*apiv1.ModifySnapReply](t)(client.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: "da0", SnapName: "try",
		NewSnapName: ptr("tried")}))
	refusal(t, fence(), codes.FailedPrecondition, 8, says, at)
	id := must[*apiv1.GetSnapReply](t)(client.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: "da0", SnapName: "tried"})).SnapMsg.SnapId
	must[*apiv1.DeleteSnapReply](t)(client.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "tried"}))
	refusal(t, fence(), codes.FailedPrecondition, 8, says, at)

	// The primary is told what the exporter shows, as that goes after it.
	primary.Start()
	await(t, func() bool { return fence() == nil })
	told := 0
	for _, s := range primary.Syncs() {
		for _, cntlr := range s.Cn.Cntlrs {
			for _, e := range cntlr.Exps {
				if e.Name != "work" || !e.Deleted {
					continue
				}
				if told++; e.SnapId != id {
					t.Errorf("of the exporter of a snapshot that is to go the primary is told %v", e)
				}
			}
		}
	}
	if told == 0 {
		t.Error("the primary is told of no exporter")
	}
}
