package portal

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// adoption is an array made of what nodes remember of it.
type adoption struct {
	da     *vda.DA
	grps   []*vda.Grp
	vds    []*vda.VD
	pds    map[string]bool // that the vds are on
	cntlrs []*vda.Cntlr
	exps   []*vda.Exp
	ess    []*vda.ES
}

// plan makes the rows of an array from its controllers and from vds on media,
// all of which must be there.
func (o *orphans) plan(daID string, cntlrs map[string]*apiv1.CntlrSpec, vds map[string]orphanVd) (*adoption, error) {
	p := primary(cntlrs)
	if p == nil || len(p.Grps) == 0 {
		return nil, vda.Errorf(vda.FailedPrecondition, "no cn that answers remembers how its vds are put together")
	}
	a := &adoption{pds: map[string]bool{}}
	a.da = &vda.DA{ID: daID, Name: p.DaName, Size: p.Size, PhysicalSize: p.Size, CntlrCnt: uint32(len(cntlrs)),
		StripeCount: uint32(len(p.Grps[0].Vds)), StripeSizeKB: p.Grps[0].StripeSizeKb, ClusterSize: p.ClusterSize, Term: p.Term, Created: true}
	a.da.Conf = fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":%d}`, a.da.StripeCount, a.da.StripeSizeKB)
	var bytes uint64
	for _, g := range p.Grps {
		row := &vda.Grp{ID: g.Id, DAID: daID, Idx: g.GrpIdx}
		for i, t := range g.Vds {
			v, known := vds[t.VdId]
			if !known {
				return nil, vda.Errorf(vda.FailedPrecondition, "its vd %s is on no dn that answers", t.VdId)
			}
			a.vds = append(a.vds, &vda.VD{ID: v.Id, DAID: daID, GrpIdx: g.GrpIdx, Idx: uint32(i), PDID: v.PdId, DNID: v.dnID, Size: v.Size})
			a.pds[v.PdId] = true
			row.Size += v.Size
		}
		bytes += row.Size
		a.grps = append(a.grps, row)
	}
	if p.Thin {
		a.da.PhysicalSize = min(bytes, p.Size-1)
	}
	for _, cnID := range slices.Sorted(maps.Keys(cntlrs)) {
		c := cntlrs[cnID]
		a.da.Term = max(a.da.Term, c.Term)
		a.cntlrs = append(a.cntlrs, &vda.Cntlr{ID: c.Id, DAID: daID, CNID: cnID, Idx: c.CntlrIdx, Primary: c == p})
	}
	a.da.Term++ // whoever wrote to the vds before is shut out
	for _, e := range p.Exps {
		if e.Deleted {
			continue
		}
		a.exps = append(a.exps, &vda.Exp{ID: e.Id, DAID: daID, Name: e.Name, NQN: e.Nqn, InitiatorNQN: e.InitiatorNqn, SnapName: e.SnapName, Serial: e.Serial, NSUUID: e.NsUuid})
		for _, c := range a.cntlrs {
			a.ess = append(a.ess, &vda.ES{ID: newID(), ExpID: e.Id, CntlrID: c.ID})
		}
	}
	return a, nil
}

// AdoptOrphan takes an array or a pd into the database as its nodes remember it,
// with the data that it has.
func (s *Server) AdoptOrphan(ctx context.Context, req *apiv1.AdoptOrphanRequest) (*apiv1.AdoptOrphanReply, error) {
	if req.NewName != nil {
		if err := checkName("new_name", *req.NewName); err != nil {
			return nil, err
		}
	}
	o, err := s.findOrphans(ctx)
	if err != nil {
		return nil, err
	}
	m, err := o.find(req.OrphanId)
	if err != nil {
		return nil, err
	}
	if m.Problem != "" {
		return nil, vda.Errorf(vda.FailedPrecondition, "%s %s cannot be adopted: %s", m.Kind, m.OrphanId, m.Problem)
	}
	setIf(&m.Name, req.NewName)
	var notes []string
	if m.Kind == "pd" {
		notes, err = s.adoptPD(ctx, m)
	} else {
		notes, err = s.adoptDA(ctx, o, m)
	}
	if err != nil {
		return nil, err
	}
	return &apiv1.AdoptOrphanReply{ReplyInfo: done("the "+m.Kind+" is adopted", notes), OrphanMsg: m}, nil
}

// adoptPD makes the row of a pd. Its node formats nothing: the disk carries this
// pd's stamp, or is refused.
func (s *Server) adoptPD(ctx context.Context, m *apiv1.OrphanMsg) (notes []string, err error) {
	medium, err := parsePDConf("pd_conf", m.Conf)
	if err != nil {
		return nil, err
	}
	var dn *vda.DN
	err = s.update(ctx, func(tx store.Tx) (err error) {
		if dn, err = findDN(tx, m.NodeNameList[0]); err != nil {
			return err
		}
		_, err = tx.PDByName(dn.ID, m.Name)
		if err := taken(err, func() error {
			return refuse(codeNameTaken, vda.AlreadyExists, "dn %s has another pd %s by now; give the orphan a new_name", dn.Name, m.Name)
		}); err != nil {
			return err
		}
		if err := mediumFree(tx, dn, medium); err != nil {
			return err
		}
		pd := &vda.PD{ID: m.OrphanId, DNID: dn.ID, Name: m.Name, Conf: m.Conf, Online: true}
		if pd.Version, err = tx.BumpNode(vda.DiskNode, dn.ID); err != nil {
			return err
		}
		return tx.InsertPD(pd)
	})
	if err != nil {
		return nil, err
	}
	return s.syncSteps(ctx, []node{dnNode(dn)}), nil
}

func (s *Server) adoptDA(ctx context.Context, o *orphans, m *apiv1.OrphanMsg) (notes []string, err error) {
	var nodes daNodes
	err = s.update(ctx, func(tx store.Tx) error {
		a, err := o.plan(m.OrphanId, o.das()[m.OrphanId], o.vds())
		if err != nil {
			return err
		}
		a.da.Name = m.Name
		_, err = tx.DAByName(m.Name)
		if err := taken(err, func() error {
			return refuse(codeNameTaken, vda.AlreadyExists, "there is another da %s by now; give the orphan a new_name", m.Name)
		}); err != nil {
			return err
		}
		nodes, err = a.write(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.syncSteps(ctx, nodes.dns, nodes.primary, nodes.secondaries), nil
}

// write writes the rows, in the order in which rows are locked everywhere.
func (a *adoption) write(tx store.Tx) (nodes daNodes, err error) {
	if err := tx.InsertDA(a.da); err != nil {
		return nodes, err
	}
	for _, id := range slices.Sorted(maps.Keys(a.pds)) {
		pd, err := tx.PD(id)
		if isKind(err, vda.NotFound) || err == nil && pd.Deleted {
			return nodes, vda.Errorf(vda.FailedPrecondition, "pd %s, on which a vd of da %s is, is an orphan itself or gone; adopt it first", id, a.da.Name)
		}
		if err != nil {
			return nodes, err
		}
		if pd.ClusterSize == 0 {
			return nodes, vda.Errorf(vda.FailedPrecondition, "pd %s, on which a vd of da %s is, has not been up yet; its dn must say how it is made", pd.Name, a.da.Name)
		}
		for _, vd := range a.vds {
			if vd.PDID == id {
				vd.Clusters = vd.Size / pd.ClusterSize
				if err := tx.TakeOrphan(id, vd.Clusters); err != nil {
					return nodes, err
				}
			}
		}
	}
	versions := map[string]uint64{}
	for _, id := range sortedIDs(a.vds, func(v *vda.VD) string { return v.DNID }) {
		dn, err := tx.DN(id)
		if err != nil {
			return nodes, err
		}
		if versions[id], err = tx.BumpNode(vda.DiskNode, id); err != nil {
			return nodes, err
		}
		nodes.dns = append(nodes.dns, dnNode(dn))
	}
	for _, vd := range a.vds {
		vd.Version = versions[vd.DNID]
		if err := tx.InsertVD(vd); err != nil {
			return nodes, err
		}
	}
	for _, g := range a.grps {
		if err := tx.InsertGrp(g); err != nil {
			return nodes, err
		}
	}
	for _, c := range a.cntlrs { // by cn
		cn, err := tx.CN(c.CNID)
		if err != nil {
			return nodes, err
		}
		if c.Version, err = tx.BumpNode(vda.ControllerNode, c.CNID); err != nil {
			return nodes, err
		}
		if err := tx.InsertCntlr(c); err != nil {
			return nodes, err
		}
		versions[""] = max(versions[""], c.Version)
		nodes.add(c, cn)
	}
	for _, e := range a.exps {
		e.Version = versions[""]
		if err := tx.InsertExp(e); err != nil {
			return nodes, err
		}
	}
	for _, es := range a.ess {
		if err := tx.InsertES(es); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}
