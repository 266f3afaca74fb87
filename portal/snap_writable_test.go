package portal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestWritableSnapshots goes through the life of writable snapshots, and what is refused about them.
func TestWritableSnapshots(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 1, 2)
	host := "nqn.2016-06.io.spdk:h"
	physical := uint64(48 << 20)
	for _, name := range []string{"da0", "da1"} {
		must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, DaSize: 8 << 20, PhysicalSize: &physical,
			CntlrCnt: 2}))
	}
	snap := func(name, from string) (*apiv1.CreateSnapReply, error) {
		return cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: name, FromSnap: from})
	}
	must[*apiv1.CreateSnapReply](t)(snap("monday", ""))
	made := must[*apiv1.CreateSnapReply](t)(snap("try", "monday")).SnapMsg
	if !made.Writable || made.FromSnap != "monday" || made.State != "taken" || made.DaSize != 8<<20 || made.Error {
		t.Errorf("made: %v", made)
	}
	sent := c.Agent("cn0:9820").Syncs()
	spec := sent[len(sent)-1].Cn.Cntlrs[0].Snaps
	if len(spec) != 2 || spec[1].State != apiv1.SnapState_SNAP_STATE_UNSPECIFIED || spec[1].Clone.GetOf() != spec[0].Id ||
		spec[1].Clone.State != apiv1.SnapState_SNAP_STATE_TAKEN {
		t.Errorf("the agent is told %v", spec)
	}

	for _, tt := range []struct {
		das, name, from string
		code            apiv1.ReplyCode
		words           []string
	}{
		{"da0", "try", "monday", apiv1.CodeNameTaken, []string{"snap try of da da0 already exists"}},
		{"da0", "x", "none", apiv1.CodeNotFound, []string{`da da0 has no snap "none"`}},
		{"da0", "x", "try", apiv1.CodeFailedPrecondition, []string{"snap try of da da0 is writable", "made of one that is not"}},
		{"da0", "x", "a/b", apiv1.CodeInvalid, []string{"from_snap", `"a/b"`}},
		{"da0,da1", "x", "monday", apiv1.CodeInvalid, []string{"from_snap is given with several das in da_name"}},
	} {
		_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: tt.das, SnapName: tt.name, FromSnap: tt.from})
		refusedWith(t, err, tt.code, tt.words...)
	}
	_, err := cl.RollbackSnap(ctx, &apiv1.RollbackSnapRequest{DaName: "da0", SnapName: "try"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap try of da da0 is writable; an array is rolled back to a snapshot that takes no "+
		"writes")
	_, err = cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "copy", FromSnap: "da0/try"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap try of da da0 is writable, and a clone is copied from what does not change")
	_, err = cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "monday"})
	refusedWith(t, err, apiv1.CodeInUse, "snap monday of da da0 still has writable snaps that were made of it: try; delete them first")

	// It is exported, and says so.
	for snap, writable := range map[string]bool{"try": true, "monday": false} {
		r := must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "of-" + snap, SnapName: snap,
			InitiatorNqn: host}))
		if r.ExpMsg.SnapWritable != writable {
			t.Errorf("the exporter of %s: %v", snap, r.ExpMsg)
		}
	}
	_, err = cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "try"})
	refusedWith(t, err, apiv1.CodeInUse, "snap try of da da0 still has exps: of-try")
	for _, name := range []string{"of-try", "of-monday"} {
		must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: name}))
	}

	// The array is rolled back beside it, and its snapshot gets another name.
	rolled := must[*apiv1.RollbackSnapReply](t)(cl.RollbackSnap(ctx, &apiv1.RollbackSnapRequest{DaName: "da0", SnapName: "monday"}))
	if rolled.SnapMsg.Rollback != "" {
		t.Errorf("rolled back: %v", rolled)
	}
	must[*apiv1.ModifySnapReply](t)(cl.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: "da0", SnapName: "monday",
		NewSnapName: ptr("week48")}))
	of := must[*apiv1.GetSnapReply](t)(cl.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: "da0", SnapName: "week48"})).SnapMsg
	if fmt.Sprint(of.CloneNameList) != "[try]" || of.Writable || of.FromSnap != "" {
		t.Errorf("its snapshot: %v", of)
	}
	list := must[*apiv1.ListSnapReply](t)(cl.ListSnap(ctx, &apiv1.ListSnapRequest{DaName: ptr("da0")})).SnapMsgList
	if len(list) != 2 || list[0].SnapName != "try" || list[0].FromSnap != "week48" || list[1].FromSnap != "" {
		t.Errorf("list: %v", list)
	}

	// An array that is not thin does not grow into what hosts may write to it.
	size := uint64(40 << 20)
	_, err = cl.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", DaSize: &size})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "its snapshots hold 9437184, writable ones at their full size")

	_, err = cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeInUse, "da da0 still has snaps: week48, try; delete them first")
	for _, name := range []string{"try", "week48"} {
		must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: name}))
	}
	if now, taken := c.Agent("cn0:9820").Snaps(); now != 0 || taken != 2 {
		t.Errorf("%d are left of %d", now, taken)
	}
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
}

// TestWritableSnapshotThatFailsIsNotLeft: a caller who is told that it failed finds none, now or later;
// an agent of before leaves it alone, which is a failure, too, and takes no snapshot of the array for it.
func TestWritableSnapshotThatFailsIsNotLeft(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client(func(cfg *portal.Config) { cfg.SettleTime = time.Millisecond })
	short := c.Client(func(cfg *portal.Config) { cfg.SyncTimeout = 300 * time.Millisecond })
	c.Populate(cl, 1, 1)
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 16 << 20}))
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s"}))
	agent := c.Agent("cn0:9820")
	req := &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "w", FromSnap: "s"}
	agent.FailSnaps("no room")
	_, err := cl.CreateSnap(ctx, req)
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap w of da da0 is not made: no room; none is left")
	agent.FailSnaps("")

	agent.KnowsNoWritableSnaps(true)
	_, err = short.CreateSnap(ctx, req)
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap w of da da0 is not made: the array's primary has not carried it out in time",
		"a release without writable snapshots")
	if now, taken := agent.Snaps(); now != 1 || taken != 1 {
		t.Errorf("an agent of before: %d are on media, %d were taken", now, taken)
	}
	if rows := snapRows(t, c, "da0"); len(rows) != 2 || rows[1] != vda.SnapDeleting {
		t.Errorf("rows: %v", rows)
	}
	agent.KnowsNoWritableSnaps(false)
	must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"}))
	if rows := snapRows(t, c, "da0"); len(rows) != 1 {
		t.Errorf("rows are left: %v", rows)
	}
	agent.FailNext("the agent is still at work on it")
	must[*apiv1.CreateSnapReply](t)(c.Client().CreateSnap(ctx, req))
	if now, taken := agent.Snaps(); now != 2 || taken != 2 {
		t.Errorf("%d are on media, %d were taken", now, taken)
	}
}

// TestWritableSnapshotIsAdopted: an array that the database has lost is adopted with its writable
// snapshots, which are again clones of what they were clones of, exported for writes, and never made again.
func TestWritableSnapshotIsAdopted(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 1, 2)
	physical := uint64(48 << 20)
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, PhysicalSize: &physical,
		CntlrCnt: 2}))
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "monday"}))
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "try", FromSnap: "monday"}))
	for exp, snap := range map[string]string{"work": "try", "look": "monday"} {
		must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: exp, SnapName: snap,
			InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	}
	agent := c.Agent("cn0:9820")
	da := must[*apiv1.GetDaReply](t)(cl.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
	for _, cntlr := range da.CntlrMsgList {
		if cntlr.Primary {
			agent = c.Agent(cntlr.CnName)
		}
	}
	get := func(name string) *apiv1.SnapMsg {
		t.Helper()
		return must[*apiv1.GetSnapReply](t)(cl.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: "da0", SnapName: name})).SnapMsg
	}
	tried := get("try")

	forget(t, c, cl, "da0")
	must[*apiv1.AdoptOrphanReply](t)(cl.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: da.DaId}))
	now := get("try")
	if now.SnapId != tried.SnapId || !now.Writable || now.FromSnap != "monday" || now.State != "taken" || now.DaSize != 8<<20 || now.Error ||
		fmt.Sprint(now.ExpNameList) != "[work]" {
		t.Errorf("adopted: %v", now)
	}
	if of := get("monday"); of.Writable || of.FromSnap != "" || fmt.Sprint(of.CloneNameList) != "[try]" {
		t.Errorf("its snapshot: %v", of)
	}
	for exp, writable := range map[string]bool{"work": true, "look": false} {
		m := must[*apiv1.GetExpReply](t)(cl.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: exp})).ExpMsg
		if m.SnapWritable != writable || len(m.EsMsgList) != 2 {
			t.Errorf("exporter %s: %v", exp, m)
		}
	}
	if n, taken := agent.Snaps(); n != 2 || taken != 2 {
		t.Errorf("%d are on media, %d were taken", n, taken)
	}
	_, err := cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "monday"})
	refusedWith(t, err, apiv1.CodeInUse, "snap monday of da da0 still has")
	for _, exp := range []string{"work", "look"} {
		must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: exp}))
	}
	_, err = cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "monday"})
	refusedWith(t, err, apiv1.CodeInUse, "snap monday of da da0 still has writable snaps that were made of it: try")
	for _, snap := range []string{"try", "monday"} {
		must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: snap}))
	}
	if n, _ := agent.Snaps(); n != 0 {
		t.Errorf("%d are left", n)
	}
}
