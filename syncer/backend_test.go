package syncer

import (
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestHopsAreOfTheirExporters: what an agent says of a hop, of which there is no row, is
// known by its exporter's part on the controller, of replies and of heartbeats.
func TestHopsAreOfTheirExporters(t *testing.T) {
	e := &apiv1.ExpSpec{Id: derived("e"), EsId: derived("es"), Nqn: "nqn.2016-06.io.spdk:vda-exp-da0-exp0"}
	hop, spec := hopOf(e), &apiv1.CntlrSpec{Version: 7}
	of := func(deleted bool, states ...*apiv1.ObjectState) (*apiv1.ObjectState, uint64) {
		p := newProgress(9, &apiv1.SyncReply{Version: 9, States: states})
		e.Deleted, hop.Deleted = deleted, deleted
		st := p.es(spec, e)
		p.es(spec, hop)
		return st, p.applied
	}
	bad := &apiv1.ObjectState{Id: hop.EsId, Error: true, ErrorMsg: "no such address"}
	well := func(id string) *apiv1.ObjectState { return &apiv1.ObjectState{Id: id} }
	gone := func(id string) *apiv1.ObjectState { return &apiv1.ObjectState{Id: id, Gone: true} }
	if st, applied := of(false, well(e.EsId), bad); !st.Error || st.ErrorMsg != atBackend+"no such address" || applied != 6 {
		t.Errorf("in error: %v, applied %d", st, applied)
	}
	if st, applied := of(false, well(e.EsId), well(hop.EsId)); st.Error || applied != 9 {
		t.Errorf("both are well: %v, applied %d", st, applied)
	}
	if st, applied := of(true, gone(e.EsId), well(hop.EsId)); st.GetGone() || applied != 6 {
		t.Errorf("the hop stays: %v, applied %d", st, applied)
	}
	if st, applied := of(true, gone(e.EsId), gone(hop.EsId)); !st.GetGone() || applied != 9 {
		t.Errorf("both are gone: %v, applied %d", st, applied)
	}
	if st, _ := of(true, gone(e.EsId)); !st.GetGone() {
		t.Errorf("there is no hop: %v", st)
	}
	r := &Report{Version: 9, Errors: map[string]string{hop.EsId: "no such address"}}
	if st := r.state("cn", e.EsId, 7); !st.Error || st.ErrorMsg != atBackend+"no such address" {
		t.Errorf("a heartbeat: %v", st)
	}
	if st := r.state("cn", derived("another"), 7); st.Error {
		t.Errorf("a heartbeat, of another: %v", st)
	}
}
