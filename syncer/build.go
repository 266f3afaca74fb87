package syncer

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

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
	keys, err := readHops(tx)
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
	terms, err := tx.TermsOnDN(dnID, base)
	if err != nil {
		return nil, err
	}
	for i := range vds {
		vd := &vds[i]
		term, known := terms[vd.DAID]
		if !known {
			return nil, missing("da", vd.DAID, "vd "+vd.ID)
		}
		req.Vds = append(req.Vds, &apiv1.VdSpec{Id: vd.ID, PdId: vd.PDID, Size: vd.Size, Nqn: vda.VdNQN(vd.ID), Term: term,
			HostNqn: legHost(vd, term), Epoch: vd.Epoch, Deleted: vd.Deleted, Version: vd.Version, Uuid: UUID(vd.ID), DaId: vd.DAID,
			HopKey: keys.vd(vd, term)})
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
	req := &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.ID, NodeName: n.Name, Version: version, BaseVersion: base,
		Marks: apiv1.NewVersionMarks(n.Marks), Listener: apiv1.NewListenerConf(n.Listener)}
	if n.Backend != (vda.Listener{}) {
		req.BackendListener = apiv1.NewListenerConf(n.Backend)
	}
	return req
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
	keys, err := readHops(tx)
	if err != nil {
		return nil, f, err
	}
	b := cnBuilder{apart: cn.Backend != (vda.Listener{}), keys: keys, fences: fences{dns: map[string]bool{}, legs: map[string]fencedLeg{}}}
	if len(cntlrs) > 0 {
		if err := b.read(tx, cnID, base, slices.ContainsFunc(cntlrs, func(c vda.Cntlr) bool { return c.Primary })); err != nil {
			return nil, f, err
		}
	}
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

// cnBuilder makes the specs of one request, of rows that read has read: as many statements for
// one array as for a thousand.
type cnBuilder struct {
	// apart: the node keeps other controllers off its listener for hosts.
	apart  bool
	keys   hops
	fences fences

	das     map[string]*vda.DA
	dns     map[string]*vda.DN
	cns     map[string]*vda.CN // of other controllers of these arrays
	peers   map[string][]vda.Cntlr
	snaps   map[string][]vda.Snap
	exps    map[string][]vda.Exp
	grps    map[string][]vda.Grp
	vds     map[string][]vda.VD
	mirrors map[string][]vda.Mirror
	ess     map[string][]vda.ES // by controller
	// joining: the group has no data, and nothing waits for its dns.
	joining bool
}

// read reads what controllers of a version above base stand on; primaries: some are.
func (b *cnBuilder) read(tx store.Reader, cnID string, base uint64, primaries bool) (err error) {
	das, err := tx.DAsOnCN(cnID, base)
	if err != nil {
		return err
	}
	b.das = map[string]*vda.DA{}
	for i := range das {
		b.das[das[i].ID] = &das[i]
	}
	if b.peers, err = by(func(v *vda.Cntlr) string { return v.DAID }, tx.PeersOnCN, cnID, base); err != nil {
		return err
	}
	if b.snaps, err = by(func(v *vda.Snap) string { return v.DAID }, tx.SnapsOnCN, cnID, base); err != nil {
		return err
	}
	if b.exps, err = by(func(v *vda.Exp) string { return v.DAID }, tx.ExpsOnCN, cnID, base); err != nil {
		return err
	}
	if b.ess, err = by(func(v *vda.ES) string { return v.CntlrID }, tx.ESsOnCN, cnID, base); err != nil {
		return err
	}
	elsewhere := map[string]bool{}
	for _, peers := range b.peers {
		for i := range peers {
			if p := &peers[i]; (p.Primary || b.apart) && p.CNID != cnID {
				elsewhere[p.CNID] = true
			}
		}
	}
	if b.cns, err = named(tx.CNsByID, elsewhere, func(v *vda.CN) string { return v.ID }); err != nil || !primaries {
		return err
	}
	if b.grps, err = by(func(v *vda.Grp) string { return v.DAID }, tx.GrpsOnCN, cnID, base); err != nil {
		return err
	}
	if b.mirrors, err = by(func(v *vda.Mirror) string { return v.DAID }, tx.MirrorsOnCN, cnID, base); err != nil {
		return err
	}
	if b.vds, err = by(func(v *vda.VD) string { return v.DAID }, tx.VDsOnCN, cnID, base); err != nil {
		return err
	}
	under := map[string]bool{}
	for _, vds := range b.vds {
		for i := range vds {
			under[vds[i].DNID] = true
		}
	}
	b.dns, err = named(tx.DNsByID, under, func(v *vda.DN) string { return v.ID })
	return err
}

// by reads rows and sorts them by a key, each in the order in which they come.
func by[T any](key func(*T) string, read func(string, uint64) ([]T, error), id string, since uint64) (map[string][]T, error) {
	rows, err := read(id, since)
	sorted := map[string][]T{}
	for i := range rows {
		k := key(&rows[i])
		sorted[k] = append(sorted[k], rows[i])
	}
	return sorted, err
}

// namedAtOnce bounds the ids of a question.
const namedAtOnce = 1000

// named reads the rows of ids.
func named[T any](read func([]string) ([]T, error), ids map[string]bool, id func(*T) string) (map[string]*T, error) {
	found := map[string]*T{}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(ids)), namedAtOnce) {
		rows, err := read(some)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			found[id(&rows[i])] = &rows[i]
		}
	}
	return found, nil
}

// missing is a row that another one refers to and that is not there.
func missing(k, id, of string) error {
	return vda.Errorf(vda.Internal, "%s %s of %s has no row", k, id, of)
}

func (b *cnBuilder) cntlr(c *vda.Cntlr) (*apiv1.CntlrSpec, error) {
	da := b.das[c.DAID]
	if da == nil {
		return nil, missing("da", c.DAID, "controller "+c.ID)
	}
	spec := &apiv1.CntlrSpec{
		Id: c.ID, DaId: da.ID, DaName: da.Name, CntlrIdx: c.Idx, Primary: c.Primary, Term: da.Term, Version: c.Version,
		Deleted: c.Deleted, DestroyData: c.Deleted && c.Primary && da.Deleted,
		Size: da.Size, Thin: da.Thin(), Create: c.Primary && !da.Created && !c.Deleted, ClusterSize: da.ClusterSize,
		HostNqn: vda.ProxyHostNQN(c.ID), HopKey: b.keys.cntlr(c, da.Term),
	}
	spec.Redundancy, spec.MinLegs = da.Redundancy.String(), da.MinLegs
	spec.Limits, spec.Reservations = apiv1.NewLimits(da.Limits), da.Reservations
	spec.MinCntlid, spec.MaxCntlid = c.CNTLIDs()
	peers, hop := b.peers[da.ID], false // hop: a secondary comes to the primary's back-end listener
	if c.Primary {
		var err error
		spec.HostNqn = vda.PrimaryHostNQN(da.ID, da.Term)
		if spec.Grps, err = b.grpSpecs(da); err != nil {
			return nil, err
		}
	}
	for i := range peers {
		p := &peers[i]
		switch {
		case c.Primary && p.ID != c.ID && !p.Deleted:
			spec.SecondaryHostNqns = append(spec.SecondaryHostNqns, vda.ProxyHostNQN(p.ID))
			if b.apart && b.isApart(p.CNID) {
				spec.BackendHostNqns = append(spec.BackendHostNqns, vda.ProxyHostNQN(p.ID))
			}
			if key := b.keys.cntlr(p, da.Term); key != nil {
				spec.SecondaryHopKeys = append(spec.SecondaryHopKeys, key)
			}
		case !c.Primary && p.Primary:
			cn := b.cns[p.CNID]
			if cn == nil {
				return nil, missing("cn", p.CNID, "controller "+p.ID)
			}
			spec.PrimaryListener, spec.PrimaryCnId = apiv1.NewListenerConf(cn.Listener), cn.ID
			if hop = b.apart && b.isApart(cn.ID); hop {
				spec.PrimaryListener = apiv1.NewListenerConf(cn.Backend)
			}
		}
	}
	snaps := b.snaps[da.ID]
	if s := &da.Source; c.Primary && !da.Deleted && !c.Deleted && s.Copying() {
		spec.Source = &apiv1.CloneSource{Name: s.Name, Nqn: s.NQN, HostNqn: vda.CloneHostNQN(da.ID), Uuid: s.UUID, Size: s.Size,
			HopKey: b.keys.clone(s.ExpID, s.Term)}
		spec.Source.Create, spec.Create = spec.Create, false
		for _, l := range s.At {
			spec.Source.Listeners = append(spec.Source.Listeners, apiv1.NewListenerConf(l))
		}
	}
	if c.Primary && !da.Deleted {
		for i := range snaps {
			s := &snaps[i]
			spec.Snaps = append(spec.Snaps, apiv1.NewSnapSpec(s))
		}
	}
	spec.Exps = b.expSpecs(da, c, snaps)
	if b.apart {
		var hops []*apiv1.ExpSpec
		for _, e := range spec.Exps {
			if ofClone(e) {
				e.Backend = true
				continue
			}
			if hop {
				e.HopNqn = vda.HopNQN(e.Id)
			}
			if len(peers) > 1 {
				hops = append(hops, hopOf(e))
			}
		}
		spec.Exps = append(spec.Exps, hops...)
	}
	return spec, nil
}

// isApart is cnBuilder.apart of another node.
func (b *cnBuilder) isApart(cnID string) bool {
	cn := b.cns[cnID]
	return cn != nil && cn.Backend != (vda.Listener{})
}

func ofClone(e *apiv1.ExpSpec) bool { return strings.HasPrefix(e.Name, vda.ClonePrefix) }

// hopOf is what secondaries connect to on a primary that keeps them off its listener for
// hosts: a subsystem beside the exporter's, which lets in no user's host. Its ids follow
// from the exporter's.
func hopOf(e *apiv1.ExpSpec) *apiv1.ExpSpec {
	id := derived("hop " + e.Id)
	return &apiv1.ExpSpec{Id: id, EsId: hopES(e.EsId), Name: e.Name, Nqn: vda.HopNQN(e.Id), SnapName: e.SnapName, SnapId: e.SnapId,
		Serial: e.Serial, NsUuid: UUID(id), Deleted: e.Deleted, Version: e.Version, Backend: true}
}

// hopES is the id under which the state of an es's hop is reported.
func hopES(esID string) string { return derived("hop of " + esID) }

func derived(from string) string {
	sum := sha256.Sum256([]byte(from))
	return hex.EncodeToString(sum[:16])
}

// isHop reports that an exporter of a request is a hop, of which there is no row.
func isHop(e *apiv1.ExpSpec) bool { return strings.HasPrefix(e.Nqn, vda.HopNQNPrefix) }

// grpSpecs are the groups of an array, as its primary puts them together.
func (b *cnBuilder) grpSpecs(da *vda.DA) ([]*apiv1.GrpSpec, error) {
	grps, vds, mirrors := b.grps[da.ID], b.vds[da.ID], b.mirrors[da.ID]
	if da.Deleted { // its vds are tombstones too, or will be soon
		for i := range vds {
			vds[i].Deleted = false
		}
	}
	columns := vda.Columns(vds)
	// A controller node without mirrors can carry it, too.
	plain := !da.Redundancy.Mirrored() && !slices.ContainsFunc(columns, func(c vda.Column) bool { return len(c.Legs) > 1 })
	var specs []*apiv1.GrpSpec
	for _, g := range grps {
		b.joining = g.Joining
		spec := &apiv1.GrpSpec{Id: g.ID, GrpIdx: g.Idx, StripeSizeKb: da.StripeSizeKB, Joining: g.Joining}
		for i := range columns {
			c := &columns[i]
			if c.GrpIdx != g.Idx {
				continue
			}
			at := slices.IndexFunc(mirrors, func(m vda.Mirror) bool { return m.GrpIdx == c.GrpIdx && m.Idx == c.Idx })
			if at < 0 {
				return nil, vda.Errorf(vda.Internal, "column %d of group %d of da %s has no row of its own", c.Idx, c.GrpIdx, da.Name)
			}
			m, err := b.mirror(da, &mirrors[at], c, !plain)
			if err != nil {
				return nil, err
			}
			m.Fresh = m.Fresh || g.Joining
			if plain {
				spec.Vds, spec.Columns = append(spec.Vds, m.Legs[0].Vd), append(spec.Columns, m)
			} else {
				spec.Mirrors = append(spec.Mirrors, m)
			}
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// mirror is a column. legs: another leg may have its data, too.
func (b *cnBuilder) mirror(da *vda.DA, m *vda.Mirror, column *vda.Column, legs bool) (*apiv1.MirrorSpec, error) {
	spec := &apiv1.MirrorSpec{Id: m.ID, Gen: m.Gen, DataSize: m.Size, Fresh: !da.Created, Recovered: &m.Recovered}
	bare := m.Bare(column)
	var members []string
	for _, vd := range column.Legs {
		t, err := b.target(da, vd, legs)
		if err != nil {
			return nil, err
		}
		if vd.Role == vda.Member {
			members = append(members, vd.ID)
		}
		spec.Legs = append(spec.Legs, &apiv1.LegSpec{Vd: t, Role: apiv1.NewLegRole(vd.Role), Bare: bare && vd.Role == vda.Member})
	}
	if legs && da.Term > firstTerm {
		b.fences.mirrors = append(b.fences.mirrors, fencedMirror{spec, members})
	}
	return spec, nil
}

// target is how a primary reaches a vd. Unless the vd is stale, and so not
// connected, its dn is to be fenced before. legs is mirror's.
func (b *cnBuilder) target(da *vda.DA, vd *vda.VD, legs bool) (*apiv1.VdTarget, error) {
	dn := b.dns[vd.DNID]
	if dn == nil {
		return nil, missing("dn", vd.DNID, "vd "+vd.ID)
	}
	if !vd.CarriedOut(dn.Applied) && !da.Deleted && vd.Role != vda.Stale && !b.joining {
		b.fences.dns[dn.ID] = true
		if legs && da.Term > firstTerm {
			b.fences.legs[vd.ID] = fencedLeg{dn.ID, vd.Version}
		}
	}
	return &apiv1.VdTarget{VdId: vd.ID, Listener: apiv1.NewListenerConf(dn.Listener), Nqn: vda.VdNQN(vd.ID), Uuid: UUID(vd.ID),
		Epoch: vd.Epoch, HopKey: b.keys.vd(vd, da.Term)}, nil
}

// expSpecs are the exporters that have a state on this controller, tombstones
// too. snaps are the array's snapshots.
func (b *cnBuilder) expSpecs(da *vda.DA, c *vda.Cntlr, snaps []vda.Snap) []*apiv1.ExpSpec {
	ess, exps := b.ess[c.ID], b.exps[da.ID]
	var specs []*apiv1.ExpSpec
	for i := range exps {
		e := &exps[i]
		at := slices.IndexFunc(ess, func(es vda.ES) bool { return es.ExpID == e.ID })
		if at < 0 {
			continue
		}
		spec := &apiv1.ExpSpec{Id: e.ID, EsId: ess[at].ID, Name: e.Name, Nqn: e.NQN, SnapName: e.SnapName, SnapId: shown(e, snaps),
			Serial: e.Serial, NsUuid: e.NSUUID, Deleted: e.Deleted, Version: e.Version}
		spec.SetHosts(e)
		if ofClone(spec) {
			spec.CloneHopKeys = b.keys.ofSource(e.ID, da.Term)
		}
		specs = append(specs, spec)
	}
	return specs
}

// shown is the id of the snapshot that an exporter shows, "" for none. That of a tombstone may be a
// tombstone, too, which is carried out after it.
func shown(e *vda.Exp, snaps []vda.Snap) (id string) {
	for i := range snaps {
		switch s := &snaps[i]; {
		case e.SnapName == "" || s.Name != e.SnapName:
		case !s.Live() && e.Deleted:
			return s.ID
		case s.Live():
			id = s.ID
		}
	}
	return id
}
