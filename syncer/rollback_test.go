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
