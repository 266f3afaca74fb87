package portal_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// refusedWith checks that a request is refused with a code and with words.
func refusedWith(t *testing.T, err error, code apiv1.ReplyCode, words ...string) {
	t.Helper()
	if client.CodeOf(err) != code {
		t.Errorf("%v has code %d, want %d", err, client.CodeOf(err), code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

// TestSnapshots goes through the life of snapshots.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 1, 2)
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2}))
	created := must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s0"}))
	if m := created.SnapMsg; m.State != "taken" || m.DaSize != 8<<20 || m.HeldSize != 1<<20 || m.TakenTime == "" || m.Error {
		t.Errorf("created: %v", m)
	}
	_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s0"})
	refusedWith(t, err, apiv1.CodeNameTaken, "snap s0 of da da0 already exists, of 20")
	// With 8 clusters two are allowed.
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s1"}))
	_, err = cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s2"})
	refusedWith(t, err, apiv1.CodeNoRoom, "da da0 has 2 snaps", "physical_size of 8388608 bytes it may have 2")

	must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e0", SnapName: "s0",
		InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	_, err = cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e1", SnapName: "none", InitiatorNqn: "nqn.2016-06.io.spdk:h"})
	refusedWith(t, err, apiv1.CodeNotFound, `da da0 has no snap "none"`)
	_, err = cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "s0"})
	refusedWith(t, err, apiv1.CodeInUse, "snap s0 of da da0 still has exps: e0")
	_, err = cl.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: "da0", SnapName: "s0", NewSnapName: ptr("s9")})
	refusedWith(t, err, apiv1.CodeInUse, "still has exps: e0")
	got := must[*apiv1.GetSnapReply](t)(cl.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: "da0", SnapName: "s0"})).SnapMsg
	if fmt.Sprint(got.ExpNameList) != "[e0]" {
		t.Errorf("its exporters: %v", got)
	}
	sent := c.Agent("cn0:9820").Syncs()
	spec := sent[len(sent)-1].Cn.Cntlrs[0]
	if len(spec.Exps) != 1 || spec.Exps[0].SnapId != created.SnapMsg.SnapId {
		t.Errorf("the agent is told %v", spec)
	}
	must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "e0"}))
	_, err = cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeInUse, "da da0 still has snaps: s0, s1; delete them first")

	_, err = cl.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: "da0", SnapName: "s0", NewSnapName: ptr("s1")})
	refusedWith(t, err, apiv1.CodeNameTaken, "snap s1 of da da0 already exists")
	_, err = cl.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: "da0", SnapName: "s0", NewSnapName: ptr("a/b")})
	refusedWith(t, err, apiv1.CodeInvalid, "new_snap_name", `"a/b"`)
	must[*apiv1.ModifySnapReply](t)(cl.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: "da0", SnapName: "s0", NewSnapName: ptr("week48")}))
	da := must[*apiv1.GetDaReply](t)(cl.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
	if fmt.Sprint(da.SnapNameList) != "[week48 s1]" || da.SnapSize != 2<<20 {
		t.Errorf("da get: %v, %d bytes", da.SnapNameList, da.SnapSize)
	}
	list := must[*apiv1.ListSnapReply](t)(cl.ListSnap(ctx, &apiv1.ListSnapRequest{DaName: ptr("da0")})).SnapMsgList
	if len(list) != 2 || list[0].SnapName != "s1" || list[1].SnapName != "week48" || list[1].DaName != "da0" {
		t.Errorf("list: %v", list)
	}
	for _, name := range []string{"week48", "s1"} {
		r := must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: name}))
		if r.ReplyInfo.ReplyMsg != "success" {
			t.Errorf("delete: %v", r.ReplyInfo)
		}
	}
	if now, taken := c.Agent("cn0:9820").Snaps(); now != 0 || taken != 2 {
		t.Errorf("%d are left of %d", now, taken)
	}
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
}

// snapRows are the states of all snapshots of an array, tombstones too.
func snapRows(t *testing.T, c *portaltest.Cluster, daName string) (states []vda.SnapState) {
	t.Helper()
	err := c.Store.View(ctx, func(tx store.Reader) error {
		da, err := tx.DAByName(daName)
		if err != nil {
			return err
		}
		rows, err := tx.SnapsOfDA(da.ID)
		for _, r := range rows {
			states = append(states, r.State)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// TestSnapshotThatFailsIsNotLeft: a caller who is told that it failed finds none, now
// or later.
func TestSnapshotThatFailsIsNotLeft(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client(func(cfg *portal.Config) { cfg.SettleTime = time.Millisecond })
	c.Populate(cl, 1, 1)
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20}))
	agent := c.Agent("cn0:9820")
	agent.FailSnaps("no room")
	_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap s of da da0 is not taken: no room; none is left")
	agent.FailSnaps("")
	if rows := snapRows(t, c, "da0"); len(rows) > 0 {
		t.Errorf("rows are left: %v", rows)
	}
	must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"}))
	if now, taken := agent.Snaps(); now != 0 || taken != 0 {
		t.Errorf("%d are on media, %d were taken", now, taken)
	}

	// A primary that is away: the order is void when it comes back.
	away := c.Client(func(cfg *portal.Config) { cfg.SyncTimeout = 300 * time.Millisecond })
	agent.Stop()
	_, err = away.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap s of da da0 is not taken", "deleted when the array's primary can be reached")
	if rows := snapRows(t, c, "da0"); len(rows) != 1 || rows[0] != vda.SnapDeleting {
		t.Errorf("rows: %v", rows)
	}
	agent.Start()
	must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"}))
	if now, taken := agent.Snaps(); now != 0 || taken != 0 {
		t.Errorf("%d are on media, %d were taken", now, taken)
	}
	if rows := snapRows(t, c, "da0"); len(rows) > 0 {
		t.Errorf("rows are left: %v", rows)
	}
}

// TestSnapshotAnswerThatIsLost: the agent has taken it and its answer is lost; it is
// found, and not taken twice.
func TestSnapshotAnswerThatIsLost(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 1, 1)
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20}))
	agent := c.Agent("cn0:9820")
	agent.FailNext("the agent is still at work on it")
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s"}))
	if now, taken := agent.Snaps(); now != 1 || taken != 1 {
		t.Errorf("%d are on media, %d were taken", now, taken)
	}
	if rows := snapRows(t, c, "da0"); len(rows) != 1 || rows[0] != vda.SnapTaken {
		t.Errorf("rows: %v", rows)
	}
	// It is never asked for again.
	must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"}))
	sent := agent.Syncs()
	if s := sent[len(sent)-1].Cn.Cntlrs[0].Snaps; len(s) != 1 || s[0].State != apiv1.SnapState_SNAP_STATE_TAKEN {
		t.Errorf("the agent is told %v", s)
	}
}

// TestSnapshotHasItsOwnSize: a snapshot that is taken while a growth is open shows the size
// that the volume had, as its primary says.
func TestSnapshotHasItsOwnSize(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 1, 1)
	physical := uint64(32 << 20)
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, PhysicalSize: &physical}))
	size := uint64(12 << 20)
	must[*apiv1.ModifyDaReply](t)(cl.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", DaSize: &size}))
	for name, says := range map[string]uint64{"early": 8 << 20, "silent": 0} {
		c.Agent("cn0:9820").SizeOfSnaps(says)
		got := must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: name})).SnapMsg
		if says != 0 && got.DaSize != says || says == 0 && got.DaSize != size {
			t.Errorf("snapshot %s has %d bytes; its primary says %d, and SQL %d", name, got.DaSize, says, size)
		}
	}
}

// TestRollback: an order that is given once is carried out once, and stands until it is;
// meanwhile nothing else is done to the array.
func TestRollback(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client(func(cfg *portal.Config) { cfg.SettleTime = time.Millisecond })
	c.Populate(cl, 1, 1)
	host := "nqn.2016-06.io.spdk:h"
	roll := &apiv1.RollbackSnapRequest{DaName: "da0", SnapName: "s0"}
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 16 << 20}))
	for _, name := range []string{"s0", "s1"} {
		must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: name}))
	}
	must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e0", InitiatorNqn: host}))
	must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "of", SnapName: "s0",
		InitiatorNqn: host}))
	_, err := cl.RollbackSnap(ctx, roll)
	refusedWith(t, err, apiv1.CodeInUse, "da da0 still has exps: e0; delete them first")
	must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "e0"}))
	agent := c.Agent("cn0:9820")
	if got := must[*apiv1.RollbackSnapReply](t)(cl.RollbackSnap(ctx, roll)); got.SnapMsg.Rollback != "" || agent.RolledBack() != 1 {
		t.Errorf("%v, rolled back %d times", got, agent.RolledBack())
	}
	must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"}))
	if n := agent.RolledBack(); n != 1 {
		t.Errorf("it was rolled back %d times", n)
	}

	// One that cannot be carried out stands.
	agent.FailSnaps("a reason")
	_, err = cl.RollbackSnap(ctx, roll)
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "da da0 is not rolled back to snap s0 yet: a reason; it will be when that is mended")
	got := must[*apiv1.GetSnapReply](t)(cl.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: "da0", SnapName: "s0"}))
	if got.SnapMsg.Rollback != "asked" {
		t.Errorf("%v", got)
	}
	for what, f := range map[string]func() error{
		"exp create": func() error {
			_, err := cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e1", InitiatorNqn: host})
			return err
		},
		"snap create": func() error {
			_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s2"})
			return err
		},
		"snap delete": func() error {
			_, err := cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "s1"})
			return err
		},
		"another": func() error {
			_, err := cl.RollbackSnap(ctx, &apiv1.RollbackSnapRequest{DaName: "da0", SnapName: "s1"})
			return err
		},
	} {
		err := f()
		t.Log(what)
		refusedWith(t, err, apiv1.CodeFailedPrecondition, "da da0 is being rolled back to snap s0")
	}
	agent.FailSnaps("")
	must[*apiv1.RollbackSnapReply](t)(cl.RollbackSnap(ctx, roll)) // the same order
	if n := agent.RolledBack(); n != 2 {
		t.Errorf("it was rolled back %d times", n)
	}
	must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e1", InitiatorNqn: host}))

	// Or it is given up with its snapshot.
	must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "e1"}))
	must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "of"}))
	agent.FailSnaps("a reason")
	_, err = cl.RollbackSnap(ctx, roll)
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "a reason")
	agent.FailSnaps("")
	must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "s0"}))
	must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e2", InitiatorNqn: host}))
}
