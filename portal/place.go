package portal

import (
	"fmt"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// plan is where the pieces of a new array go.
type plan struct {
	columns  []placement.Column
	cntlrs   []placement.Cntlr
	warnings []string
}

// placeDA chooses places from the cluster as it is now. What it reads grows
// with the nodes and disks, not with the arrays.
func placeDA(tx store.Reader, da *vda.DA, vdBytes uint64, strict placement.Strictness) (*plan, error) {
	pds, leftOut, err := diskCandidates(tx)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	vds, w, err := placement.VDs(pds, int(da.StripeCount), vdBytes, strict)
	if err != nil {
		return nil, explain(err, leftOut)
	}
	p.columns = placement.Columns(vdBytes, vds)
	p.warnings = append(p.warnings, w...)
	cns, leftOut, err := nodeCandidates(tx)
	if err != nil {
		return nil, err
	}
	if p.cntlrs, w, err = placement.Cntlrs(cns, int(da.CntlrCnt), strict); err != nil {
		return nil, explain(err, leftOut)
	}
	p.warnings = append(p.warnings, w...)
	return p, nil
}

// diskCandidates are the pds that may take vds, and why others may not.
func diskCandidates(tx store.Reader) (pds []placement.PD, leftOut []string, err error) {
	dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return nil, nil, err
	}
	byID := make(map[string]*vda.DN, len(dns))
	for i := range dns {
		byID[dns[i].ID] = &dns[i]
	}
	rows, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
	if err != nil {
		return nil, nil, err
	}
	for i := range rows {
		pd, dn := &rows[i], byID[rows[i].DNID]
		if dn == nil { // came after the dns were read
			continue
		}
		if why := unfit(pd.Online, pd.Health, dn.Online, dn.Health, pd.TotalClusters); why != "" {
			leftOut = append(leftOut, fmt.Sprintf("%s of %s (%s)", pd.Name, dn.Name, why))
			continue
		}
		pds = append(pds, placement.PD{ID: pd.ID, Name: pd.Name, DNID: dn.ID, DNName: dn.Name, Location: dn.Location,
			ClusterSize: pd.ClusterSize, FreeClusters: pd.FreeClusters})
	}
	return pds, leftOut, nil
}

// unfit is why a pd may take no vds, "" when it may.
func unfit(online bool, h vda.Health, nodeOnline bool, nodeHealth vda.Health, clusters uint64) string {
	switch {
	case !nodeOnline:
		return "its dn is offline"
	case nodeHealth.Error:
		return "its dn is in error"
	case !online:
		return "offline"
	case h.Error:
		return "in error"
	case clusters == 0:
		return "not formatted yet"
	}
	return ""
}

// nodeCandidates are the cns that may take controllers, and why others may not.
func nodeCandidates(tx store.Reader) (cns []placement.CN, leftOut []string, err error) {
	rows, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return nil, nil, err
	}
	for i := range rows {
		cn := &rows[i]
		switch {
		case !cn.Online:
			leftOut = append(leftOut, cn.Name+" (offline)")
		case cn.Health.Error:
			leftOut = append(leftOut, cn.Name+" (in error)")
		default:
			cns = append(cns, placement.CN{ID: cn.ID, Name: cn.Name, Location: cn.Location, Cntlrs: cn.CntlrCount, Primaries: cn.PrimaryCount})
		}
	}
	return cns, leftOut, nil
}

// explain adds what was not considered to a refusal for want of room.
func explain(err error, leftOut []string) error {
	if len(leftOut) == 0 || !isKind(err, vda.ResourceExhausted) {
		return err
	}
	const most = 5
	more := ""
	if len(leftOut) > most {
		more = fmt.Sprintf(" and %d more", len(leftOut)-most)
		leftOut = leftOut[:most]
	}
	return vda.Errorf(vda.ResourceExhausted, "%v; left out: %s%s", err, strings.Join(leftOut, ", "), more)
}
