package portal

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// Orphans asks the agents of nodes for what they keep of the cluster's and
// their desired set does not name.
type Orphans interface {
	Orphans(ctx context.Context, n array.Node) (*apiv1.OrphansReply, error)
	// DropOrphans deletes them on their node. The error is also that the node
	// could not.
	DropOrphans(ctx context.Context, n syncer.OrphansOf) error
}

// orphans are all of a cluster's.
type orphans struct {
	dns   map[string]*apiv1.OrphansReply // by the dn's id
	cns   map[string]*apiv1.OrphansReply
	names map[string]string // of nodes, by id
	mute  []string          // nodes that could not be asked, and why
	grps  []*lostGrp        // of arrays that the database knows, in the order to adopt them in
}

// findOrphansTime bounds the question to one node.
const findOrphansTime = 5 * time.Second

// findOrphans asks all nodes at once.
func (s *Server) findOrphans(ctx context.Context) (*orphans, error) {
	o := &orphans{dns: map[string]*apiv1.OrphansReply{}, cns: map[string]*apiv1.OrphansReply{}, names: map[string]string{}}
	var dns []vda.DN
	var cns []vda.CN
	err := s.view(ctx, func(tx store.Reader) (err error) {
		if dns, _, err = tx.ListDN(store.NodeFilter{}, store.Page{}); err != nil {
			return err
		}
		cns, _, err = tx.ListCN(store.NodeFilter{}, store.Page{})
		return err
	})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	limit := make(chan struct{}, 32)
	ask := func(n array.Node, name string, into map[string]*apiv1.OrphansReply) {
		o.names[n.ID] = name
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			ctx, cancel := context.WithTimeout(ctx, findOrphansTime)
			defer cancel()
			r, err := s.cfg.Orphans.Orphans(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				o.mute = append(o.mute, fmt.Sprintf("%s could not be asked (%s)", n.Kind.Title(name), because(err)))
				return
			}
			into[n.ID] = r
		})
	}
	for i := range dns {
		ask(array.DN(dns[i].ID), dns[i].Name, o.dns)
	}
	for i := range cns {
		ask(array.CN(cns[i].ID), cns[i].Name, o.cns)
	}
	wg.Wait()
	slices.Sort(o.mute)
	err = s.view(ctx, func(tx store.Reader) (err error) {
		o.grps, err = o.lostGrps(tx)
		return err
	})
	return o, err
}

// orphanVd is a vd and where it is.
type orphanVd struct {
	*apiv1.VdSpec
	dnID string
}

func (o *orphans) vds() map[string]orphanVd {
	all := map[string]orphanVd{}
	for dnID, r := range o.dns {
		for _, v := range r.Vds {
			all[v.Id] = orphanVd{v, dnID}
		}
	}
	return all
}

// das are the controllers of each array that no cn is told of any more, as they
// were last, by cn.
func (o *orphans) das() map[string]map[string]*apiv1.CntlrSpec {
	all := map[string]map[string]*apiv1.CntlrSpec{}
	for cnID, r := range o.cns {
		for _, c := range r.Cntlrs {
			if all[c.DaId] == nil {
				all[c.DaId] = map[string]*apiv1.CntlrSpec{}
			}
			if old := all[c.DaId][cnID]; old == nil || old.Term < c.Term {
				all[c.DaId][cnID] = c
			}
		}
	}
	return all
}

// primary is the one of an array's controllers that was primary last.
func primary(cntlrs map[string]*apiv1.CntlrSpec) (p *apiv1.CntlrSpec) {
	for _, c := range cntlrs {
		if c.Primary && (p == nil || p.Term < c.Term) {
			p = c
		}
	}
	return p
}

// list makes messages, in the order of kinds and ids.
func (o *orphans) list() []*apiv1.OrphanMsg {
	var all []*apiv1.OrphanMsg
	for dnID, r := range o.dns {
		for _, p := range r.Pds {
			all = append(all, &apiv1.OrphanMsg{OrphanId: p.Id, Kind: "pd", Name: p.Name, Conf: p.ConfJson, NodeNameList: []string{o.names[dnID]}})
		}
	}
	vds := o.vds()
	for id, v := range vds {
		m := &apiv1.OrphanMsg{OrphanId: id, Kind: "vd", DaId: v.DaId, PdId: v.PdId, Size: v.Size, NodeNameList: []string{o.names[v.dnID]},
			Problem: "a vd is adopted with its da"}
		if v.DaId == "" {
			m.Problem = "no node remembers its da; it can only be deleted"
		}
		if g := o.grpOf(id); g != nil {
			m.Problem = fmt.Sprintf("a vd is adopted with its group, %s of da %s, which cannot do without it", g.grp.Id, g.da.Name)
		}
		all = append(all, m)
	}
	for _, g := range o.grps {
		m := &apiv1.OrphanMsg{OrphanId: g.grp.Id, Kind: "grp", Name: g.da.Name, DaId: g.da.ID, NodeNameList: []string{o.names[g.cnID]}}
		if a, err := o.planGrp(g, vds); err != nil {
			m.Problem = reason.Of(err)
		} else {
			m.Size = a.Grps[0].Size
		}
		all = append(all, m)
	}
	for id, cntlrs := range o.das() {
		m := &apiv1.OrphanMsg{OrphanId: id, Kind: "da"}
		for _, cnID := range slices.Sorted(maps.Keys(cntlrs)) {
			m.NodeNameList = append(m.NodeNameList, o.names[cnID])
			m.Name, m.Size = cntlrs[cnID].DaName, cntlrs[cnID].Size
		}
		if _, err := o.plan(id, cntlrs, vds); err != nil {
			m.Problem = reason.Of(err)
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *apiv1.OrphanMsg) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.OrphanId, b.OrphanId))
	})
	return all
}

// find returns the orphan of an id.
func (o *orphans) find(id string) (*apiv1.OrphanMsg, error) {
	for _, m := range o.list() {
		if m.OrphanId == id {
			return m, nil
		}
	}
	why := ""
	if len(o.mute) > 0 {
		why = "; " + o.mute[0]
	}
	return nil, vda.Errorf(vda.NotFound, "there is no orphan %q%s", vda.Shorten(id, 80), why)
}

// ListOrphan lists what nodes have and the database does not know.
func (s *Server) ListOrphan(ctx context.Context, _ *apiv1.ListOrphanRequest) (*apiv1.ListOrphanReply, error) {
	o, err := s.findOrphans(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.ListOrphanReply{OrphanMsgList: o.list(), WarningList: o.mute}, nil
}

// DeleteOrphan deletes an orphan and what it has on media: a vd, a pd's stamp
// with all vds on it, or an array with its vds.
func (s *Server) DeleteOrphan(ctx context.Context, req *apiv1.DeleteOrphanRequest) (*apiv1.DeleteOrphanReply, error) {
	o, err := s.findOrphans(ctx)
	if err != nil {
		return nil, err
	}
	m, err := o.find(req.OrphanId)
	if err != nil {
		return nil, err
	}
	doomed := o.doomed(m)
	if pd := o.detached(m, doomed); pd != "" {
		return nil, vda.Errorf(vda.FailedPrecondition, "%s %s is on the pd %s, which is an orphan too and detached; adopt or delete that first",
			m.Kind, m.OrphanId, pd)
	}
	var notes []string
	for _, n := range doomed {
		if err := s.cfg.Orphans.DropOrphans(ctx, n); err != nil {
			notes = append(notes, fmt.Sprintf("%s could not delete its part (%s); delete the orphan again", o.names[n.Node.ID], because(err)))
		}
	}
	if notes != nil {
		return nil, refuse(codePrecondition, vda.FailedPrecondition, "%s %s is not all deleted: %s", m.Kind, m.OrphanId, reason.Words(notes[0]))
	}
	return &apiv1.DeleteOrphanReply{OrphanMsg: m}, nil
}

// detached is an orphaned pd that vds to be deleted are on, while it stays: its
// node could not reach them.
func (o *orphans) detached(m *apiv1.OrphanMsg, doomed []syncer.OrphansOf) string {
	if m.Kind == "pd" {
		return ""
	}
	for _, n := range doomed {
		for _, v := range n.Vds {
			if slices.ContainsFunc(o.dns[n.Node.ID].Pds, func(p *apiv1.PdSpec) bool { return p.Id == v.PdId }) {
				return v.PdId
			}
		}
	}
	return ""
}

// doomed are the parts of an orphan, by node: controllers first, which write to
// the vds.
func (o *orphans) doomed(m *apiv1.OrphanMsg) []syncer.OrphansOf {
	var all []syncer.OrphansOf
	for cnID, c := range o.das()[m.OrphanId] {
		all = append(all, syncer.OrphansOf{Node: array.CN(cnID), Cntlrs: []*apiv1.CntlrSpec{c}})
	}
	for dnID, r := range o.dns {
		n := syncer.OrphansOf{Node: array.DN(dnID)}
		for _, p := range r.Pds {
			if p.Id == m.OrphanId {
				n.Pds = append(n.Pds, p)
			}
		}
		for _, v := range r.Vds {
			if v.Id == m.OrphanId || v.DaId == m.OrphanId && m.Kind == "da" || v.PdId == m.OrphanId && m.Kind == "pd" {
				n.Vds = append(n.Vds, v)
			}
		}
		if n.Pds != nil || n.Vds != nil {
			all = append(all, n)
		}
	}
	return all
}
