package syncer

import (
	"context"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// partObjects is how many vds or controllers one transaction is about that records an
// answer. With all of a node's in one it might run out of time, and again the next time.
const partObjects = 100

// noteReply records a node's answer, part by part: health and capacities of the objects named
// in the request, tombstones carried out, and with the last part how far the node has come.
// After an error some parts are recorded, and the node has come no further. again says that
// the desired state has changed.
func (s *Syncer) noteReply(ctx context.Context, c *call, reply *apiv1.SyncReply) (again bool, err error) {
	p, req := newProgress(c.GetVersion(), reply), c.request
	req.look(p)
	if c.GetBaseVersion() == fromNothing { // of a change, each object is news
		if req, err = s.news(ctx, c, reply, p); err != nil || req == nil {
			return false, err
		}
	}
	for from, n := 0, req.objects(); ; from += partObjects {
		last := from+partObjects >= n
		before, changed := p.applied, false
		err := s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
			p.applied = before // by a try before
			changed, err = req.apply(tx, reply, p, part{from, min(from+partObjects, n), last})
			return err
		})
		if err != nil {
			return false, err
		}
		if again = again || changed; last {
			return again, nil
		}
	}
}

// part is which of a request's vds or controllers a transaction is about.
type part struct {
	from, to int // without to
	last     bool
}

// applyDn records a part of a dn's answer; its pds come with the last, when vds that are
// gone have left them. Objects that another transaction removed meanwhile are passed over.
func applyDn(tx store.Tx, req *apiv1.SyncDnRequest, reply *apiv1.SyncReply, p *progress, at part) error {
	vds := req.Vds[at.from:at.to]
	var das, pds []string
	for _, v := range vds {
		das = append(das, v.DaId)
		if v.Deleted {
			pds = append(pds, v.PdId)
		}
	}
	var own []*apiv1.PdSpec
	if at.last {
		own = req.Pds
	}
	for _, p := range own {
		pds = append(pds, p.Id)
	}
	change := array.Begin(tx)
	if err := change.LockArrays(das...); err != nil {
		return err
	}
	if err := change.LockPDs(pds...); err != nil {
		return err
	}
	ids := make([]string, len(vds))
	for i, v := range vds {
		ids[i] = v.Id
	}
	rows, err := byID(tx.VDsByID, ids, func(v *vda.VD) string { return v.ID })
	if err != nil {
		return err
	}
	var alike array.Healths
	var ahead []string
	for _, v := range vds {
		st, vd := p.state(v.Id, v.Version, v.Deleted), rows[v.Id]
		if vd != nil && !v.Deleted && p.ahead(st, v.Version, vd.Applied) {
			ahead = append(ahead, vd.ID)
		}
		switch {
		case vd == nil:
		case st.GetGone() && vd.Deleted:
			if err := change.DropVD(vd); err != nil {
				return err
			}
		case differs(vd.Health, st):
			alike.Add(store.ObjVD, vd.ID, healthOf(st))
		}
	}
	if err := alike.Write(tx); err != nil {
		return err
	}
	if err := tx.SetApplied(store.ObjVD, ahead, p.reached); err != nil {
		return err
	}
	going := map[string]bool{} // pds of vds that may be gone since the capacity was read
	for _, v := range req.Vds {
		going[v.PdId] = going[v.PdId] || v.Deleted
	}
	capacities := map[string]*apiv1.PdCapacity{}
	for _, c := range reply.Capacities {
		capacities[c.PdId] = c
	}
	for _, s := range own {
		c := capacities[s.Id]
		if err := applyPd(tx, p.state(s.Id, s.Version, s.Deleted), s.Id, c); err != nil {
			return err
		}
		if c != nil && !going[s.Id] {
			if err := compareSpace(tx, c); err != nil {
				return err
			}
		}
	}
	if err := change.Settle(das...); err != nil {
		return err
	}
	if at.last {
		change.Applied(array.Node{Kind: vda.DiskNode, ID: req.NodeId}, p.applied)
	}
	return change.Write()
}

// compareSpace notes what is in use on a disk and belongs to no vd, so that
// nothing is placed where there is no room. A vd's row is there before the vd,
// and goes after it, so that rows alone never say too little.
func compareSpace(tx store.Tx, c *apiv1.PdCapacity) error {
	pd, err := tx.PD(c.PdId)
	if err != nil {
		return vda.IgnoreNotFound(err)
	}
	if pd.Deleted || pd.ClusterSize != c.ClusterSize || pd.TotalClusters != c.TotalClusters || c.FreeClusters > c.TotalClusters {
		return nil
	}
	return tx.SetPDUsed(pd.ID, c.TotalClusters-c.FreeClusters)
}

func applyPd(tx store.Tx, st *apiv1.ObjectState, id string, c *apiv1.PdCapacity) error {
	pd, err := tx.PD(id)
	if err != nil {
		return vda.IgnoreNotFound(err)
	}
	if st.GetGone() && pd.Deleted {
		err := tx.DeletePD(id)
		if vda.KindOf(err) == vda.FailedPrecondition {
			return setHealth(tx, store.ObjPD, id, pd.Health, &apiv1.ObjectState{Error: true, ErrorMsg: "it is gone, but vds are still on it"})
		}
		return err
	}
	if c != nil && c.ClusterSize > 0 && (pd.ClusterSize != c.ClusterSize || pd.TotalClusters != c.TotalClusters) {
		grown := *pd
		grown.ClusterSize, grown.TotalClusters = c.ClusterSize, c.TotalClusters
		switch {
		case pd.ClusterSize != 0 && pd.ClusterSize != c.ClusterSize:
			st = &apiv1.ObjectState{Error: true, ErrorMsg: "the lvstore's cluster size is not the one it was made with"}
		case pd.ClusterSize != 0 && c.TotalClusters < pd.TotalClusters-pd.FreeClusters:
			st = &apiv1.ObjectState{Error: true, ErrorMsg: "the disk has become smaller than what is in use"}
		default:
			if err := tx.UpdatePD(&grown); err != nil {
				return err
			}
			pd = &grown
		}
	}
	if otherCache(pd, c) {
		told := *pd
		told.WriteCache = vda.WriteCache(c.WriteCache)
		if err := tx.UpdatePD(&told); err != nil {
			return err
		}
	}
	return setHealth(tx, store.ObjPD, id, pd.Health, st)
}

// applyCn is applyDn for a cn. changed says that it gave the node a new
// desired state, because an array is Created from now on.
func applyCn(tx store.Tx, req *apiv1.SyncCnRequest, p *progress, at part) (changed bool, err error) {
	cntlrs := req.Cntlrs[at.from:at.to]
	var das []string
	for _, spec := range cntlrs {
		das = append(das, spec.DaId)
	}
	change := array.Begin(tx)
	if err := change.LockArrays(das...); err != nil {
		return false, err
	}
	ids := make([]string, len(cntlrs))
	for i, spec := range cntlrs {
		ids[i] = spec.Id
	}
	rows, err := byID(tx.CntlrsByID, ids, func(v *vda.Cntlr) string { return v.ID })
	if err != nil {
		return false, err
	}
	exporting := slices.DeleteFunc(slices.Clone(cntlrs), func(spec *apiv1.CntlrSpec) bool { return len(spec.Exps) == 0 })
	of := make([]string, len(exporting))
	for i, spec := range exporting {
		of[i] = spec.Id
	}
	ess, err := byID(tx.ESsOfCntlrs, of, func(v *vda.ES) string { return v.ID })
	if err != nil {
		return false, err
	}
	var alike array.Healths
	var ahead []string
	for _, spec := range cntlrs {
		st := p.state(spec.Id, spec.Version, spec.Deleted)
		for _, e := range spec.Exps {
			est, es := p.es(spec, e), ess[e.EsId]
			switch {
			case es == nil:
			case est.GetGone():
				if err := change.DropES(es); err != nil {
					return false, err
				}
			case differs(es.Health, est):
				alike.Add(store.ObjES, es.ID, healthOf(est))
			}
		}
		c := rows[spec.Id]
		switch {
		case c == nil:
			continue
		case st.GetGone() && c.Deleted:
			if err := change.DropCntlr(c); err != nil {
				return false, err
			}
			continue
		case differs(c.Health, st):
			alike.Add(store.ObjCntlr, c.ID, healthOf(st))
		}
		if c.Primary && p.ahead(st, spec.Version, c.Applied) {
			ahead = append(ahead, c.ID)
		}
		for _, s := range spec.Snaps {
			now, err := applySnap(tx, change, spec, c, s, p)
			if err != nil {
				return false, err
			}
			changed = changed || now
		}
		for _, g := range spec.Grps {
			now, err := applyGrp(change, spec, c, g, p)
			if err != nil {
				return false, err
			}
			changed = changed || now
		}
		if st != nil && !st.Error {
			if err := change.Served(c, spec.Term); err != nil {
				return false, err
			}
		}
		if (spec.Create || spec.Source.GetCreate()) && st != nil && !st.Error {
			now, err := change.Created(c, spec.Term)
			if err != nil {
				return false, err
			}
			changed = changed || now
		}
	}
	if err := alike.Write(tx); err != nil {
		return false, err
	}
	if err := tx.SetApplied(store.ObjCntlr, ahead, p.reached); err != nil {
		return false, err
	}
	if err := change.Settle(das...); err != nil {
		return false, err
	}
	if at.last {
		change.Applied(array.Node{Kind: vda.ControllerNode, ID: req.NodeId}, p.applied)
	}
	return changed, change.Write()
}

// applyGrp records what a primary says of a group that is joining; changed says that it
// is part of the array from now on.
func applyGrp(change *array.Change, spec *apiv1.CntlrSpec, primary *vda.Cntlr, g *apiv1.GrpSpec, p *progress) (changed bool, err error) {
	if !g.Joining || spec.Deleted {
		return false, nil
	}
	switch st := p.state(g.Id, spec.Version, false); {
	case st == nil || st.Error:
		return false, nil
	case !st.Found: // nobody has looked
		p.unfinished(spec.Version)
		return false, nil
	}
	return change.JoinedGrp(primary, spec.Term, g.Id)
}

// applySnap records what a primary says of a snapshot; changed says that it is
// taken from now on.
func applySnap(tx store.Tx, change *array.Change, spec *apiv1.CntlrSpec, primary *vda.Cntlr, s *apiv1.SnapSpec,
	p *progress) (changed bool, err error) {
	if s.Stage() == apiv1.SnapState_SNAP_STATE_TOGETHER { // passes leave it alone
		return false, nil
	}
	deleting := s.Stage() == apiv1.SnapState_SNAP_STATE_DELETING
	st := p.state(s.Id, spec.Version, deleting)
	row, err := tx.Snap(s.Id)
	switch {
	case err != nil:
		return false, vda.IgnoreNotFound(err)
	case deleting && st.GetGone():
		return false, change.DropSnap(s.Id)
	case !deleting && st != nil && !st.Error && !st.Found: // nobody has looked
		p.unfinished(spec.Version)
		return false, nil
	}
	if err := setHealth(tx, store.ObjSnap, row.ID, row.Health, st); err != nil || deleting || st == nil || st.Error {
		return false, err
	}
	took, err := change.TookSnap(primary, spec.Term, s.Id, st.HeldBytes, st.SizeBytes)
	if err != nil || s.Rollback == apiv1.SnapRollback_SNAP_ROLLBACK_UNSPECIFIED {
		return took, err
	}
	if st.Rolled != s.Rollback { // nobody has looked
		p.unfinished(spec.Version)
		return took, nil
	}
	rolled, err := change.RolledBack(primary, spec.Term, spec.Version, s.Id, s.Rollback.Rollback())
	return took || rolled, err
}

// byID reads rows, by their own ids.
func byID[T any](read func([]string) ([]T, error), ids []string, id func(*T) string) (map[string]*T, error) {
	rows, err := read(ids)
	of := map[string]*T{}
	for i := range rows {
		of[id(&rows[i])] = &rows[i]
	}
	return of, err
}

func isNotFound(err error) bool { return err != nil && vda.KindOf(err) == vda.NotFound }
