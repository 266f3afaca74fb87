package syncer

import (
	"fmt"
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// progress tells from a reply how far a node has come.
type progress struct {
	states  map[string]*apiv1.ObjectState
	applied uint64
}

func newProgress(sent uint64, reply *apiv1.SyncReply) *progress {
	p := &progress{states: map[string]*apiv1.ObjectState{}, applied: min(sent, reply.Version)}
	for _, st := range reply.States {
		p.states[st.Id] = st
	}
	return p
}

// state returns what the reply says of an object, nil for nothing, and holds
// applied below the object's version when it is not finished.
func (p *progress) state(id string, version uint64, deleted bool) *apiv1.ObjectState {
	st := p.states[id]
	if st == nil || st.Error && !st.Done || deleted && !st.Gone {
		p.applied = min(p.applied, version-min(version, 1))
	}
	return st
}

// setHealth writes a health that has changed. Without a state nothing is
// known.
func setHealth(tx store.Tx, o store.Object, id string, old vda.Health, st *apiv1.ObjectState) error {
	if st == nil || same(old, st) {
		return nil
	}
	return passOver(tx.SetHealth(o, id, vda.Health{Error: st.Error, Msg: st.ErrorMsg}))
}

// touched are arrays whose parts change. A transaction that changes parts
// locks their arrays first, in the order of ids, then the parts, then nodes:
// so two of them don't wait for each other.
type touched map[string]bool

func (t touched) add(daID string) { t[daID] = true }

func (t touched) lock(tx store.Tx) error {
	for _, id := range slices.Sorted(maps.Keys(t)) {
		if _, err := tx.DA(id); passOver(err) != nil {
			return err
		}
	}
	return nil
}

// finish drops deleted arrays that have no part left, releases the vds of
// arrays without controllers, and recomputes the health of the rest.
func (t touched) finish(tx store.Tx) error {
	for _, id := range slices.Sorted(maps.Keys(t)) {
		if err := finishDA(tx, id); err != nil {
			return err
		}
	}
	return nil
}

func finishDA(tx store.Tx, id string) error {
	da, err := tx.DA(id)
	if err != nil {
		return passOver(err)
	}
	vds, err := tx.VDsOfDA(id)
	if err != nil {
		return err
	}
	cntlrs, err := tx.CntlrsOfDA(id)
	if err != nil {
		return err
	}
	if da.Deleted && len(vds) == 0 && len(cntlrs) == 0 {
		return dropDA(tx, id)
	}
	if da.Deleted && len(cntlrs) == 0 {
		_, err := BuryVDs(tx, id)
		return err
	}
	bad := ailments(vds, cntlrs)
	st := &apiv1.ObjectState{Error: len(bad) > 0}
	if st.Error {
		st.ErrorMsg = bad[0]
		if more := len(bad) - 1; more > 0 {
			st.ErrorMsg += fmt.Sprintf(" (and %d more)", more)
		}
	}
	return setHealth(tx, store.ObjDA, id, da.Health, st)
}

// ailments is what is wrong with the parts of an array, causes first: a
// controller can't be well without its vds, nor a secondary without the
// primary.
func ailments(vds []vda.VD, cntlrs []vda.Cntlr) []string {
	var bad []string
	for i := range vds {
		if vd := &vds[i]; vd.Health.Error {
			bad = append(bad, fmt.Sprintf("vd %d of group %d: %s", vd.Idx, vd.GrpIdx, vd.Health.Msg))
		}
	}
	for _, primary := range []bool{true, false} {
		for i := range cntlrs {
			if c := &cntlrs[i]; c.Health.Error && c.Primary == primary {
				bad = append(bad, fmt.Sprintf("controller %d: %s", c.Idx, c.Health.Msg))
			}
		}
	}
	return bad
}

func dropDA(tx store.Tx, id string) error {
	exps, err := tx.ExpsOfDA(id)
	if err != nil {
		return err
	}
	for i := range exps {
		if err := tx.DeleteExp(exps[i].ID); err != nil {
			return err
		}
	}
	grps, err := tx.GrpsOfDA(id)
	if err != nil {
		return err
	}
	for i := range grps {
		if err := tx.DeleteGrp(grps[i].ID); err != nil {
			return err
		}
	}
	return tx.DeleteDA(id)
}
