package portal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// ListAlert tells what is wrong now, the gravest first: from the rows of one moment, so
// that all portals say the same.
func (s *Server) ListAlert(ctx context.Context, _ *apiv1.ListAlertRequest) (*apiv1.ListAlertReply, error) {
	var v overview
	err := s.view(ctx, func(tx store.Reader) error {
		v = overview{}
		return v.read(tx)
	})
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListAlertReply{}
	for _, a := range v.alerts() {
		reply.AlertMsgList = append(reply.AlertMsgList, &apiv1.AlertMsg{Code: string(a.Code), Severity: string(a.Code.Severity()),
			Object: a.Object, Name: a.Name, Text: a.Text})
	}
	return reply, nil
}

// alerts are what is wrong, in the order of vda.AlertKinds, but for what an administrator
// does on purpose: nodes and disks that are taken offline or drained.
func (v *overview) alerts() []vda.Alert {
	of := map[vda.AlertCode][]vda.Alert{}
	say := func(code vda.AlertCode, object, name, format string, args ...any) {
		of[code] = append(of[code], vda.Alert{Code: code, Object: object, Name: name, Text: fmt.Sprintf(format, args...)})
	}
	for _, da := range v.das {
		switch code := (vda.Space{Total: da.UsedSize + da.FreeSize, Used: da.UsedSize}).Alert(da.Thin); code {
		case "":
		default:
			say(code, "da", da.DaName, "%d of %d bytes of its physical size are left", da.FreeSize, da.UsedSize+da.FreeSize)
		}
		switch state := stateOf(da); state {
		case "healthy", string(vda.Rebuilding):
		case "error":
			say(vda.AlertDAError, "da", da.DaName, "%s", da.ErrorMsg)
		default:
			say(vda.AlertDADegraded, "da", da.DaName, "it is %s: its redundancy is %s", state, da.Redundancy)
		}
	}
	planes := map[vda.NodeKind]map[string]int{vda.DiskNode: {}, vda.ControllerNode: {}}
	node := func(k vda.NodeKind, n *vda.Node) {
		if n.Health.Error && n.Online {
			say(vda.AlertNodeDown, string(k), n.Name, "%s", n.Health.Msg)
		}
		planes[k][n.DataPlaneVersion]++
	}
	dns := map[string]*vda.DN{}
	for i := range v.dns {
		dns[v.dns[i].ID] = &v.dns[i]
		node(vda.DiskNode, &v.dns[i].Node)
	}
	for i := range v.cns {
		node(vda.ControllerNode, &v.cns[i].Node)
	}
	var size, free uint64
	for i := range v.pds {
		pd := &v.pds[i]
		dn := dns[pd.DNID]
		if dn == nil {
			continue // being deleted
		}
		size += pd.TotalClusters * pd.ClusterSize
		free += pd.FreeClusters * pd.ClusterSize
		if pd.Health.Error && pd.Online && !pd.Drain && dn.Online && !dn.Drain && !dn.Health.Error {
			say(vda.AlertPDFaulty, "pd", dn.Name+"/"+pd.Name, "%s", pd.Health.Msg)
		}
	}
	if len(v.monitors) == 0 {
		say(vda.AlertNoMonitor, "", "", "no monitor runs: nobody notices when a node is down; start vda_monitor")
	}
	if size > 0 && float64(free)/float64(size) < vda.SpaceLow {
		say(vda.AlertSpaceLow, "", "", "%d of %d bytes are free", free, size)
	}
	for _, k := range []vda.NodeKind{vda.DiskNode, vda.ControllerNode} {
		delete(planes[k], "") // not known yet
		if versions := slices.Sorted(maps.Keys(planes[k])); len(versions) > 1 {
			say(vda.AlertVersions, "", "", "data planes of %ss have the versions %s", k, strings.Join(versions, ", "))
		}
	}
	var all []vda.Alert
	for _, k := range vda.AlertKinds {
		all = append(all, of[k.Code]...)
	}
	return all
}
