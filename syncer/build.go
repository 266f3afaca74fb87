package syncer

import (
	"slices"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// BuildDn makes the request that brings a dn from version base to the one in
// tx; base 0 gives all its objects.
func BuildDn(tx store.Reader, dnID string, base uint64) (*apiv1.SyncDnRequest, error) {
	dn, err := tx.DN(dnID)
	if err != nil {
		return nil, err
	}
	cluster, err := tx.ClusterID()
	if err != nil {
		return nil, err
	}
	pds, vds, err := tx.DNObjects(dnID, base)
	if err != nil {
		return nil, err
	}
	req := newDnRequest(cluster, &dn.Node, dn.Version, base)
	tombstones := 0
	for i := range pds {
		pd := &pds[i]
		req.Pds = append(req.Pds, &apiv1.PdSpec{Id: pd.ID, Name: pd.Name, ConfJson: pd.Conf, Format: pd.ClusterSize == 0 && !pd.Deleted,
			Deleted: pd.Deleted, Version: pd.Version})
		tombstones += count(pd.Deleted)
	}
	terms := map[string]uint64{}
	for i := range vds {
		vd := &vds[i]
		term, known := terms[vd.DAID]
		if !known {
			da, err := tx.DA(vd.DAID)
			if err != nil {
				return nil, err
			}
			term = da.Term
			terms[vd.DAID] = term
		}
		req.Vds = append(req.Vds, &apiv1.VdSpec{Id: vd.ID, PdId: vd.PDID, Size: vd.Size, Nqn: vda.VdNQN(vd.ID), Term: term,
			HostNqn: vda.LegHostNQN(vda.PrimaryHostNQN(vd.DAID, term),
				vd.Epoch), Epoch: vd.Epoch, Deleted: vd.Deleted, Version: vd.Version, Uuid: UUID(vd.ID), DaId: vd.DAID})
		tombstones += count(vd.Deleted)
	}
	req.AllowEmpty = tombstones > 0
	return req, nil
}

// newDnRequest is a request without objects.
func newDnRequest(cluster string, n *vda.Node, version, base uint64) *apiv1.SyncDnRequest {
	return &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: n.ID, NodeName: n.Name, Version: version, BaseVersion: base,
		Marks: apiv1.NewVersionMarks(n.Marks), Listener: apiv1.NewListenerConf(n.Listener)}
}

func newCnRequest(cluster string, n *vda.Node, version, base uint64) *apiv1.SyncCnRequest {
	return &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.ID, NodeName: n.Name, Version: version, BaseVersion: base,
		Marks: apiv1.NewVersionMarks(n.Marks), Listener: apiv1.NewListenerConf(n.Listener)}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// BuildCn makes the request that brings a cn from version base to the one in
// tx; base 0 gives all its controllers.
func BuildCn(tx store.Reader, cnID string, base uint64) (*apiv1.SyncCnRequest, error) {
	req, _, err := buildCn(tx, cnID, base)
	return req, err
}

// buildCn also returns what is to be fenced before the request is sent.
func buildCn(tx store.Reader, cnID string, base uint64) (req *apiv1.SyncCnRequest, f fences, err error) {
	cn, err := tx.Node(vda.ControllerNode, cnID)
	if err != nil {
		return nil, f, err
	}
	cluster, err := tx.ClusterID()
	if err != nil {
		return nil, f, err
	}
	cntlrs, err := tx.CNObjects(cnID, base)
	if err != nil {
		return nil, f, err
	}
	req = newCnRequest(cluster, cn, cn.Version, base)
	b := cnBuilder{tx: tx, dns: map[string]*vda.DN{}, fences: fences{map[string]bool{}, map[string]uint64{}}}
	for i := range cntlrs {
		spec, err := b.cntlr(&cntlrs[i])
		if err != nil {
			return nil, f, err
		}
		req.Cntlrs = append(req.Cntlrs, spec)
		req.AllowEmpty = req.AllowEmpty || spec.Deleted
	}
	return req, b.fences, nil
}

// cnBuilder makes the specs of one request and reads each dn once.
type cnBuilder struct {
	tx     store.Reader
	dns    map[string]*vda.DN
	fences fences
}

func (b *cnBuilder) cntlr(c *vda.Cntlr) (*apiv1.CntlrSpec, error) {
	da, err := b.tx.DA(c.DAID)
	if err != nil {
		return nil, err
	}
	spec := &apiv1.CntlrSpec{
		Id: c.ID, DaId: da.ID, DaName: da.Name, CntlrIdx: c.Idx, Primary: c.Primary, Term: da.Term, Version: c.Version,
		Deleted: c.Deleted, DestroyData: c.Deleted && c.Primary && da.Deleted,
		Size: da.Size, Thin: da.Thin(), Create: c.Primary && !da.Created && !c.Deleted, ClusterSize: da.ClusterSize,
		HostNqn: vda.ProxyHostNQN(c.ID),
	}
	if da.Redundancy.Mirrored() {
		spec.Redundancy, spec.MinLegs = da.Redundancy.String(), da.MinLegs
	}
	spec.Limits = apiv1.NewLimits(da.Limits)
	spec.MinCntlid, spec.MaxCntlid = c.CNTLIDs()
	peers, err := b.tx.CntlrsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	if c.Primary {
		spec.HostNqn = vda.PrimaryHostNQN(da.ID, da.Term)
		if spec.Grps, err = b.grps(da); err != nil {
			return nil, err
		}
	}
	for i := range peers {
		p := &peers[i]
		switch {
		case c.Primary && p.ID != c.ID && !p.Deleted:
			spec.SecondaryHostNqns = append(spec.SecondaryHostNqns, vda.ProxyHostNQN(p.ID))
		case !c.Primary && p.Primary:
			cn, err := b.tx.CN(p.CNID)
			if err != nil {
				return nil, err
			}
			spec.PrimaryListener, spec.PrimaryCnId = apiv1.NewListenerConf(cn.Listener), cn.ID
		}
	}
	spec.Exps, err = b.exps(da, c)
	return spec, err
}

// grps are the groups of an array, as its primary puts them together.
func (b *cnBuilder) grps(da *vda.DA) ([]*apiv1.GrpSpec, error) {
	grps, err := b.tx.GrpsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	vds, err := b.tx.VDsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	mirrors, err := b.tx.MirrorsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	if da.Deleted { // its vds are tombstones too, or will be soon
		for i := range vds {
			vds[i].Deleted = false
		}
	}
	var specs []*apiv1.GrpSpec
	for _, g := range grps {
		spec := &apiv1.GrpSpec{Id: g.ID, GrpIdx: g.Idx, StripeSizeKb: da.StripeSizeKB}
		for _, column := range vda.Columns(vds) {
			if column.GrpIdx != g.Idx {
				continue
			}
			at := slices.IndexFunc(mirrors, func(m vda.Mirror) bool { return m.GrpIdx == column.GrpIdx && m.Idx == column.Idx })
			if at < 0 {
				err = b.stripe(da, spec, &column)
			} else {
				err = b.mirror(da, spec, &mirrors[at], &column)
			}
			if err != nil {
				return nil, err
			}
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

func (b *cnBuilder) stripe(da *vda.DA, g *apiv1.GrpSpec, column *vda.Column) error {
	for _, vd := range column.Legs {
		t, err := b.target(da, vd)
		if err != nil {
			return err
		}
		g.Vds = append(g.Vds, t)
	}
	return nil
}

func (b *cnBuilder) mirror(da *vda.DA, g *apiv1.GrpSpec, m *vda.Mirror, column *vda.Column) error {
	spec := &apiv1.MirrorSpec{Id: m.ID, Gen: m.Gen, DataSize: m.Size, Fresh: !da.Created}
	for _, vd := range column.Legs {
		t, err := b.target(da, vd)
		if err != nil {
			return err
		}
		spec.Legs = append(spec.Legs, &apiv1.LegSpec{Vd: t, Role: apiv1.NewLegRole(vd.Role)})
	}
	g.Mirrors = append(g.Mirrors, spec)
	return nil
}

// target is how a primary reaches a vd. Unless the vd is stale, and so not
// connected, its dn is to be fenced before.
func (b *cnBuilder) target(da *vda.DA, vd *vda.VD) (*apiv1.VdTarget, error) {
	dn, known := b.dns[vd.DNID]
	if !known {
		var err error
		if dn, err = b.tx.DN(vd.DNID); err != nil {
			return nil, err
		}
		b.dns[vd.DNID] = dn
	}
	if dn.Applied < vd.Version && !da.Deleted && vd.Role != vda.Stale {
		b.fences.dns[dn.ID] = true
		if vd.MirrorID != "" && da.Term > firstTerm {
			b.fences.legs[dn.ID] = max(b.fences.legs[dn.ID], vd.Version)
		}
	}
	return &apiv1.VdTarget{VdId: vd.ID, Listener: apiv1.NewListenerConf(dn.Listener), Nqn: vda.VdNQN(vd.ID), Uuid: UUID(vd.ID),
		Epoch: vd.Epoch}, nil
}

// exps are the exporters that have a state on this controller, tombstones
// too.
func (b *cnBuilder) exps(da *vda.DA, c *vda.Cntlr) ([]*apiv1.ExpSpec, error) {
	ess, err := b.tx.ESsOfCntlr(c.ID)
	if err != nil {
		return nil, err
	}
	exps, err := b.tx.ExpsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	var specs []*apiv1.ExpSpec
	for i := range exps {
		e := &exps[i]
		at := slices.IndexFunc(ess, func(es vda.ES) bool { return es.ExpID == e.ID })
		if at < 0 {
			continue
		}
		specs = append(specs, &apiv1.ExpSpec{Id: e.ID, EsId: ess[at].ID, Name: e.Name, Nqn: e.NQN, InitiatorNqn: e.InitiatorNQN,
			SnapName: e.SnapName, Serial: e.Serial, NsUuid: e.NSUUID,
			Deleted: e.Deleted, Version: e.Version})
	}
	return specs, nil
}
