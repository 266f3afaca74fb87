package dn_test

import (
	"context"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestOrphans: what a full set does not name any more is an orphan, with what
// it was, also after a restart, until it is named again or deleted.
func TestOrphans(t *testing.T) {
	l := newLab(t)
	l.sync(full(1, []*apiv1.PdSpec{mallocPD()}, vd(1)))
	orphans := func() *apiv1.OrphansReply {
		t.Helper()
		r, err := l.a.Orphans(context.Background(), &apiv1.OrphansRequest{ClusterId: cluster, NodeId: nodeID})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := orphans(); len(r.Pds)+len(r.Vds) != 0 {
		t.Errorf("orphans of a set that names all: %v", r)
	}
	l.sync(full(2, []*apiv1.PdSpec{mallocPD()}))
	for range 2 {
		r := orphans()
		if len(r.Vds) != 1 || r.Vds[0].Id != vdID || r.Vds[0].PdId != pdID || r.Vds[0].DaId != daID ||
			r.Vds[0].Size != 16<<20 || len(r.Pds) != 0 {
			t.Fatalf("without the vd: %v", r)
		}
		l.stop()
		l.start()
		l.sync(full(2, []*apiv1.PdSpec{mallocPD()}))
	}
	l.sync(full(3, []*apiv1.PdSpec{mallocPD()}, vd(2)))
	if r := orphans(); len(r.Vds) != 0 {
		t.Errorf("named again: %v", r)
	}
	l.sync(full(4, []*apiv1.PdSpec{mallocPD()}))
	dead := vd(2)
	dead.Deleted, dead.Version = true, 5
	req := full(5, nil, dead)
	req.BaseVersion = 4
	if r := l.sync(req); len(r.States) != 1 || !r.States[0].Gone {
		t.Fatalf("delete the orphan: %v", r)
	}
	if r := orphans(); len(r.Vds) != 0 {
		t.Errorf("deleted: %v", r)
	}
	l.sync(full(6, []*apiv1.PdSpec{mallocPD()}))
	if r := orphans(); len(r.Vds) != 0 {
		t.Errorf("deleted, and the tombstone forgotten: %v", r)
	}
	if _, err := l.a.Orphans(context.Background(), &apiv1.OrphansRequest{ClusterId: "another", NodeId: nodeID}); err == nil {
		t.Error("another cluster was answered")
	}
}
