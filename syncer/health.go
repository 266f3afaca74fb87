package syncer

import (
	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// progress tells from a reply how far a node has come.
type progress struct {
	states  map[string]*apiv1.ObjectState
	reached uint64 // what the answer is about
	applied uint64
}

func newProgress(sent uint64, reply *apiv1.SyncReply) *progress {
	p := &progress{states: map[string]*apiv1.ObjectState{}, reached: min(sent, reply.Version)}
	p.applied = p.reached
	for _, st := range reply.States {
		p.states[st.Id] = st
	}
	return p
}

// state returns what the reply says of an object, nil for nothing, and holds
// applied below the object's version when it is not finished.
func (p *progress) state(id string, version uint64, deleted bool) *apiv1.ObjectState {
	st := p.states[id]
	if waits := st.GetError() && st.GetDone(); st == nil || !waits && (st.Error || deleted && !st.Gone) {
		p.unfinished(version)
	}
	return st
}

// ahead reports that the node has carried out version of an object, of which it says st, though
// not of others before, and that this is news: the row says applied. All states have been looked at.
func (p *progress) ahead(st *apiv1.ObjectState, version, applied uint64) bool {
	return st != nil && (!st.Error || st.Done) && p.applied < version && version <= p.reached && applied < version
}

// atBackend begins what is wrong with a hop, where its exporter's part says it.
const atBackend = "what other controllers connect to at the back-end listener: "

// es is state of an exporter's part on a controller. What is wrong with its hop is wrong with
// it, and it is not gone before that is.
func (p *progress) es(spec *apiv1.CntlrSpec, e *apiv1.ExpSpec) *apiv1.ObjectState {
	st := p.state(e.EsId, spec.Version, e.Deleted)
	hop := p.states[hopES(e.EsId)]
	switch {
	case st == nil || hop == nil || isHop(e) || st.Error:
		return st
	case hop.Error:
		return &apiv1.ObjectState{Id: st.Id, Error: true, Done: hop.Done, ErrorMsg: atBackend + hop.ErrorMsg}
	case st.Gone && !hop.Gone:
		return nil
	}
	return st
}

// unfinished holds applied below the version of an object.
func (p *progress) unfinished(version uint64) {
	p.applied = min(p.applied, version-min(version, 1))
}

// setHealth writes a health that has changed. Without a state nothing is
// known.
func setHealth(tx store.Tx, o store.Object, id string, old vda.Health, st *apiv1.ObjectState) error {
	if st == nil || array.SameHealth(old, healthOf(st)) {
		return nil
	}
	return vda.IgnoreNotFound(writeHealth(tx, o, id, healthOf(st)))
}

// writeHealth writes the health of anything but a node or an array.
func writeHealth(tx store.Tx, o store.Object, id string, h vda.Health) error {
	if o == store.ObjPD {
		return array.SetDiskHealth(tx, id, h)
	}
	return tx.SetHealth(o, id, h)
}

func healthOf(st *apiv1.ObjectState) vda.Health {
	return vda.Health{Error: st.Error, Msg: st.ErrorMsg}
}
