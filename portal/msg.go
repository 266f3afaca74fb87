package portal

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// names reads the nodes and disks that a reply mentions, each once.
type names struct {
	tx  store.Reader
	dns map[string]*vda.Node
	pds map[string]*vda.PD
	cns map[string]*vda.CN
	mir map[string]*[]vda.Mirror // by array
}

func newNames(tx store.Reader) *names {
	return &names{tx: tx, dns: map[string]*vda.Node{}, pds: map[string]*vda.PD{}, cns: map[string]*vda.CN{},
		mir: map[string]*[]vda.Mirror{}}
}

func (n *names) dn(id string) (*vda.Node, error) {
	return once(n.dns, id, func(id string) (*vda.Node, error) { return n.tx.Node(vda.DiskNode, id) })
}

func (n *names) pd(id string) (*vda.PD, error) { return once(n.pds, id, n.tx.PD) }
func (n *names) cn(id string) (*vda.CN, error) { return once(n.cns, id, n.tx.CN) }

// mirrors are those of an array.
func (n *names) mirrors(daID string) ([]vda.Mirror, error) {
	l, err := once(n.mir, daID, func(id string) (*[]vda.Mirror, error) {
		l, err := n.tx.MirrorsOfDA(id)
		return &l, err
	})
	if err != nil {
		return nil, err
	}
	return *l, nil
}

func once[T any](known map[string]*T, id string, read func(string) (*T, error)) (*T, error) {
	if v, ok := known[id]; ok {
		return v, nil
	}
	v, err := read(id)
	if err == nil {
		known[id] = v
	}
	return v, err
}

// condition is the error that users see of an object.
type condition struct {
	error bool
	msg   string
	time  string // RFC 3339
}

// seen is an object's own error, or else that of the first thing it depends
// on, said with that thing's name: an exporter on a dead node is not healthy,
// whatever it was last seen to be.
func seen(own vda.Health, on ...dependency) condition {
	if own.Error {
		return healthOf(own, "")
	}
	for _, d := range on {
		if d.health.Error {
			return healthOf(d.health, d.name+": ")
		}
	}
	return condition{}
}

// because is the condition with what may be its cause, when that is in error,
// before it.
func (c condition) because(cause vda.Health) condition {
	switch {
	case !cause.Error:
		return c
	case !c.error:
		return healthOf(cause, "")
	}
	c.msg = cause.Msg + "; " + c.msg
	return c
}

// dependency is something that an object cannot do without.
type dependency struct {
	name   string
	health vda.Health
}

func healthOf(h vda.Health, prefix string) condition {
	since := ""
	if !h.Since.IsZero() {
		since = h.Since.UTC().Format(time.RFC3339Nano)
	}
	return condition{true, prefix + h.Msg, since}
}

func dnMsg(dn *vda.Node) *apiv1.DnMsg {
	h := seen(dn.Health)
	return &apiv1.DnMsg{
		DnId: dn.ID, DnName: dn.Name, DnAddr: dn.Agent(), DnListenerConf: dn.Listener.JSON(), Location: dn.Location, Online: dn.Online,
		Version: dn.Version, Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time, DataPlaneVersion: dn.DataPlaneVersion,
	}
}

// addDisk counts a pd as one of the dn's.
func addDisk(msg *apiv1.DnMsg, pd *vda.PD) {
	msg.PdCnt++
	msg.TotalSize += pd.TotalClusters * pd.ClusterSize
	msg.FreeSize += pd.FreeClusters * pd.ClusterSize
}

func cnMsg(cn *vda.CN) *apiv1.CnMsg {
	h := seen(cn.Health)
	return &apiv1.CnMsg{
		CnId: cn.ID, CnName: cn.Name, CnAddr: cn.Agent(), CnListenerConf: cn.Listener.JSON(),
		CnBackendListenerConf: backendJSON(&cn.Node), Location: cn.Location, Online: cn.Online,
		Version: cn.Version, CntlrCnt: cn.CntlrCount, PrimaryCnt: cn.PrimaryCount,
		Drain: cn.Drain != vda.NoDrain, DrainCntlrs: cn.Drain == vda.DrainCntlrs,
		Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time, DataPlaneVersion: cn.DataPlaneVersion,
	}
}

func pdMsg(pd *vda.PD, dn *vda.Node) *apiv1.PdMsg {
	h := seen(pd.Health, dependency{"dn " + dn.Name, dn.Health})
	return &apiv1.PdMsg{
		PdId: pd.ID, PdName: pd.Name, DnName: dn.Name, PdConf: pd.Conf, Online: pd.Online,
		ClusterSize: pd.ClusterSize, TotalSize: pd.TotalClusters * pd.ClusterSize, FreeSize: pd.FreeClusters * pd.ClusterSize,
		VdCnt: pd.VDCount, OrphanSize: pd.OrphanClusters * pd.ClusterSize, WriteCache: string(pd.WriteCache), Drain: pd.Drain,
		Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time,
	}
}

func daMsg(da *vda.DA) *apiv1.DaMsg {
	h := seen(da.Health)
	return &apiv1.DaMsg{
		DaId: da.ID, DaName: da.Name, DaSize: da.Size, PhysicalSize: da.PhysicalSize, Thin: da.Thin(), CntlrCnt: da.CntlrCnt,
		DaConf: da.Conf, Redundancy: da.Redundancy.String(), MinLegs: da.MinLegs, Term: da.Term, PurgeTime: rfc3339(da.Purge),
		RwIosPerSec: da.Limits.RWIOs, RwMbytesPerSec: da.Limits.RWMB, RMbytesPerSec: da.Limits.RMB, WMbytesPerSec: da.Limits.WMB,
		RebuildMbps: da.Limits.RebuildMB, UsedSize: da.Space.Used, FreeSize: da.Space.Free(),
		AutoGrow: da.AutoGrow.Limit, AutoGrowBelow: uint32(da.AutoGrow.LowPercent), Reservations: da.Reservations,
		CloneOf: da.Source.Name, CopiedSize: da.Source.Done, CopySize: da.Source.Total,
		Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time,
	}
}

// showLegs shows what an array has of its redundancy; vds are those of groups that have
// joined.
func showLegs(msg *apiv1.DaMsg, da *vda.DA, vds []vda.VD, mirrors []vda.Mirror) {
	columns := vda.Columns(vds)
	// An array without redundancy has all that it is to have: who waits for that does not wait for ever.
	msg.RedundancyState = string(cmp.Or(da.Redundancy.StateOf(columns), vda.RedundancyFull))
	msg.LackBytes = vda.Lacks(columns)
	p := vda.ProgressOf(vds, mirrors)
	msg.RebuildPercent, msg.RebuildBytesPerSec, msg.RebuildLeftSec = p.Percent(), p.Rate, p.Left()
}

// showPaths shows where an array's primary is, and how many of its controllers are
// well.
func showPaths(msg *apiv1.DaMsg, n *names, cntlrs []vda.Cntlr) error {
	for i := range cntlrs {
		c := &cntlrs[i]
		if c.Deleted {
			continue
		}
		cn, err := n.cn(c.CNID)
		if err != nil {
			return err
		}
		msg.PathCnt++
		if !c.Health.Error && !cn.Health.Error {
			msg.WellPathCnt++
		}
		if c.Primary {
			msg.PrimaryCn = cn.Name
		}
	}
	return nil
}

// daMsgs are arrays as lists show them. It asks as often for one as for a page of
// them.
func daMsgs(tx store.Reader, das []vda.DA) ([]*apiv1.DaMsg, error) {
	var mirrored []string
	for i := range das {
		if das[i].Redundancy.Mirrored() {
			mirrored = append(mirrored, das[i].ID)
		}
	}
	legs, err := tx.LegsOf(mirrored)
	if err != nil {
		return nil, err
	}
	mirrors, err := tx.MirrorsOf(mirrored)
	if err != nil {
		return nil, err
	}
	byDA := map[string][]vda.VD{}
	for i := range legs {
		byDA[legs[i].DAID] = append(byDA[legs[i].DAID], legs[i])
	}
	cntlrs, err := tx.CntlrsOfDAs(sortedIDs(das, func(d vda.DA) string { return d.ID }))
	if err != nil {
		return nil, err
	}
	cns, err := tx.CNsByID(sortedIDs(cntlrs, func(c vda.Cntlr) string { return c.CNID }))
	if err != nil {
		return nil, err
	}
	names, paths := newNames(tx), map[string][]vda.Cntlr{}
	for i := range cns {
		names.cns[cns[i].ID] = &cns[i]
	}
	for i := range cntlrs {
		paths[cntlrs[i].DAID] = append(paths[cntlrs[i].DAID], cntlrs[i])
	}
	var msgs []*apiv1.DaMsg
	for i := range das {
		msg := daMsg(&das[i])
		if err := showPaths(msg, names, paths[das[i].ID]); err != nil {
			return nil, err
		}
		showLegs(msg, &das[i], byDA[das[i].ID], mirrors)
		msgs = append(msgs, msg)
	}
	return msgs, describe(tx, msgs...)
}

// wholeDaMsg is daMsg with groups, controllers and exporters. An array is in
// error when one of its vds or controllers is; a leg of a mirror makes it so only
// when no member of its column is well.
func wholeDaMsg(tx store.Reader, da *vda.DA) (*apiv1.DaMsg, error) {
	msg, n := daMsg(da), newNames(tx)
	if err := describe(tx, msg); err != nil {
		return nil, err
	}
	grps, err := tx.GrpsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	vds, err := tx.VDsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	mirrors, err := n.mirrors(da.ID)
	if err != nil {
		return nil, err
	}
	showLegs(msg, da, vda.Joined(vds, grps), mirrors)
	if msg.ScrubMsgList, err = scrubMsgs(tx, da); err != nil {
		return nil, err
	}
	for i := range grps {
		g, err := grpMsg(n, &grps[i], vds, msg)
		if err != nil {
			return nil, err
		}
		msg.GrpMsgList = append(msg.GrpMsgList, g)
	}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	if err := showPaths(msg, n, cntlrs); err != nil {
		return nil, err
	}
	for i := range cntlrs {
		if cntlrs[i].Deleted {
			continue
		}
		cn, err := n.cn(cntlrs[i].CNID)
		if err != nil {
			return nil, err
		}
		h := seen(cntlrs[i].Health, dependency{"cn " + cn.Name, cn.Health})
		msg.CntlrMsgList = append(msg.CntlrMsgList, &apiv1.CntlrMsg{CntlrId: cntlrs[i].ID, CntlrIdx: cntlrs[i].Idx, CnName: cn.Name,
			Primary: cntlrs[i].Primary, Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time})
		blame(msg, "controller on cn "+cn.Name, h.error, h.msg, h.time)
	}
	exps, err := tx.ExpsOfDA(da.ID)
	for i := range exps {
		if !exps[i].Deleted {
			msg.ExpNameList = append(msg.ExpNameList, exps[i].Name)
		}
	}
	if err != nil {
		return nil, err
	}
	snaps, err := tx.SnapsOfDA(da.ID)
	for i := range snaps {
		msg.SnapSize += snaps[i].Held
		if snaps[i].Live() {
			msg.SnapNameList = append(msg.SnapNameList, snaps[i].Name)
		}
	}
	return msg, err
}

// grpMsg is a group with its vds, whose sizes are added to da, and their errors if the
// group has joined.
func grpMsg(n *names, grp *vda.Grp, vds []vda.VD, da *apiv1.DaMsg) (*apiv1.GrpMsg, error) {
	g := &apiv1.GrpMsg{GrpId: grp.ID, GrpIdx: grp.Idx, Size: grp.Size, Joining: grp.Joining}
	columns := vda.Columns(vds)
	for i := range columns {
		c := &columns[i]
		if c.GrpIdx != grp.Idx {
			continue
		}
		var members []*apiv1.VdMsg
		usable := false
		for _, v := range c.Legs {
			m, err := vdMsg(n, v)
			if err != nil {
				return nil, err
			}
			if len(c.Legs) == 1 && da.Redundancy == vda.Striped.String() && !v.Leaving {
				m.Role = "" // there is nothing to tell it from
			}
			g.VdMsgList = append(g.VdMsgList, m)
			da.RawSize += v.Size
			if v.Role == vda.Member {
				members = append(members, m)
				usable = usable || !m.Error
			}
		}
		for _, m := range members {
			blame(da, "vd on "+m.PdName+" of dn "+m.DnName, m.Error && !usable && !grp.Joining, m.ErrorMsg, m.ErrorTime)
		}
	}
	for i := range vds { // what is being deleted takes room still
		if v := &vds[i]; v.Deleted && v.GrpIdx == grp.Idx {
			m, err := vdMsg(n, v)
			if err != nil {
				return nil, err
			}
			g.VdMsgList = append(g.VdMsgList, m)
			da.RawSize += v.Size
		}
	}
	return g, nil
}

// blame shows a part's error as the array's, unless it has one.
func blame(msg *apiv1.DaMsg, part string, isError bool, text, since string) {
	if isError && !msg.Error {
		msg.Error, msg.ErrorMsg, msg.ErrorTime = true, part+": "+text, since
	}
}

// roleOf is what a leg is, as users see it: one that is being deleted is leaving.
func roleOf(vd *vda.VD) string {
	if vd.Deleted {
		return "leaving"
	}
	return vd.Role.String()
}

func vdMsg(n *names, vd *vda.VD) (*apiv1.VdMsg, error) {
	pd, err := n.pd(vd.PDID)
	if err != nil {
		return nil, err
	}
	dn, err := n.dn(vd.DNID)
	if err != nil {
		return nil, err
	}
	h := seen(vd.Health, dependency{"pd " + pd.Name, pd.Health}, dependency{"dn " + dn.Name, dn.Health})
	msg := &apiv1.VdMsg{VdId: vd.ID, GrpIdx: vd.GrpIdx, VdIdx: vd.Idx, Size: vd.Size, DnName: dn.Name, PdName: pd.Name,
		Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time, Role: roleOf(vd), Leaving: vd.Leaving || vd.Deleted}
	if vd.Role != vda.Member || vd.Copied() {
		msg.LackBytes = vd.Lack
	}
	mirrors, err := n.mirrors(vd.DAID)
	if err != nil {
		return nil, err
	}
	p := vda.ProgressOf([]vda.VD{*vd}, mirrors)
	msg.RebuildPercent, msg.RebuildBytesPerSec, msg.RebuildLeftSec = p.Percent(), p.Rate, p.Left()
	return msg, nil
}

// expMsgs are exporters with where to connect, in the order of the controllers.
// It asks as often for one as for a page of them.
func expMsgs(tx store.Reader, exps []vda.Exp) ([]*apiv1.ExpMsg, error) {
	ids := sortedIDs(exps, func(e vda.Exp) string { return e.ID })
	ways, err := tx.WaysOfExps(ids)
	if err != nil {
		return nil, err
	}
	das, err := tx.DANames(sortedIDs(exps, func(e vda.Exp) string { return e.DAID }))
	if err != nil {
		return nil, err
	}
	disks, err := healthOfDisks(tx, exps)
	if err != nil {
		return nil, err
	}
	byExp := map[string][]*apiv1.EsMsg{}
	for i := range ways {
		w := &ways[i]
		h := seen(w.Health, dependency{"controller", w.CntlrHealth}, dependency{"cn " + w.CNName, w.CNHealth}).because(disks[w.ExpID])
		byExp[w.ExpID] = append(byExp[w.ExpID], &apiv1.EsMsg{EsId: w.ESID, CntlrIdx: w.CntlrIdx, CnName: w.CNName,
			CnListenerConf: w.Listener.JSON(), Error: h.error, ErrorMsg: h.msg})
	}
	var msgs []*apiv1.ExpMsg
	for i := range exps {
		e := &exps[i]
		writable := false
		if e.SnapName != "" {
			snap, err := tx.SnapByName(e.DAID, e.SnapName)
			if vda.IgnoreNotFound(err) != nil {
				return nil, err
			}
			writable = err == nil && snap.Writable()
		}
		auth, rekey := keyLists(e)
		msgs = append(msgs, &apiv1.ExpMsg{ExpId: e.ID, ExpName: e.Name, ExpNqn: e.NQN, DaName: das[e.DAID], InitiatorNqn: e.InitiatorNQN,
			MoreInitiatorNqnList: e.MoreHosts, AuthInitiatorNqnList: auth, RekeyInitiatorNqnList: rekey,
			SnapName: e.SnapName, SnapWritable: writable, EsMsgList: byExp[e.ID]})
	}
	return msgs, describe(tx, msgs...)
}

// healthOfDisks is, for each of exporters whose array has vds in error, what is
// wrong with them.
func healthOfDisks(tx store.Reader, exps []vda.Exp) (map[string]vda.Health, error) {
	vds, err := tx.AilingVDs(sortedIDs(exps, func(e vda.Exp) string { return e.DAID }))
	if err != nil {
		return nil, err
	}
	byDA := map[string][]vda.VD{}
	// Whether a leg matters depends on the others of its column.
	legs, err := tx.LegsOf(sortedIDs(vds, func(v vda.VD) string { return v.DAID }))
	if err != nil {
		return nil, err
	}
	for i := range legs {
		byDA[legs[i].DAID] = append(byDA[legs[i].DAID], legs[i])
	}
	byExp := map[string]vda.Health{}
	for i := range exps {
		byExp[exps[i].ID] = array.HealthOfDisks(byDA[exps[i].DAID])
	}
	return byExp, nil
}

// expMsg is one of them.
func expMsg(tx store.Reader, exp *vda.Exp) (*apiv1.ExpMsg, error) {
	msgs, err := expMsgs(tx, []vda.Exp{*exp})
	if err != nil {
		return nil, err
	}
	return msgs[0], nil
}

func sortedIDs[T any](rows []T, id func(T) string) []string {
	set := map[string]bool{}
	for _, r := range rows {
		set[id(r)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// backendJSON is a cn's listener for other controllers, "" when it has none of its own.
func backendJSON(n *vda.Node) string {
	if n.Backend == (vda.Listener{}) {
		return ""
	}
	return n.Backend.JSON()
}
