package portal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// plan makes the rows of an array from its controllers and from vds on media,
// all of which must be there.
func (o *orphans) plan(daID string, cntlrs map[string]*apiv1.CntlrSpec, vds map[string]orphanVd) (*array.Adoption, error) {
	p := primary(cntlrs)
	if p == nil || len(p.Grps) == 0 {
		return nil, vda.Errorf(vda.FailedPrecondition, "no cn that answers remembers how its vds are put together")
	}
	a := &array.Adoption{}
	a.DA = &vda.DA{ID: daID, Name: p.DaName, Size: p.Size, PhysicalSize: p.Size, CntlrCnt: uint32(len(cntlrs)),
		StripeCount: uint32(len(p.Grps[0].Vds) + len(p.Grps[0].Mirrors)), StripeSizeKB: p.Grps[0].StripeSizeKb, ClusterSize: p.ClusterSize,
		Redundancy: vda.Striped, MinLegs: 1, Limits: p.Limits.Limits(), Term: p.Term, Created: true, Reservations: p.Reservations}
	a.DA.Conf = fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":%d}`, a.DA.StripeCount, a.DA.StripeSizeKB)
	if err := o.planRedundancy(a.DA, p, cntlrs); err != nil {
		return nil, err
	}
	if s := p.Source; s != nil { // ExpID is found when it is adopted
		a.DA.Source = vda.CloneSource{Name: s.Name, NQN: s.Nqn, UUID: s.Uuid, Size: s.Size}
		for _, l := range s.Listeners {
			a.DA.Source.At = append(a.DA.Source.At, l.Listener())
		}
	}
	var clusters uint64 // for data
	for _, g := range p.Grps {
		row, err := planGroup(a, g, vds)
		if err != nil {
			return nil, err
		}
		switch {
		case g.Joining: // nothing is on it, and it may never have been put together
			row.Joining, row.Adds = true, row.Size/a.DA.ClusterSize*a.DA.ClusterSize
		case g.GrpIdx == 0: // the metadata of its lvstore are on it
			clusters += placement.DiskClusters(row.Size, a.DA.ClusterSize)
		default:
			clusters += row.Size / a.DA.ClusterSize
		}
		a.Grps = append(a.Grps, row)
	}
	if p.Thin { // it may have bought more than its size by now
		a.DA.PhysicalSize, a.DA.StaysThin = clusters*a.DA.ClusterSize, true
	}
	for _, cnID := range slices.Sorted(maps.Keys(cntlrs)) {
		c := cntlrs[cnID]
		a.DA.Term = max(a.DA.Term, c.Term)
		a.Cntlrs = append(a.Cntlrs, &vda.Cntlr{ID: c.Id, DAID: daID, CNID: cnID, Idx: c.CntlrIdx, Primary: c == p})
	}
	a.DA.Term++ // the primary of before is shut out
	for _, sn := range p.Snaps {
		// One that was asked for may have been answered since: it is there, or an
		// error says that it is not.
		state := vda.SnapTaken
		if sn.Stage() == apiv1.SnapState_SNAP_STATE_DELETING {
			state = vda.SnapDeleting
		}
		rollback := sn.Rollback.Rollback()
		if rollback == vda.RollbackAsked { // it may have been carried out, and hosts have written since
			rollback = vda.RollbackDone
		}
		a.Snaps = append(a.Snaps, &vda.Snap{ID: sn.Id, DAID: daID, Name: sn.Name, State: state, Size: p.Size,
			CloneOf: sn.GetClone().GetOf(), Rollback: rollback})
	}
	for _, e := range p.Exps {
		if e.Deleted || strings.HasPrefix(e.Nqn, vda.HopNQNPrefix) {
			continue
		}
		row := &vda.Exp{ID: e.Id, DAID: daID, Name: e.Name, NQN: e.Nqn, SnapName: e.SnapName, Serial: e.Serial, NSUUID: e.NsUuid}
		e.HostsOf(row)
		a.Exps = append(a.Exps, row)
	}
	return a, nil
}

// planRedundancy takes over what an array some of whose columns have several legs
// promises. Which of its legs have
// every write is known to its last primary alone: when another may have been primary
// since, a leg that lacks writes could be taken for a good one.
func (o *orphans) planRedundancy(da *vda.DA, p *apiv1.CntlrSpec, cntlrs map[string]*apiv1.CntlrSpec) error {
	mirrored := slices.ContainsFunc(p.Grps, func(g *apiv1.GrpSpec) bool { return len(g.Mirrors) > 0 })
	if !mirrored {
		return nil
	}
	for _, c := range cntlrs {
		if c.Term > p.Term {
			return vda.Errorf(vda.FailedPrecondition, "its primary of term %d is on no cn that answers, and knows alone which of its legs "+
				"have all data", c.Term)
		}
	}
	if len(o.mute) > 0 {
		return vda.Errorf(vda.FailedPrecondition,
			"its columns have several legs, and a node that does not answer may know more of its legs: %s", o.mute[0])
	}
	r, err := vda.ParseRedundancy("redundancy", p.Redundancy)
	if err != nil || p.Redundancy == "" {
		return vda.Errorf(vda.FailedPrecondition, "its primary does not remember its redundancy")
	}
	da.Redundancy, da.MinLegs = r, max(p.MinLegs, 1)
	return nil
}

// recovered is vda.Mirror's; what an agent of before has, which was not told, counts as said.
func recovered(m *apiv1.MirrorSpec) uint64 {
	if m.Recovered == nil {
		return m.Gen
	}
	return *m.Recovered
}

// planGroup makes the rows of a group's vds and mirrors, and returns the group's.
func planGroup(a *array.Adoption, g *apiv1.GrpSpec, vds map[string]orphanVd) (*vda.Grp, error) {
	row := &vda.Grp{ID: g.Id, DAID: a.DA.ID, Idx: g.GrpIdx}
	for i, t := range g.Vds {
		v, known := vds[t.VdId]
		if !known {
			return nil, vda.Errorf(vda.FailedPrecondition, "its vd %s is on no dn that answers", t.VdId)
		}
		m := &vda.Mirror{ID: store.NewID(), DAID: a.DA.ID, GrpIdx: g.GrpIdx, Idx: uint32(i), Size: v.Size, Gen: 1}
		if i < len(g.Columns) { // not of a controller node of before
			m.ID, m.Size, m.Gen, m.Recovered = g.Columns[i].Id, g.Columns[i].DataSize, g.Columns[i].Gen, recovered(g.Columns[i])
		}
		a.Mirrors = append(a.Mirrors, m)
		a.VDs = append(a.VDs, &vda.VD{ID: v.Id, DAID: a.DA.ID, GrpIdx: g.GrpIdx, Idx: uint32(i), PDID: v.PdId, DNID: v.dnID, Size: v.Size,
			MirrorID: m.ID, Epoch: max(v.Epoch, t.Epoch)})
		row.Size += m.Size
	}
	for i, m := range g.Mirrors {
		a.Mirrors = append(a.Mirrors, &vda.Mirror{ID: m.Id, DAID: a.DA.ID, GrpIdx: g.GrpIdx, Idx: uint32(i), Size: m.DataSize, Gen: m.Gen,
			Recovered: recovered(m)})
		row.Size += m.DataSize
		for _, leg := range m.Legs {
			v, known := vds[leg.Vd.VdId]
			member := leg.Role == apiv1.LegRole_LEG_ROLE_MEMBER
			switch {
			case !known && member:
				return nil, vda.Errorf(vda.FailedPrecondition, "its vd %s, which has all data of its column, is on no dn that answers", leg.Vd.VdId)
			case !known: // it is replaced
				continue
			}
			r := &vda.VD{ID: v.Id, DAID: a.DA.ID, GrpIdx: g.GrpIdx, Idx: uint32(i), PDID: v.PdId, DNID: v.dnID, Size: v.Size, MirrorID: m.Id,
				Role: vda.Stale, Epoch: max(v.Epoch, leg.Vd.Epoch)}
			if member {
				r.Role = vda.Member
			} else {
				r.Epoch++ // whatever was on its way to it does not land any more
			}
			a.VDs = append(a.VDs, r)
		}
	}
	return row, nil
}

// AdoptOrphan takes an array or a pd into the database as its nodes remember it,
// with the data that it has.
func (s *Server) AdoptOrphan(ctx context.Context, req *apiv1.AdoptOrphanRequest) (*apiv1.AdoptOrphanReply, error) {
	if req.NewName != nil {
		if err := vda.CheckName("new_name", *req.NewName); err != nil {
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
	switch m.Kind {
	case "pd":
		notes, err = s.adoptPD(ctx, m)
	case "grp":
		if req.NewName != nil {
			return nil, vda.Errorf(vda.InvalidArgument, "new_name %q: a grp has no name; leave it out", vda.Shorten(*req.NewName, 80))
		}
		notes, err = s.adoptGrp(ctx, o, m)
	default:
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
	var dn *vda.Node
	err = s.update(ctx, func(tx store.Tx) (err error) {
		if dn, err = findNode(tx, vda.DiskNode, m.NodeNameList[0]); err != nil {
			return err
		}
		_, err = tx.Unlocked().PDByName(dn.ID, m.Name) // none comes to a dn that is locked
		if err := taken(err, func() error {
			return refuse(codeNameTaken, vda.AlreadyExists, "dn %s has another pd %s by now; give the orphan a new_name", dn.Name, m.Name)
		}); err != nil {
			return err
		}
		if err := mediumFree(tx.Unlocked(), dn, medium); err != nil {
			return err
		}
		pd := &vda.PD{ID: m.OrphanId, DNID: dn.ID, Name: m.Name, Conf: m.Conf, Online: true}
		return array.AddPD(tx, pd)
	})
	if err != nil {
		return nil, err
	}
	return s.syncSteps(ctx, []node{nodeOf(vda.DiskNode, dn)}), nil
}

func (s *Server) adoptDA(ctx context.Context, o *orphans, m *apiv1.OrphanMsg) (notes []string, err error) {
	var steps [][]node
	err = s.update(ctx, func(tx store.Tx) error {
		a, err := o.plan(m.OrphanId, o.das()[m.OrphanId], o.vds())
		if err != nil {
			return err
		}
		a.DA.Name = m.Name
		_, err = tx.DAByName(m.Name)
		if err := taken(err, func() error {
			return refuse(codeNameTaken, vda.AlreadyExists, "there is another da %s by now; give the orphan a new_name", m.Name)
		}); err != nil {
			return err
		}
		if a.DA.Source.NQN != "" {
			if err := findSource(tx, a); err != nil {
				return err
			}
		}
		todo, err := array.Adopt(tx, a)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, todo)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.syncSteps(ctx, steps...), nil
}

// findSource finds the exporter that an adopted array, a clone that is not copied yet, is
// copied from, or has it made again.
func findSource(tx store.Tx, a *array.Adoption) error {
	src, name := &a.DA.Source, vda.ClonePrefix+a.DA.ID
	exps, err := tx.Unlocked().CloneExps()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(exps, func(e vda.Exp) bool { return e.Name == name && e.NQN == src.NQN && e.NSUUID == src.UUID })
	if at >= 0 {
		src.ExpID = exps[at].ID
		return nil
	}
	needs := func(what string) error {
		return vda.Errorf(vda.FailedPrecondition, "da %s is a clone that is not copied yet, and what it is copied from, snap %s, is not "+
			"there: %s", a.DA.Name, src.Name, what)
	}
	daName, snapName, err := vda.ParseSnapPath("source", src.Name)
	if err != nil {
		return needs("its name is not ARRAY/SNAPSHOT")
	}
	from, err := tx.Unlocked().DAByName(daName)
	if isKind(err, vda.NotFound) {
		return needs("there is no da " + daName + "; if that is an orphan, adopt it first, under its own name")
	}
	if err != nil {
		return err
	}
	if _, err := findSnapOf(tx.Unlocked(), from, snapName); isKind(err, vda.NotFound) {
		return needs("da " + daName + " has no snap " + snapName)
	} else if err != nil {
		return err
	}
	src.ExpID = store.NewID()
	a.From = &vda.Exp{ID: src.ExpID, DAID: from.ID, Name: name, NQN: src.NQN, InitiatorNQN: vda.CloneHostNQN(a.DA.ID), SnapName: snapName,
		Serial: cloneSerial(src.UUID), NSUUID: src.UUID}
	return nil
}
