package syncer_test

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// TestLateReportOfARollback: what a primary has said of one rollback, and a process
// records late, says nothing of a later one to the same snapshot.
func TestLateReportOfARollback(t *testing.T) {
	f := newFixture(t)
	s := &vda.Snap{ID: store.NewID(), DAID: f.da.ID, Name: "s", State: vda.SnapTaken, Asked: time.Now(), Taken: time.Now()}
	state := func() (now vda.SnapRollback) {
		f.update(func(tx store.Tx) error {
			row, err := tx.Snap(s.ID)
			if err == nil {
				now = row.Rollback
			}
			return err
		})
		return now
	}
	order := func() {
		f.update(func(tx store.Tx) error {
			row, err := tx.Snap(s.ID)
			if err == nil {
				_, err = array.RollBack(tx, row)
			}
			return err
		})
	}
	var req *apiv1.SyncCnRequest
	apply := func(req *apiv1.SyncCnRequest) {
		reply := &apiv1.SyncReply{Version: req.Version, States: []*apiv1.ObjectState{{Id: f.cntlr[0].ID, Done: true},
			{Id: s.ID, Done: true, Found: true, Rolled: req.Cntlrs[0].Snaps[0].Rollback}}}
		f.update(func(tx store.Tx) error { _, err := syncer.ApplyCn(tx, req, reply); return err })
	}
	build := func() (req *apiv1.SyncCnRequest) {
		f.update(func(tx store.Tx) (err error) { req, err = syncer.BuildCn(tx, f.cn[0].ID, 0); return err })
		return req
	}
	f.update(func(tx store.Tx) error { return tx.InsertSnap(s) })
	order()
	req = build()
	apply(req)
	apply(build())
	if got := state(); got != vda.RollbackNone {
		t.Fatalf("rollback %v after it was carried out", got)
	}
	order()
	apply(req)
	if got := state(); got != vda.RollbackAsked {
		t.Errorf("rollback %q by a report of an earlier one, want %q", got, vda.RollbackAsked)
	}
	apply(build())
	if got := state(); got != vda.RollbackDone {
		t.Errorf("rollback %q after it was carried out, want %q", got, vda.RollbackDone)
	}
}

// TestSnapshotThatWaitsHoldsNothingUp: a node of which a snapshot waits until others are deleted has come as far as it was
// told: it is told nothing again, and what waits for that, as legs that are to go, does not wait for a user.
func TestSnapshotThatWaitsHoldsNothingUp(t *testing.T) {
	for _, waits := range []bool{true, false} {
		f := newFixture(t)
		s := &vda.Snap{ID: store.NewID(), DAID: f.da.ID, Name: "s", State: vda.SnapDeleting, Asked: time.Now(), Taken: time.Now()}
		f.update(func(tx store.Tx) error { return tx.InsertSnap(s) })
		var req *apiv1.SyncCnRequest
		f.update(func(tx store.Tx) (err error) { req, err = syncer.BuildCn(tx, f.cn[0].ID, 0); return err })
		reply := &apiv1.SyncReply{Version: req.Version, States: []*apiv1.ObjectState{
			{Id: s.ID, Error: true, ErrorMsg: "2 others stand on it", Done: waits}}}
		for _, c := range req.Cntlrs {
			reply.States = append(reply.States, &apiv1.ObjectState{Id: c.Id})
			for _, e := range c.Exps {
				reply.States = append(reply.States, &apiv1.ObjectState{Id: e.EsId})
			}
		}
		f.update(func(tx store.Tx) error { _, err := syncer.ApplyCn(tx, req, reply); return err })
		f.update(func(tx store.Tx) error {
			cn, err := tx.CN(f.cn[0].ID)
			if err != nil {
				return err
			}
			if (cn.Applied >= req.Version) != waits {
				t.Errorf("a snapshot that waits: %v; the node has come to %d of %d", waits, cn.Applied, req.Version)
			}
			row, err := tx.Snap(s.ID)
			if err == nil && !row.Health.Error {
				t.Errorf("the snapshot's health is %+v", row.Health)
			}
			return err
		})
	}
}
