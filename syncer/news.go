package syncer

import (
	"context"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// Each node is told all its objects again and again, and mostly answers what the database knows.
// Such an answer is compared without a lock first, with a statement per table. Transactions are
// about what it changes: they lock the arrays of these objects, and no others.

// news returns the request without the objects of which the answer changes nothing; nil when it
// changes nothing at all.
func (s *Syncer) news(ctx context.Context, c *call, reply *apiv1.SyncReply, p *progress) (left request, err error) {
	sent := p.applied
	err = s.cfg.Store.View(ctx, func(tx store.Reader) error {
		p.applied = sent // by a try before
		row, err := tx.Node(c.at.Kind, c.at.ID)
		if err != nil {
			return vda.IgnoreNotFound(err) // nothing is left to be noted
		}
		var rest request
		any := false
		if rest, any, err = c.request.news(tx, reply, p); err != nil {
			return err
		}
		if left = nil; any || row.Applied != p.applied {
			left = rest
		}
		return nil
	})
	return left, err
}

// look has p know how far the node has come, by all that the answer says.
func (r *dnRequest) look(p *progress) {
	for _, s := range r.Pds {
		p.state(s.Id, s.Version, s.Deleted)
	}
	for _, v := range r.Vds {
		p.state(v.Id, v.Version, v.Deleted)
	}
}

func (r *cnRequest) look(p *progress) {
	for _, spec := range r.Cntlrs {
		p.state(spec.Id, spec.Version, spec.Deleted)
		for _, e := range spec.Exps {
			p.es(spec, e)
		}
		for _, s := range spec.Snaps {
			if stage := s.Stage(); stage != apiv1.SnapState_SNAP_STATE_TOGETHER { // passes leave it alone
				p.state(s.Id, spec.Version, stage == apiv1.SnapState_SNAP_STATE_DELETING)
			}
		}
	}
}

// differs reports that a state changes a health.
func differs(is vda.Health, st *apiv1.ObjectState) bool {
	return st != nil && !array.SameHealth(is, healthOf(st))
}

func (r *dnRequest) news(tx store.Reader, reply *apiv1.SyncReply, p *progress) (request, bool, error) {
	pdRows, vdRows, err := tx.DNObjects(r.NodeId, 0)
	if err != nil {
		return nil, false, err
	}
	left := &apiv1.SyncDnRequest{NodeId: r.NodeId, Version: r.Version, BaseVersion: r.BaseVersion}
	vds, going := map[string]*vda.VD{}, map[string]bool{}
	for i := range vdRows {
		vds[vdRows[i].ID] = &vdRows[i]
	}
	for _, v := range r.Vds {
		going[v.PdId] = going[v.PdId] || v.Deleted
		st, row := p.state(v.Id, v.Version, v.Deleted), vds[v.Id]
		if row != nil && (v.Deleted || row.Deleted || differs(row.Health, st) || p.ahead(st, v.Version, row.Applied)) {
			left.Vds = append(left.Vds, v)
		}
	}
	pds, capacities := map[string]*vda.PD{}, map[string]*apiv1.PdCapacity{}
	for i := range pdRows {
		pds[pdRows[i].ID] = &pdRows[i]
	}
	for _, c := range reply.Capacities {
		capacities[c.PdId] = c
	}
	for _, s := range r.Pds {
		st, row := p.state(s.Id, s.Version, s.Deleted), pds[s.Id]
		if row != nil && (s.Deleted || row.Deleted || differs(row.Health, st) || otherSpace(row, capacities[s.Id], going[s.Id])) {
			left.Pds = append(left.Pds, s)
		}
	}
	return &dnRequest{SyncDnRequest: left}, len(left.Vds)+len(left.Pds) > 0, nil
}

// otherSpace reports that a pd's capacity changes its row; going: vds of it are.
func otherSpace(pd *vda.PD, c *apiv1.PdCapacity, going bool) bool {
	switch {
	case c == nil:
		return false
	case c.ClusterSize != pd.ClusterSize || c.TotalClusters != pd.TotalClusters || otherCache(pd, c):
		return true
	case going || c.FreeClusters > c.TotalClusters:
		return false
	}
	_, orphans := pd.Used(c.TotalClusters - c.FreeClusters)
	return orphans != pd.OrphanClusters
}

// otherCache reports that a dn says something else of a disk's write cache than the pd's row. An agent that does
// not know says nothing.
func otherCache(pd *vda.PD, c *apiv1.PdCapacity) bool {
	return c.GetWriteCache() != "" && c.GetWriteCache() != string(pd.WriteCache)
}

// cnRows are what the answer of a cn is compared with.
type cnRows struct {
	cntlrs map[string]*vda.Cntlr
	das    map[string]*vda.DA
	snaps  map[string]*vda.Snap
	ess    map[string]*vda.ES
}

func (r *cnRequest) news(tx store.Reader, _ *apiv1.SyncReply, p *progress) (request, bool, error) {
	rows := cnRows{map[string]*vda.Cntlr{}, map[string]*vda.DA{}, map[string]*vda.Snap{}, map[string]*vda.ES{}}
	cntlrs, err := tx.CNObjects(r.NodeId, 0)
	if err != nil {
		return nil, false, err
	}
	das, err := tx.DAsOnCN(r.NodeId, 0)
	if err != nil {
		return nil, false, err
	}
	snaps, err := tx.SnapsOnCN(r.NodeId, 0)
	if err != nil {
		return nil, false, err
	}
	ess, err := tx.ESsOnCN(r.NodeId, 0)
	if err != nil {
		return nil, false, err
	}
	for i := range cntlrs {
		rows.cntlrs[cntlrs[i].ID] = &cntlrs[i]
	}
	for i := range das {
		rows.das[das[i].ID] = &das[i]
	}
	for i := range snaps {
		rows.snaps[snaps[i].ID] = &snaps[i]
	}
	for i := range ess {
		rows.ess[ess[i].ID] = &ess[i]
	}
	left := &apiv1.SyncCnRequest{NodeId: r.NodeId, Version: r.Version, BaseVersion: r.BaseVersion}
	for _, spec := range r.Cntlrs {
		if rows.change(spec, p) {
			left.Cntlrs = append(left.Cntlrs, spec)
		}
	}
	return &cnRequest{SyncCnRequest: left}, len(left.Cntlrs) > 0, nil
}

// change reports that what the answer says of a controller may change a row.
func (r *cnRows) change(spec *apiv1.CntlrSpec, p *progress) bool {
	st, row, da := p.state(spec.Id, spec.Version, spec.Deleted), r.cntlrs[spec.Id], r.das[spec.DaId]
	changes := spec.Deleted || spec.Create || spec.Source.GetCreate() || da == nil || da.Deleted || !da.Moving.IsZero() ||
		row != nil && (row.Deleted || differs(row.Health, st) || row.Primary && p.ahead(st, spec.Version, row.Applied))
	for _, e := range spec.Exps {
		est := p.es(spec, e)
		if es := r.ess[e.EsId]; es != nil && (e.Deleted || est.GetGone() || differs(es.Health, est)) {
			changes = true
		}
	}
	for _, g := range spec.Grps {
		changes = changes || g.Joining
	}
	for _, s := range spec.Snaps {
		if s.Stage() == apiv1.SnapState_SNAP_STATE_TOGETHER { // passes leave it alone
			continue
		}
		deleting := s.Stage() == apiv1.SnapState_SNAP_STATE_DELETING
		if sst := p.state(s.Id, spec.Version, deleting); deleting || r.snapChanges(s, sst) {
			changes = true
		}
	}
	return changes && row != nil
}

// snapChanges is change for a snapshot that is not to go.
func (r *cnRows) snapChanges(s *apiv1.SnapSpec, st *apiv1.ObjectState) bool {
	row := r.snaps[s.Id]
	switch {
	case row == nil || st == nil:
		return false
	case differs(row.Health, st) || s.Rollback != apiv1.SnapRollback_SNAP_ROLLBACK_UNSPECIFIED:
		return true
	case st.Error:
		return false
	}
	return !st.Found || row.State != vda.SnapTaken || st.HeldBytes > 0 && st.HeldBytes != row.Held ||
		st.SizeBytes > 0 && st.SizeBytes != row.Size
}
