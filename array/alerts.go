package array

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// FindAlerts returns what is wrong, the gravest first, but for what an administrator does on
// purpose: nodes and disks that are taken offline or drained, and what arrays lack for that
// alone while hosts can use them. Since is zero where the rows do not say it. Monitors call
// it, one at a time, and keep what it says in the database.
func FindAlerts(tx store.Reader) ([]vda.Alert, error) {
	f := finder{tx: tx, dns: map[string]*vda.DN{}, cns: map[string]*vda.CN{}, pds: map[string]*vda.PD{}}
	for _, step := range []func() error{f.nodes, f.disks, f.arrays} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(f.all, func(a, b vda.Alert) int { return cmp.Compare(a.Code.Rank(), b.Code.Rank()) })
	return f.all, nil
}

type finder struct {
	tx  store.Reader
	dns map[string]*vda.DN
	cns map[string]*vda.CN
	pds map[string]*vda.PD
	all []vda.Alert
}

func (f *finder) say(code vda.AlertCode, object, name string, since time.Time, format string, args ...any) {
	f.all = append(f.all, vda.Alert{Code: code, Object: object, Name: name, Since: since, Text: fmt.Sprintf(format, args...)})
}

func (f *finder) nodes() error {
	dns, _, err := f.tx.ListDN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return err
	}
	cns, _, err := f.tx.ListCN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return err
	}
	planes := map[vda.NodeKind]map[string]bool{vda.DiskNode: {}, vda.ControllerNode: {}}
	look := func(k vda.NodeKind, n *vda.Node, purpose bool) {
		if n.Health.Error && !purpose {
			f.say(vda.AlertNodeDown, string(k), n.Name, n.Health.Since, "%s", n.Health.Msg)
		}
		if n.DataPlaneVersion != "" { // else not known yet
			planes[k][n.DataPlaneVersion] = true
		}
	}
	for i := range dns {
		f.dns[dns[i].ID] = &dns[i]
		look(vda.DiskNode, &dns[i].Node, f.leaves(&dns[i]))
	}
	for i := range cns {
		f.cns[cns[i].ID] = &cns[i]
		look(vda.ControllerNode, &cns[i].Node, !cns[i].Online)
	}
	for _, k := range []vda.NodeKind{vda.DiskNode, vda.ControllerNode} {
		if versions := slices.Sorted(maps.Keys(planes[k])); len(versions) > 1 {
			f.say(vda.AlertVersions, string(k), "", time.Time{}, "data planes of %ss have the versions %s", k, strings.Join(versions, ", "))
		}
	}
	return nil
}

// leaves reports that an administrator wants nothing of a dn.
func (f *finder) leaves(dn *vda.DN) bool { return dn == nil || !dn.Online || dn.Drain }

func (f *finder) disks() error {
	pds, _, err := f.tx.ListPD(store.PDFilter{}, store.Page{})
	if err != nil {
		return err
	}
	var size, free uint64
	for i := range pds {
		pd := &pds[i]
		f.pds[pd.ID] = pd
		dn := f.dns[pd.DNID]
		if dn == nil {
			continue // being deleted
		}
		size += pd.TotalClusters * pd.ClusterSize
		free += pd.FreeClusters * pd.ClusterSize
		if pd.Unflushed() {
			f.say(vda.AlertUnflushed, "pd", dn.Name+"/"+pd.Name, time.Time{}, "a power cut at the dn may lose writes that were flushed: the disk's "+
				"write cache is volatile, and the dn's data plane passes no flush on")
		}
		if pd.Health.Error && pd.Online && !pd.Drain && !f.leaves(dn) && !dn.Health.Error {
			f.say(vda.AlertPDFaulty, "pd", dn.Name+"/"+pd.Name, pd.Health.Since, "%s", pd.Health.Msg)
		}
	}
	if size > 0 && float64(free)/float64(size) < vda.SpaceLow {
		f.say(vda.AlertSpaceLow, "", "", time.Time{}, "%d of %d bytes are free", free, size)
	}
	return nil
}

func (f *finder) arrays() error {
	das, err := f.tx.SuspectDAs() // few of them, mostly
	if err != nil {
		return err
	}
	var mirrored []string
	for i := range das {
		if das[i].Redundancy.Mirrored() {
			mirrored = append(mirrored, das[i].ID)
		}
	}
	of := map[string][]vda.VD{}
	for ids := range slices.Chunk(mirrored, 1000) { // a statement has so many parameters at most
		legs, err := f.tx.LegsOf(ids)
		if err != nil {
			return err
		}
		for i := range legs {
			of[legs[i].DAID] = append(of[legs[i].DAID], legs[i])
		}
	}
	for i := range das {
		da := &das[i]
		if code := da.Space.Alert(da.Thin()); code != "" {
			f.say(code, "da", da.Name, time.Time{}, "%d of %d bytes of its physical size are left", da.Space.Free(), da.Space.Total)
		}
		if da.Health.Error {
			h, err := f.errorOf(da)
			if err != nil {
				return err
			}
			if h.Error {
				f.say(vda.AlertDAError, "da", da.Name, da.Health.Since, "%s", h.Msg)
			}
			continue
		}
		columns := vda.Columns(of[da.ID])
		state := da.Redundancy.StateOf(columns)
		if state == "" || state == vda.RedundancyFull || state != vda.RedundancyDown && f.wanted(columns) {
			continue
		}
		codes := []vda.AlertCode{vda.AlertDADegraded, vda.AlertDANotWhole}
		if state == vda.Rebuilding {
			codes = codes[1:]
		}
		for _, code := range codes {
			f.say(code, "da", da.Name, time.Time{}, "it is %s: its redundancy is %s", state, da.Redundancy)
		}
	}
	return nil
}

// errorOf is what is wrong with an array that is in error, without the paths of cns that
// were taken offline, if others are well.
func (f *finder) errorOf(da *vda.DA) (vda.Health, error) {
	cntlrs, err := f.tx.CntlrsOfDA(da.ID)
	if err != nil {
		return vda.Health{}, err
	}
	well, purpose := 0, 0
	for i := range cntlrs {
		c := &cntlrs[i]
		switch cn := f.cns[c.CNID]; {
		case c.Deleted:
		case !c.Health.Error:
			well++
		case cn != nil && !cn.Online && !c.Primary:
			purpose++
		default:
			return da.Health, nil
		}
	}
	vds, err := f.tx.VDsOfDA(da.ID)
	if err != nil {
		return vda.Health{}, err
	}
	grps, err := f.tx.GrpsOfDA(da.ID)
	if err != nil || well == 0 || purpose == 0 || len(ailingDisks(vda.Joined(vds, grps))) > 0 {
		return da.Health, err
	}
	return vda.Health{}, nil
}

// wanted reports that columns lack only legs on dns or pds that are offline or drained.
func (f *finder) wanted(columns []vda.Column) bool {
	lacks := false
	for i := range columns {
		for _, v := range columns[i].Legs {
			if v.Role == vda.Member && !v.Health.Error {
				continue
			}
			lacks = true
			pd, dn := f.pds[v.PDID], f.dns[v.DNID]
			if !f.leaves(dn) && (pd == nil || pd.Online && !pd.Drain) {
				return false
			}
		}
	}
	return lacks
}

// SettleAlerts makes the alerts that are raised these, and records what was raised and what
// has ended.
func SettleAlerts(tx store.Tx, found []vda.Alert) error {
	was, err := tx.Alerts()
	if err != nil {
		return err
	}
	event := func(kind vda.EventKind, a *vda.Alert) error {
		e := vda.Event{Kind: kind, Object: a.Object, Name: a.Name, Text: string(a.Code) + ": " + a.Text, Since: a.Since}
		if parent, name, ok := strings.Cut(a.Name, "/"); ok && a.Object == "pd" {
			e.Parent, e.Name = parent, name
		}
		if kind == vda.EventAlertRaised {
			e.Since = time.Time{} // it has not ended
		}
		return tx.Record(e)
	}
	now := map[string]bool{}
	for i := range found {
		a := &found[i]
		now[a.FullName()] = true
		raised, err := tx.UpsertAlert(*a)
		if err == nil && raised {
			err = event(vda.EventAlertRaised, a)
		}
		if err != nil {
			return err
		}
	}
	for i := range was {
		if now[was[i].FullName()] {
			continue
		}
		ended, err := tx.DeleteAlert(was[i])
		if err == nil && ended {
			err = event(vda.EventAlertCleared, &was[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}
