package portal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// withSnap is a cluster with an array da0 and its snapshot s0.
func withSnap(t *testing.T) (*portaltest.Cluster, *client.Client) {
	c := portaltest.New(t)
	cl := c.Client(func(cfg *portal.Config) { cfg.SettleTime = time.Millisecond })
	c.Populate(cl, 2, 2)
	c.CanMirror()
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 16 << 20, CntlrCnt: 2}))
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s0"}))
	return c, cl
}

// sourceOf is what the primary of an array is told of its source, nil for nothing.
func sourceOf(t *testing.T, c *portaltest.Cluster, daID string) (source *apiv1.CloneSource) {
	t.Helper()
	c.Change(func(tx store.Tx) error {
		cntlrs, err := tx.Unlocked().CntlrsOfDA(daID)
		for i := range cntlrs {
			req, err := syncer.BuildCn(tx.Unlocked(), cntlrs[i].CNID, 0)
			if err != nil {
				return err
			}
			for _, s := range req.Cntlrs {
				if s.DaId == daID && !s.Primary && s.Source != nil {
					t.Error("a secondary is told of the source")
				}
				if s.DaId == daID && s.Primary {
					source = s.Source
				}
			}
		}
		return err
	})
	return source
}

// TestClone: a clone is told where its source is, and until all is copied neither that nor
// its array is deleted, nor the clone itself changed in what the copy does not allow.
func TestClone(t *testing.T) {
	t.Parallel()
	c, cl := withSnap(t)
	made := must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c0", FromSnap: "da0/s0", CntlrCnt: 2,
		Redundancy: "mirror:2"})).DaMsg
	if made.DaSize != 16<<20 || made.CloneOf != "da0/s0" || made.Redundancy != "mirror:2" {
		t.Fatalf("%v", made)
	}
	exp := "vda-clone-" + made.DaId
	s := sourceOf(t, c, made.DaId)
	if s == nil || s.Name != "da0/s0" || s.Nqn != vda.ExpNQN("da0", exp) || s.HostNqn != vda.CloneHostNQN(made.DaId) || s.Size != 16<<20 ||
		len(s.Listeners) != 2 {
		t.Fatalf("the primary is told %v", s)
	}
	e := must[*apiv1.GetExpReply](t)(cl.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: exp, WithNsUuid: true})).ExpMsg
	if e.NsUuid != s.Uuid || e.SnapName != "s0" || len(e.EsMsgList) != 2 || e.InitiatorNqn != s.HostNqn {
		t.Errorf("the exporter that it reads by: %v", e)
	}
	still := "is what das are still copied from: c0; da get of each shows copied_size of copy_size"
	size := uint64(32 << 20)
	for _, x := range []struct {
		what  string
		code  apiv1.ReplyCode
		words string
		f     func() error
	}{
		{"delete the snapshot", apiv1.CodeInUse, "snap s0 of da da0 " + still, func() error {
			_, err := cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "s0"})
			return err
		}},
		{"delete the array", apiv1.CodeInUse, "da da0 " + still, func() error {
			_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
			return err
		}},
		{"into the trash", apiv1.CodeInUse, "da da0 " + still, func() error {
			_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0", Keep: "1h"})
			return err
		}},
		{"delete the exporter", apiv1.CodeFailedPrecondition, "is what a clone is copied from", func() error {
			_, err := cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: exp})
			return err
		}},
		{"let another host in", apiv1.CodeFailedPrecondition, "is what a clone is copied from", func() error {
			_, err := cl.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: exp, AddInitiatorNqn: []string{"nqn.2016-06.io.spdk:x"}})
			return err
		}},
		{"snapshot the clone", apiv1.CodeFailedPrecondition, "da c0 is still being copied from snap da0/s0", func() error {
			_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "c0", SnapName: "s1"})
			return err
		}},
		{"clone the clone", apiv1.CodeFailedPrecondition, "da c0 is still being copied from snap da0/s0", func() error {
			_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c1", FromDa: "c0"})
			return err
		}},
		{"grow the clone", apiv1.CodeFailedPrecondition, "da c0 is still being copied from snap da0/s0", func() error {
			_, err := cl.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "c0", DaSize: &size})
			return err
		}},
		{"smaller than the source", apiv1.CodeInvalid, "da_size is 8388608 bytes, and what the array is made of has 16777216", func() error {
			_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c1", FromSnap: "da0/s0", DaSize: 8 << 20})
			return err
		}},
		{"both", apiv1.CodeInvalid, "from_snap and from_da are both given", func() error {
			_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c1", FromSnap: "da0/s0", FromDa: "da0"})
			return err
		}},
		{"no snapshot", apiv1.CodeNotFound, `da da0 has no snap "s9"`, func() error {
			_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c1", FromSnap: "da0/s9"})
			return err
		}},
		{"no path", apiv1.CodeInvalid, `from_snap "s0" is not ARRAY/SNAPSHOT`, func() error {
			_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c1", FromSnap: "s0"})
			return err
		}},
		{"the name is taken", apiv1.CodeNameTaken, "da c0 already exists", func() error {
			_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c0", FromDa: "da0"})
			return err
		}},
		{"a name of ours", apiv1.CodeInvalid, "names that begin with vda-clone- are those of what clones are copied from", func() error {
			_, err := cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "vda-clone-x", InitiatorNqn: "nqn.2016-06.io.spdk:x"})
			return err
		}},
		{"a snapshot's name of ours", apiv1.CodeInvalid, "names that begin with vda-clone- are", func() error {
			_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "vda-clone-x"})
			return err
		}},
	} {
		err := x.f()
		t.Log(x.what)
		refusedWith(t, err, x.code, x.words)
	}

	get := func() *apiv1.DaMsg {
		t.Helper()
		return must[*apiv1.GetDaReply](t)(cl.GetDa(ctx, &apiv1.GetDaRequest{DaName: "c0"})).DaMsg
	}
	note := func(r array.CloneReport) {
		t.Helper()
		r.DAID = made.DaId
		c.Change(func(tx store.Tx) error { _, err := array.NoteClone(tx, &r); return err })
	}
	drop := func() {
		t.Helper()
		c.Change(func(tx store.Tx) error {
			exps, err := tx.Unlocked().CloneExps()
			for i := range exps {
				if _, err := array.DropSource(tx, exps[i].ID); err != nil {
					return err
				}
			}
			return err
		})
	}
	note(array.CloneReport{Term: 1, Done: 1 << 20, Total: 16 << 20})
	note(array.CloneReport{Term: 2, Done: 9 << 20, Total: 16 << 20, Independent: true}) // of no primary that there is
	drop()
	if da := get(); da.CopiedSize != 1<<20 || da.CopySize != 16<<20 || da.CloneOf == "" || sourceOf(t, c, made.DaId) == nil {
		t.Fatalf("while it is copied: %v", da)
	}
	if exps := must[*apiv1.GetDaReply](t)(cl.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg.ExpNameList; len(exps) != 1 {
		t.Fatalf("exporters of the source: %v", exps)
	}
	note(array.CloneReport{Term: 1, Done: 16 << 20, Total: 16 << 20, Independent: true})
	if da := get(); da.CloneOf != "" || da.CopySize != 0 || sourceOf(t, c, made.DaId) != nil {
		t.Errorf("when it is copied: %v", da)
	}
	done := 0
	for _, e := range must[*apiv1.ListEventReply](t)(cl.ListEvent(ctx, &apiv1.ListEventRequest{})).EventMsgList {
		if e.Kind == string(vda.EventCloneDone) && e.Name == "c0" {
			done++
		}
	}
	if done != 1 {
		t.Errorf("%d events say that it is copied", done)
	}
	drop()
	for _, cn := range []string{"cn0:9820", "cn1:9820"} {
		must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: cn}))
	}
	must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "s0"}))
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "c0", SnapName: "s1"}))
}

// TestCloneOfAnArray: the snapshot that is taken for a clone is there as long as the clone
// needs it, and does not stay when the clone cannot be made.
func TestCloneOfAnArray(t *testing.T) {
	t.Parallel()
	c, cl := withSnap(t)
	snaps := func() (names []string) {
		for _, s := range must[*apiv1.ListSnapReply](t)(cl.ListSnap(ctx, &apiv1.ListSnapRequest{})).SnapMsgList {
			names = append(names, s.SnapName)
		}
		return names
	}
	_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c0", FromDa: "da0", CntlrCnt: 9})
	refusedWith(t, err, apiv1.CodeNoRoom, "")
	if got := snaps(); len(got) != 1 {
		t.Errorf("after a clone that was not made there are %v", got)
	}
	made := must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c0", FromDa: "da0", DaSize: 24 << 20})).DaMsg
	if got := snaps(); len(got) != 2 || made.CloneOf != "da0/vda-clone-"+made.DaId || made.DaSize != 24<<20 {
		t.Fatalf("%v, snapshots %v", made, got)
	}
	tend := func(now time.Time) {
		t.Helper()
		c.Change(func(tx store.Tx) error {
			exps, err1 := tx.Unlocked().CloneExps()
			for i := range exps {
				if _, err := array.DropSource(tx, exps[i].ID); err != nil {
					return err
				}
			}
			return err1
		})
		for _, cn := range []string{"cn0:9820", "cn1:9820"} {
			must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: cn}))
		}
		c.Change(func(tx store.Tx) error {
			all, err1 := tx.Unlocked().CloneSnaps()
			for i := range all {
				if _, err := array.DropCloneSnap(tx, all[i].ID, now); err != nil {
					return err
				}
			}
			return err1
		})
	}
	tend(time.Now().Add(24 * time.Hour))
	if got := snaps(); len(got) != 2 {
		t.Errorf("while the clone is copied there are %v", got)
	}
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "c0"}))
	tend(time.Now().Add(24 * time.Hour))
	if got := snaps(); strings.Join(got, " ") != "s0" {
		t.Errorf("after the clone was deleted there are %v", got)
	}
}

// TestSourceGoesAfterItsClones: what clones were copied from can be deleted as soon as the
// last of them is, as an orchestrator does that deletes everything.
func TestSourceGoesAfterItsClones(t *testing.T) {
	t.Parallel()
	_, cl := withSnap(t)
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c0", FromSnap: "da0/s0"}))
	must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c1", FromDa: "da0"}))
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "c0"}))
	_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeInUse, "da da0 is what das are still copied from: c1;")
	must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "s0"}))
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "c1"}))
	if got := must[*apiv1.ListSnapReply](t)(cl.ListSnap(ctx, &apiv1.ListSnapRequest{})).SnapMsgList; len(got) > 0 {
		t.Errorf("after the clone there is still %v", got)
	}
	must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
}

// TestSourceWaitsForNodes: an array is deleted as soon as nodes have let go of what its clone
// was copied from; until then the refusal says to come again, not to delete what users do
// not see.
func TestSourceWaitsForNodes(t *testing.T) {
	t.Parallel()
	for _, patient := range []bool{false, true} {
		c := portaltest.New(t)
		cl := c.Client(func(cfg *portal.Config) {
			if cfg.SettleTime = time.Millisecond; patient {
				cfg.SettleTime = time.Hour
			}
		})
		c.Populate(cl, 2, 1)
		c.CanMirror()
		must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 16 << 20, CntlrCnt: 1}))
		must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c0", FromDa: "da0", CntlrCnt: 1}))
		cn := c.Agent("cn0:9820")
		cn.Stop()
		must[*apiv1.DeleteDaReply](t)(cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "c0"}))
		if !patient {
			_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
			refusedWith(t, err, apiv1.CodeBusy, "nodes have not let go of it yet; try again in a few seconds")
			continue
		}
		done := make(chan error)
		go func() {
			_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
			done <- err
		}()
		select {
		case err := <-done:
			t.Fatalf("the array did not wait: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		cn.Start()
		for again := true; again; { // as a monitor would
			_, _ = cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"})
			select {
			case err := <-done:
				if again = false; err != nil {
					t.Error(err)
				}
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// TestClonesAreAdopted: clones that are not copied yet, and what they are copied from, come
// back from what nodes remember as they were. Until then nothing goes that they live on.
func TestClonesAreAdopted(t *testing.T) {
	t.Parallel()
	c, cl := withSnap(t)
	adopt := func(id string) error {
		_, err := cl.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: id})
		return err
	}
	from := must[*apiv1.GetDaReply](t)(cl.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg.DaId
	ids, before := map[string]string{}, map[string]*apiv1.CloneSource{}
	for name, req := range map[string]*apiv1.CreateDaRequest{
		"c0": {DaName: "c0", FromDa: "da0", CntlrCnt: 2}, "c1": {DaName: "c1", FromSnap: "da0/s0", CntlrCnt: 2}} {
		ids[name] = must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, req)).DaMsg.DaId
		before[name] = sourceOf(t, c, ids[name])
	}
	for _, name := range []string{"c0", "c1", "da0"} {
		forget(t, c, cl, name)
	}
	refusedWith(t, adopt(ids["c0"]), apiv1.CodeFailedPrecondition, "da c0 is a clone that is not copied yet, and what it is copied from, "+
		"snap da0/vda-clone-"+ids["c0"]+", is not there: there is no da da0; if that is an orphan, adopt it first, under its own name")
	if err := adopt(from); err != nil {
		t.Fatal(err)
	}
	tend := func() {
		t.Helper()
		c.Change(func(tx store.Tx) error {
			exps, err := tx.Unlocked().CloneExps()
			for i := range exps {
				if _, err := array.DropSource(tx, exps[i].ID); err != nil {
					return err
				}
			}
			return err
		})
		for _, cn := range []string{"cn0:9820", "cn1:9820"} {
			must[*apiv1.SyncupCnReply](t)(cl.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: cn}))
		}
		c.Change(func(tx store.Tx) error {
			all, err := tx.Unlocked().CloneSnaps()
			for i := range all {
				if _, err := array.DropCloneSnap(tx, all[i].ID, time.Now().Add(24*time.Hour)); err != nil {
					return err
				}
			}
			return err
		})
	}
	if err := adopt(ids["c1"]); err != nil { // before a monitor looks
		t.Fatal(err)
	}
	tend()
	if err := adopt(ids["c0"]); err != nil {
		t.Fatal(err)
	}
	tend()
	for name, id := range ids {
		was, s := before[name], sourceOf(t, c, id)
		if s == nil || s.Name != was.Name || s.Nqn != was.Nqn || s.HostNqn != was.HostNqn || s.Uuid != was.Uuid || s.Size != was.Size ||
			len(s.Listeners) != len(was.Listeners) {
			t.Errorf("clone %s is copied from %v, was from %v", name, s, was)
		}
		e := must[*apiv1.GetExpReply](t)(cl.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "vda-clone-" + id, WithNsUuid: true})).ExpMsg
		if e.NsUuid != was.Uuid || e.ExpNqn != was.Nqn || len(e.EsMsgList) != 2 || e.SnapName != strings.TrimPrefix(was.Name, "da0/") {
			t.Errorf("clone %s is copied by %v", name, e)
		}
	}
	_, err := cl.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
	refusedWith(t, err, apiv1.CodeInUse, "da da0 is what das are still copied from")
}

// TestAnOldAgentMakesNoClone: what an agent that knows no clones reads of a new one does not
// allow it to make a volume, which would be zeros. One that knows them may, until it has said
// that the array is up.
func TestAnOldAgentMakesNoClone(t *testing.T) {
	t.Parallel()
	c, cl := withSnap(t)
	clone := must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "c0", FromSnap: "da0/s0"})).DaMsg.DaId
	told := func(name string, created bool) (create, clones bool) {
		t.Helper()
		var id string
		c.Change(func(tx store.Tx) error {
			da, err := tx.DAByName(name)
			if err != nil {
				return err
			}
			if id = da.ID; !da.Created {
				t.Errorf("da %s is not up", name)
			}
			da.Created = created
			return tx.UpdateDA(da)
		})
		c.Change(func(tx store.Tx) error {
			cntlrs, err := tx.Unlocked().CntlrsOfDA(id)
			for i := range cntlrs {
				req, err := syncer.BuildCn(tx.Unlocked(), cntlrs[i].CNID, 0)
				if err != nil {
					return err
				}
				for _, s := range req.Cntlrs {
					create, clones = create || s.DaId == id && s.Create, clones || s.DaId == id && s.Source.GetCreate()
				}
			}
			return err
		})
		return create, clones
	}
	if create, clones := told("c0", true); create || clones {
		t.Errorf("clone %s, which is up, may be made: %v, %v", clone, create, clones)
	}
	if create, clones := told("c0", false); create || !clones {
		t.Errorf("a clone that is not up may be made as any array: %v, as a clone: %v", create, clones)
	}
	if create, clones := told("da0", false); !create || clones {
		t.Errorf("an array that is not up may be made as any: %v, as a clone: %v", create, clones)
	}
}
