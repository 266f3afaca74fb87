package portal

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// maxProblems bounds how many problems a status names; it counts them all.
const maxProblems = 100

// GetStatus tells whether the cluster is well, and how full it is: all of one moment
// of the database, and what monitors answer now. Agents are not asked: their versions are what they
// said last to a monitor.
func (s *Server) GetStatus(ctx context.Context, _ *apiv1.GetStatusRequest) (*apiv1.GetStatusReply, error) {
	var v overview
	if err := s.view(ctx, v.read); err != nil {
		return nil, err
	}
	return &apiv1.GetStatusReply{StatusMsg: v.status(s.versions(ctx, &v.census, false))}, nil
}

// overview is what a status is made of.
type overview struct {
	census
	pds  []vda.PD
	kept map[string]uint64 // bytes of arrays in the trash, by the id of the dn

	daCnt, daSize uint64   // of all arrays
	ailing        []ailing // those that are not healthy

	alerts []vda.Alert
	beat   time.Time // the last of a monitor
	// secured: calls in the clear are refused for good.
	secured bool
	exps    []*apiv1.ExpMsg // in error
}

// ailing is an array that is not healthy.
type ailing struct {
	name, state, text string
	size              uint64
}

// read asks as often, and for as much, however many arrays are well.
func (v *overview) read(tx store.Reader) error {
	if err := v.census.read(tx); err != nil {
		return err
	}
	var err error
	if v.pds, _, err = tx.ListPD(store.PDFilter{}, store.Page{}); err != nil {
		return err
	}
	if v.daCnt, v.daSize, err = tx.CountDAs(); err != nil {
		return err
	}
	if err = v.readAiling(tx); err != nil {
		return err
	}
	if v.kept, err = tx.TrashedSizes(); err != nil {
		return err
	}
	if v.alerts, err = raised(tx, time.Now()); err != nil {
		return err
	}
	if v.beat, err = tx.LastBeat(); err != nil {
		return err
	}
	security, err := tx.Security()
	if err != nil {
		return err
	}
	v.secured = security.Secured
	ill := true
	exps, _, err := tx.ListExp(store.ExpFilter{Error: &ill}, store.Page{Limit: maxLimit})
	if err != nil {
		return err
	}
	v.exps, err = expMsgs(tx, exps)
	return err
}

func (v *overview) readAiling(tx store.Reader) error {
	das, err := tx.SuspectDAs()
	if err != nil {
		return err
	}
	var mirrored []string // and not in error, which is worse than any state of legs
	for i := range das {
		if das[i].Redundancy.Mirrored() && !das[i].Health.Error {
			mirrored = append(mirrored, das[i].ID)
		}
	}
	legs := map[string][]vda.VD{}
	for ids := range slices.Chunk(mirrored, maxLimit) { // a question names so many arrays at most
		vds, err := tx.LegsOf(ids)
		if err != nil {
			return err
		}
		for i := range vds {
			legs[vds[i].DAID] = append(legs[vds[i].DAID], vds[i])
		}
	}
	for i := range das {
		da := &das[i]
		a := ailing{name: da.Name, size: da.Size, text: "da " + da.Name + ": " + da.Health.Msg}
		a.state = stateOf(da.Health.Error, da.Redundancy.StateOf(vda.Columns(legs[da.ID])))
		switch a.state {
		case healthy:
			continue
		case inError:
		default:
			a.text = fmt.Sprintf("da %s is %s: its redundancy is %s", da.Name, a.state, da.Redundancy)
		}
		v.ailing = append(v.ailing, a)
	}
	return nil
}

func (v *overview) status(versions []*apiv1.VersionMsg) *apiv1.StatusMsg {
	m := &apiv1.StatusMsg{NodeCountMsgList: v.nodes(versions), CapacityMsgList: v.capacity(), DaCountMsgList: v.arrays(),
		VersionCountMsgList: countVersions(versions), Plain: !v.secured}
	for i := range v.cns {
		cn := &v.cns[i]
		m.CnLoadMsgList = append(m.CnLoadMsgList, &apiv1.CnLoadMsg{CnName: cn.Name, PrimaryCnt: cn.PrimaryCount, CntlrCnt: cn.CntlrCount,
			Error: cn.Health.Error})
	}
	problems := v.problems(versions)
	m.AlertMsgList = alertMsgs(v.alerts)
	m.Well, m.ProblemCnt = len(problems)+len(v.alerts) == 0, uint32(len(problems))
	m.ProblemList = problems[:min(len(problems), maxProblems)]
	return m
}

// nodes counts them by kind, and the monitors.
func (v *overview) nodes(versions []*apiv1.VersionMsg) []*apiv1.NodeCountMsg {
	dn, cn := &apiv1.NodeCountMsg{Kind: string(vda.DiskNode)}, &apiv1.NodeCountMsg{Kind: string(vda.ControllerNode)}
	count := func(c *apiv1.NodeCountMsg, n *vda.Node) {
		c.Total++
		if !n.Health.Error {
			c.Up++
		}
		if !n.Online {
			c.Offline++
		}
	}
	for i := range v.dns {
		count(dn, &v.dns[i].Node)
		if v.dns[i].Drain {
			dn.Drain++
		}
	}
	for i := range v.cns {
		count(cn, &v.cns[i].Node)
		if v.cns[i].Drain != vda.NoDrain {
			cn.Drain++
		}
	}
	monitor := &apiv1.NodeCountMsg{Kind: compMonitor, Total: uint32(len(v.monitors))}
	monitor.Up = monitor.Total - uint32(len(silent(versions)))
	return []*apiv1.NodeCountMsg{dn, cn, monitor}
}

// silent are the monitors that do not answer. One that is too old to tell its version
// has answered.
func silent(versions []*apiv1.VersionMsg) []*apiv1.VersionMsg {
	return slices.DeleteFunc(slices.Clone(versions), func(m *apiv1.VersionMsg) bool {
		return m.Component != compMonitor || m.Version != "" || m.Problem == tooOld
	})
}

// capacity is that of each location.
func (v *overview) capacity() []*apiv1.CapacityMsg {
	at := map[string]*apiv1.CapacityMsg{}
	of := func(n *vda.Node) *apiv1.CapacityMsg {
		location := cmp.Or(n.Location, n.Name)
		if at[location] == nil {
			at[location] = &apiv1.CapacityMsg{Location: location}
		}
		return at[location]
	}
	dns := map[string]*vda.DN{}
	for i := range v.dns {
		dns[v.dns[i].ID] = &v.dns[i]
		of(&v.dns[i].Node).DnCnt++
	}
	for i := range v.cns {
		of(&v.cns[i].Node).CnCnt++
	}
	for i := range v.pds {
		pd := &v.pds[i]
		dn := dns[pd.DNID]
		if dn == nil {
			continue // being deleted
		}
		c := of(&dn.Node)
		c.PdCnt++
		c.TotalSize += pd.TotalClusters * pd.ClusterSize
		c.FreeSize += pd.FreeClusters * pd.ClusterSize
		if pd.Online && dn.Online && !pd.Drain && !dn.Drain && !pd.Health.Error && !dn.Health.Error {
			c.UsableSize += pd.FreeClusters * pd.ClusterSize
		}
	}
	for id, size := range v.kept {
		if dn := dns[id]; dn != nil {
			of(&dn.Node).ReclaimableSize += size
		}
	}
	var all []*apiv1.CapacityMsg
	for _, location := range slices.Sorted(maps.Keys(at)) {
		all = append(all, at[location])
	}
	return all
}

// States of arrays, as users see them, besides those of their redundancy.
const (
	healthy = "healthy"
	inError = "error"
)

// stateOf is how an array is, in a word.
func stateOf(ill bool, r vda.RedundancyState) string {
	switch {
	case ill:
		return inError
	case r != "" && r != vda.RedundancyFull:
		return string(r)
	}
	return healthy
}

// arrays counts them by state.
func (v *overview) arrays() []*apiv1.DaCountMsg {
	counts := map[string]*apiv1.DaCountMsg{}
	if well := v.daCnt - uint64(len(v.ailing)); well > 0 {
		counts[healthy] = &apiv1.DaCountMsg{State: healthy, DaCnt: uint32(well), DaSize: v.daSize}
		for i := range v.ailing {
			counts[healthy].DaSize -= v.ailing[i].size
		}
	}
	for _, a := range v.ailing {
		if counts[a.state] == nil {
			counts[a.state] = &apiv1.DaCountMsg{State: a.state}
		}
		counts[a.state].DaCnt++
		counts[a.state].DaSize += a.size
	}
	var all []*apiv1.DaCountMsg
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, counts[state])
	}
	return all
}

// problems are one sentence each: arrays first, which is what hosts feel.
func (v *overview) problems(versions []*apiv1.VersionMsg) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, a := range v.ailing {
		all = append(all, a.text)
	}
	down := map[string]bool{}
	for i := range v.cns {
		down[v.cns[i].Name] = v.cns[i].Health.Error
	}
	for _, e := range v.exps {
		for _, es := range e.EsMsgList {
			if es.Error && !down[es.CnName] { // a cn that is down is a problem itself
				say("exp %s of da %s on cn %s: %s", e.ExpName, e.DaName, es.CnName, es.ErrorMsg)
			}
		}
	}
	names := map[string]string{}
	for i := range v.cns {
		if h := v.cns[i].Health; h.Error {
			say("cn %s: %s", v.cns[i].Name, h.Msg)
		}
	}
	for i := range v.dns {
		names[v.dns[i].ID] = v.dns[i].Name
		if h := v.dns[i].Health; h.Error {
			say("dn %s: %s", v.dns[i].Name, h.Msg)
		}
	}
	for i := range v.pds {
		if h := v.pds[i].Health; h.Error {
			say("pd %s of dn %s: %s", v.pds[i].Name, names[v.pds[i].DNID], h.Msg)
		}
	}
	if len(v.monitors) == 0 {
		say("no monitor has ever run: nobody notices when a node is down; start vda_monitor")
	}
	for _, m := range silent(versions) {
		say("monitor %s: %s", m.Name, m.Problem)
	}
	return all
}
