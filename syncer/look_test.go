package syncer

import (
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestASnapshotThatStaysHoldsUpNoOther: a snapshot that is to go and is there still, one that hosts may write to as
// well, holds up its own controller and no other one.
func TestASnapshotThatStaysHoldsUpNoOther(t *testing.T) {
	for _, of := range []string{"", "another"} {
		s := apiv1.NewSnapSpec(&vda.Snap{ID: "s", CloneOf: of, State: vda.SnapDeleting})
		req := &cnRequest{SyncCnRequest: &apiv1.SyncCnRequest{Version: 9, Cntlrs: []*apiv1.CntlrSpec{
			{Id: "well", Version: 7}, {Id: "held up", Version: 5, Snaps: []*apiv1.SnapSpec{s}}}}}
		p := newProgress(9, &apiv1.SyncReply{Version: 9, States: []*apiv1.ObjectState{{Id: "well"}, {Id: "held up"}, {Id: "s"}}})
		req.look(p)
		if p.applied != 4 {
			t.Errorf("snapshot of %q: the node has carried out %d, want 4", of, p.applied)
		}
		if !p.ahead(p.states["well"], 7, 0) {
			t.Errorf("snapshot of %q: what the node has carried out of the other controller is not noted", of)
		}
	}
}
