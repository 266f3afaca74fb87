package portal_test

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestTrash: an array that is deleted and kept is gone for users, takes its space, and
// comes back as it was.
func TestTrash(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 1, 2)
	dn, cn0, cn1 := c.Agent("dn0:9720"), c.Agent("cn0:9820"), c.Agent("cn1:9820")
	create := &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2, Label: []string{"env=prod"}}
	export := &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e0", InitiatorNqn: "nqn.2016-06.io.spdk:h"}
	first := must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, create)).DaMsg
	must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, export))
	_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0", Keep: "24h"})
	refusedWith(t, err, apiv1.CodeInUse, "still has exps: e0")
	must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "e0"}))
	for keep, words := range map[string]string{"1": "is not a time like 90m, 24h or 7d", "1w": "24h or 7d", "59s": "must be 1m to 366d",
		"367d": "must be 1m to 366d", "-1h": "must be", "d": "is not a time"} {
		_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0", Keep: keep})
		refusedWith(t, err, apiv1.CodeInvalid, `keep "`+keep+`"`, words)
	}
	dn.Syncs() // what they were told by then
	cn0.Syncs()
	cn1.Syncs()
	begin := time.Now()
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0", Keep: "7d"}))
	if n := len(dn.Syncs()) + len(cn0.Syncs()) + len(cn1.Syncs()); n != 0 {
		t.Errorf("nodes were told %d times", n)
	}

	// It is gone for users.
	_, err = cl.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeNotFound, `"da0"`)
	_, err = cl.CreateExp(ctx, export)
	refusedWith(t, err, apiv1.CodeNotFound, `"da0"`)
	if l := must[*apiv1.ListDaReply](t)(cl.ListDa(ctx, &apiv1.ListDaRequest{})).DaMsgList; len(l) != 0 {
		t.Errorf("it is listed: %v", l)
	}
	trash := must[*apiv1.ListDaReply](t)(cl.ListDa(ctx, &apiv1.ListDaRequest{Trash: true})).DaMsgList
	if len(trash) != 1 || trash[0].DaId != first.DaId || trash[0].RawSize != first.RawSize || len(trash[0].LabelList) != 1 {
		t.Fatalf("the trash: %v", trash)
	}
	until, err := time.Parse(time.RFC3339Nano, trash[0].PurgeTime)
	if kept := until.Sub(begin); err != nil || kept < 7*24*time.Hour-time.Second || kept > 8*24*time.Hour {
		t.Errorf("it is kept until %v (%v)", until, err)
	}
	st := must[*apiv1.GetStatusReply](t)(cl.GetStatus(ctx, &apiv1.GetStatusRequest{})).StatusMsg
	var kept uint64
	for _, l := range st.CapacityMsgList {
		kept += l.ReclaimableSize
	}
	if kept != first.RawSize || len(st.DaCountMsgList) != 0 {
		t.Errorf("status: %d bytes are reclaimable of %d, arrays %v", kept, first.RawSize, st.DaCountMsgList)
	}
	// A node or disk is not taken away below it, and why not is said.
	_, err = cl.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "pd0"})
	refusedWith(t, err, apiv1.CodeInUse, "da0 (deleted and kept until 20", "da undelete it")
	_, err = cl.DeleteCn(ctx, &apiv1.DeleteCnRequest{CnName: "cn0:9820", Force: true})
	refusedWith(t, err, apiv1.CodeInUse, "da0 (deleted and kept until 20")

	// Its name is free; it comes back under another, and then the two change places.
	second := must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, create)).DaMsg
	_, err = cl.UndeleteDa(ctx, &apiv1.UndeleteDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeNameTaken, "da da0 already exists; give new_da_name")
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0", Keep: "90m"}))
	_, err = cl.UndeleteDa(ctx, &apiv1.UndeleteDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "2 deleted das da0 are kept; give the da_id of one", first.DaId+" until 20", second.DaId)
	_, err = cl.UndeleteDa(ctx, &apiv1.UndeleteDaRequest{DaName: "da0", DaId: "x"})
	refusedWith(t, err, apiv1.CodeNotFound, `no deleted da "da0" with da_id "x"`)
	_, err = cl.UndeleteDa(ctx, &apiv1.UndeleteDaRequest{DaName: "da1"})
	refusedWith(t, err, apiv1.CodeNotFound, `no deleted da "da1" is kept; da list --trash`)
	back := must[*apiv1.UndeleteDaReply](t)(cl.UndeleteDa(ctx, &apiv1.UndeleteDaRequest{DaName: "da0", DaId: second.DaId,
		NewDaName: ptr("da9")}))
	if m := back.DaMsg; m.DaId != second.DaId || m.DaName != "da9" || m.PurgeTime != "" || m.Error {
		t.Errorf("back under another name: %v", m)
	}
	back = must[*apiv1.UndeleteDaReply](t)(cl.UndeleteDa(ctx, &apiv1.UndeleteDaRequest{DaName: "da0"}))
	if m := back.DaMsg; m.DaId != first.DaId || m.Term != first.Term || len(m.CntlrMsgList) != 2 || len(m.LabelList) != 1 || m.Error {
		t.Errorf("back: %v", m)
	}
	must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, export))
	_, err = cl.UndeleteDa(ctx, &apiv1.UndeleteDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeNotFound, `no deleted da "da0" is kept`)

	// What is deleted without keep, as ever, is not there.
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da9"}))
	if l := must[*apiv1.ListDaReply](t)(cl.ListDa(ctx, &apiv1.ListDaRequest{Trash: true})).DaMsgList; len(l) != 0 {
		t.Errorf("the trash: %v", l)
	}
	c.Change(func(tx store.Tx) error {
		da, err := tx.DA(second.DaId)
		if err == nil && !da.Deleted || err != nil && vda.KindOf(err) != vda.NotFound {
			t.Errorf("da9: %v, %v", da, err)
		}
		return nil
	})
}
