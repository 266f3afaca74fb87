package portal

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
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
	pds, leftOut, err := array.DiskCandidates(tx)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	vds, w, err := placement.VDs(pds, int(da.StripeCount), vdBytes, strict)
	if err != nil {
		return nil, placement.Explain(err, leftOut)
	}
	p.columns = placement.Columns(vdBytes, vds)
	p.warnings = append(p.warnings, w...)
	cns, leftOut, err := nodeCandidates(tx)
	if err != nil {
		return nil, err
	}
	if p.cntlrs, w, err = placement.Cntlrs(cns, int(da.CntlrCnt), strict); err != nil {
		return nil, placement.Explain(err, leftOut)
	}
	p.warnings = append(p.warnings, w...)
	return p, nil
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
