package cli

import (
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// branch is an object with what it is made of.
type branch struct {
	text  string
	below []branch
}

// print prints it as a tree.
func (b *branch) print(w io.Writer) {
	fmt.Fprintln(w, b.text)
	b.twigs(w, "")
}

func (b *branch) twigs(w io.Writer, indent string) {
	for i := range b.below {
		joint, on := "├─ ", "│  "
		if i == len(b.below)-1 {
			joint, on = "└─ ", "   "
		}
		fmt.Fprintln(w, indent+joint+b.below[i].text)
		b.below[i].twigs(w, indent+on)
	}
}

// branchOf is a branch whose text is words that are not empty.
func branchOf(words ...string) branch {
	var some []string
	for _, word := range words {
		if word != "" {
			some = append(some, word)
		}
	}
	return branch{text: strings.Join(some, "  ")}
}

// ailing is what is wrong, for the end of a line.
func ailing(ill bool, msg, since string) string {
	if !ill {
		return ""
	}
	return "! " + oneLine(problem(ill, msg, since))
}

// rest says how many more of something there are than are shown.
func rest(all uint32, shown int, thing string) []branch {
	if int(all) <= shown {
		return nil
	}
	return []branch{branchOf("and " + count(all-uint32(shown), "more "+thing))}
}

// describeDn prints a disk node with its pds, and the vds that are on them.
func describeDn(w io.Writer, reply proto.Message) {
	m := reply.(*apiv1.GetDnReply).GetDnMsg()
	dn := branchOf("dn "+m.GetDnName(), either(m.GetDnAddr() != m.GetDnName(), m.GetDnAddr(), ""), nodeState(m.GetError(),
		m.GetOnline(), m.GetDrain()), m.GetLocation(), brief(m.GetDnListenerConf()), m.GetDataPlaneVersion(),
		ailing(m.GetError(), m.GetErrorMsg(), m.GetErrorTime()))
	for _, p := range m.GetPdMsgList() {
		pd := branchOf("pd "+p.PdName, nodeState(p.Error, p.Online, p.Drain), brief(p.PdConf),
			fmt.Sprintf("%s, %s free, %d vds", short(p.TotalSize), short(p.FreeSize), p.VdCnt), ailing(p.Error, p.ErrorMsg, p.ErrorTime))
		for _, v := range p.HeldVdMsgList {
			pd.below = append(pd.below, branchOf("vd "+v.VdId, "of da "+v.DaName, fmt.Sprintf("grp %d vd %d", v.GrpIdx, v.VdIdx),
				nodeState(v.Error, true, v.Leaving), short(v.Size), v.Role, lacking(v), ailing(v.Error, v.ErrorMsg, v.ErrorTime)))
		}
		pd.below = append(pd.below, rest(p.VdCnt, len(p.HeldVdMsgList), "vd")...)
		dn.below = append(dn.below, pd)
	}
	for _, v := range m.GetStuckVdMsgList() {
		dn.below = append(dn.below, branchOf("vd "+v.VdId, "of da "+v.DaName, "cannot leave pd "+v.PdName+": "+oneLine(v.Reason)))
	}
	dn.print(w)
}

// lacking is what a leg still needs to be a member, and how far it is.
func lacking(v *apiv1.VdMsg) string {
	if v.LackBytes == 0 {
		return ""
	}
	if v.RebuildPercent == 0 {
		return "lacks " + short(v.LackBytes)
	}
	return fmt.Sprintf("lacks %s, %d%% there", short(v.LackBytes), v.RebuildPercent)
}

// describeCn prints a controller node with its controllers, and the exporters that hosts reach
// through them.
func describeCn(w io.Writer, reply proto.Message) {
	m := reply.(*apiv1.GetCnReply).GetCnMsg()
	cn := branchOf("cn "+m.GetCnName(), either(m.GetCnAddr() != m.GetCnName(), m.GetCnAddr(), ""), nodeState(m.GetError(),
		m.GetOnline(), m.GetDrain()), m.GetLocation(), brief(m.GetCnListenerConf()), m.GetDataPlaneVersion(),
		ailing(m.GetError(), m.GetErrorMsg(), m.GetErrorTime()))
	for _, c := range m.GetHeldCntlrMsgList() {
		role, way := "primary", "optimized"
		if !c.Primary {
			role, way = "secondary, no primary", "no primary to go to"
			if c.PrimaryCn != "" {
				role, way = "secondary of "+c.PrimaryCn, "non-optimized, through "+c.PrimaryCn
			}
		}
		cntlr := branchOf(fmt.Sprint("cntlr ", c.CntlrIdx), "of da "+c.DaName, role, nodeState(c.Error, true, c.Leaving),
			ailing(c.Error, c.ErrorMsg, c.ErrorTime))
		for _, e := range c.HeldExpMsgList {
			cntlr.below = append(cntlr.below, branchOf("exp "+e.ExpName, either(e.SnapName != "", "of snap "+e.SnapName, ""),
				either(e.Error, "down", way), "for "+strings.Join(e.InitiatorNqnList, ", "), ailing(e.Error, e.ErrorMsg, e.ErrorTime)))
		}
		cn.below = append(cn.below, cntlr)
	}
	cn.below = append(cn.below, rest(m.GetCntlrCnt(), len(m.GetHeldCntlrMsgList()), "controller")...)
	for _, c := range m.GetStuckCntlrMsgList() {
		cn.below = append(cn.below, branchOf("cntlr of da "+c.DaName, "cannot leave: "+oneLine(c.Reason)))
	}
	cn.print(w)
}

// describeDa prints an array with the vds that it is on, its controllers, exporters and snapshots.
func describeDa(w io.Writer, reply proto.Message) {
	m := reply.(*apiv1.GetDaReply).GetDaMsg()
	da := branchOf("da "+m.GetDaName(), arrayState(m), short(m.GetDaSize()), m.GetRedundancy(), ailing(m.GetError(), m.GetErrorMsg(),
		m.GetErrorTime()))
	for _, g := range m.GetGrpMsgList() {
		grp := branchOf(fmt.Sprint("grp ", g.GrpIdx), short(g.Size), either(g.Joining, "joining", ""))
		for _, v := range g.VdMsgList {
			grp.below = append(grp.below, branchOf(fmt.Sprint("vd ", v.VdIdx), nodeState(v.Error, true, v.Leaving), v.DnName+"/"+v.PdName,
				short(v.Size), v.Role, lacking(v), ailing(v.Error, v.ErrorMsg, v.ErrorTime)))
		}
		da.below = append(da.below, grp)
	}
	for _, c := range m.GetCntlrMsgList() {
		da.below = append(da.below, branchOf(fmt.Sprint("cntlr ", c.CntlrIdx), either(c.Primary, "primary", "secondary"), c.CnName,
			nodeState(c.Error, true, false), ailing(c.Error, c.ErrorMsg, c.ErrorTime)))
	}
	for _, name := range m.GetExpNameList() {
		da.below = append(da.below, branchOf("exp "+name))
	}
	for _, name := range m.GetSnapNameList() {
		da.below = append(da.below, branchOf("snap "+name))
	}
	da.print(w)
}
