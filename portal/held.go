package portal

import (
	"cmp"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// maxHeld bounds the vds of a dn, and the controllers of a cn, that a reply shows.
const maxHeld = 5000

// showVDs shows the vds that are on a dn's pds, tombstones too. It asks as often for one as for
// all of them.
func showVDs(tx store.Reader, dn *vda.Node, pds []vda.PD, msgs []*apiv1.PdMsg) error {
	_, vds, err := tx.DNObjects(dn.ID, 0)
	if err != nil {
		return err
	}
	ids := sortedIDs(vds, func(v vda.VD) string { return v.DAID })
	rows, err := tx.DAs(ids)
	if err != nil {
		return err
	}
	das := map[string]*vda.DA{}
	for i := range rows {
		das[rows[i].ID] = &rows[i]
	}
	mirrors, err := tx.MirrorsOf(ids)
	if err != nil {
		return err
	}
	n, pdMsgs := newNames(tx), map[string]*apiv1.PdMsg{}
	n.dns[dn.ID] = dn
	for i := range pds {
		n.pds[pds[i].ID], pdMsgs[pds[i].ID] = &pds[i], msgs[i]
	}
	for _, id := range ids {
		n.mir[id] = &[]vda.Mirror{}
	}
	for i := range mirrors {
		of := n.mir[mirrors[i].DAID]
		*of = append(*of, mirrors[i])
	}
	name := func(v *vda.VD) string {
		if da := das[v.DAID]; da != nil {
			return da.Name
		}
		return ""
	}
	slices.SortFunc(vds, func(a, b vda.VD) int {
		return cmp.Or(cmp.Compare(name(&a), name(&b)), cmp.Compare(a.DAID, b.DAID), cmp.Compare(a.GrpIdx, b.GrpIdx),
			cmp.Compare(a.Idx, b.Idx), cmp.Compare(a.ID, b.ID))
	})
	for i := range vds[:min(len(vds), maxHeld)] {
		v := &vds[i]
		msg, err := vdMsg(n, v)
		if err != nil {
			return err
		}
		msg.DaName = name(v)
		if da := das[v.DAID]; da != nil && !da.Redundancy.Mirrored() && v.Role == vda.Member && !v.Deleted && !v.Leaving {
			msg.Role = "" // there is nothing to tell it from
		}
		if pd := pdMsgs[v.PDID]; pd != nil {
			pd.HeldVdMsgList = append(pd.HeldVdMsgList, msg)
		}
	}
	return nil
}

// showCntlrs shows the controllers on a cn, tombstones too, with their exporters. It asks as often
// for one as for all of them.
func showCntlrs(tx store.Reader, cn *vda.CN, msg *apiv1.CnMsg) error {
	here, err := tx.CNObjects(cn.ID, 0)
	if err != nil {
		return err
	}
	das, err := tx.DAsOnCN(cn.ID, 0)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for i := range das {
		names[das[i].ID] = das[i].Name
	}
	primaries, err := primariesOn(tx, cn.ID)
	if err != nil {
		return err
	}
	exps, err := tx.ExpsOnCN(cn.ID, 0)
	if err != nil {
		return err
	}
	states, err := tx.ESsOnCN(cn.ID, 0)
	if err != nil {
		return err
	}
	type way struct{ exp, cntlr string }
	ways, byDA := map[way]*vda.ES{}, map[string][]*vda.Exp{}
	for i := range states {
		ways[way{states[i].ExpID, states[i].CntlrID}] = &states[i]
	}
	for i := range exps {
		if !exps[i].Deleted {
			byDA[exps[i].DAID] = append(byDA[exps[i].DAID], &exps[i])
		}
	}
	slices.SortFunc(here, func(a, b vda.Cntlr) int {
		return cmp.Or(cmp.Compare(names[a.DAID], names[b.DAID]), cmp.Compare(a.DAID, b.DAID), cmp.Compare(a.Idx, b.Idx), cmp.Compare(a.ID, b.ID))
	})
	for i := range here[:min(len(here), maxHeld)] {
		c := &here[i]
		h := seen(c.Health, dependency{"cn " + cn.Name, cn.Health})
		held := &apiv1.HeldCntlrMsg{CntlrId: c.ID, DaName: names[c.DAID], CntlrIdx: c.Idx, Primary: c.Primary, PrimaryCn: primaries[c.DAID],
			Leaving: c.Deleted, Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time}
		for _, e := range byDA[c.DAID] {
			es := ways[way{e.ID, c.ID}]
			if es == nil {
				continue // it is not shown here yet, or not any more
			}
			h := seen(es.Health, dependency{"controller", c.Health}, dependency{"cn " + cn.Name, cn.Health})
			held.HeldExpMsgList = append(held.HeldExpMsgList, &apiv1.HeldExpMsg{ExpName: e.Name, SnapName: e.SnapName,
				InitiatorNqnList: append([]string{e.InitiatorNQN}, e.MoreHosts...), Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time})
		}
		msg.HeldCntlrMsgList = append(msg.HeldCntlrMsgList, held)
	}
	return nil
}

// primariesOn is where the primaries of the arrays are that have a controller on a cn: the names of
// cns, by array.
func primariesOn(tx store.Reader, cnID string) (map[string]string, error) {
	peers, err := tx.PeersOnCN(cnID, 0)
	if err != nil {
		return nil, err
	}
	peers = slices.DeleteFunc(peers, func(c vda.Cntlr) bool { return c.Deleted || !c.Primary })
	cns, err := tx.NodeNames(sortedIDs(peers, func(c vda.Cntlr) string { return c.CNID }))
	primaries := map[string]string{}
	for i := range peers {
		primaries[peers[i].DAID] = cns[peers[i].CNID]
	}
	return primaries, err
}
