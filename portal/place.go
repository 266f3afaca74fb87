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

// some is among how many disks, and cns, places are looked for at first.
const some = 64

// placeDA chooses places from the cluster as it is now, among some disks and cns: what
// that costs does not grow with the cluster. When these are not all that there are, and
// what they have room for is not perfect, it looks at all. unheard: there may be a place,
// and it will be known when monitors have asked the cns.
func placeDA(tx store.Reader, da *vda.DA, vdBytes uint64, strict placement.Strictness) (p *plan, unheard bool, err error) {
	pds, leftOut, allPDs, err := array.SomeDiskCandidates(tx, some)
	if err != nil {
		return nil, false, err
	}
	cns, err := tx.SomeCNs(some)
	if err != nil {
		return nil, false, err
	}
	p, unheard, err = placeAmong(da, pds, leftOut, cns, vdBytes, strict)
	if allPDs && len(cns) < some || err == nil && len(p.warnings) == 0 {
		return p, unheard, err
	}
	if pds, leftOut, err = array.DiskCandidates(tx); err != nil {
		return nil, false, err
	}
	if cns, _, err = tx.ListCN(store.NodeFilter{}, store.Page{}); err != nil {
		return nil, false, err
	}
	return placeAmong(da, pds, leftOut, cns, vdBytes, strict)
}

// placeAmong is placeDA among these. Pure.
func placeAmong(da *vda.DA, pds []placement.PD, leftOut []string, rows []vda.CN, vdBytes uint64,
	strict placement.Strictness) (p *plan, unheard bool, err error) {
	p = &plan{}
	var w []string
	if da.Redundancy.Mirrored() {
		p.columns, w, err = placement.Mirrors(pds, int(da.StripeCount), int(da.Redundancy), vdBytes, strict)
	} else {
		var vds []placement.VD
		vds, w, err = placement.VDs(pds, int(da.StripeCount), vdBytes, strict)
		p.columns = placement.Columns(vdBytes, vds)
	}
	if err != nil {
		return nil, false, placement.Explain(err, leftOut)
	}
	p.warnings = append(p.warnings, w...)
	cns, leftOut, unheard := nodeCandidates(rows, da)
	if p.cntlrs, w, err = placement.Cntlrs(cns, int(da.CntlrCnt), strict); err != nil {
		if da.NeedsVDATgt() && !da.Redundancy.Mirrored() {
			what := "a clone have to be on cns that run vda_tgt until all is copied"
			if da.AutoGrow.Limit > 0 {
				what = "an array with auto_grow have to be on cns that run vda_tgt, as SPDK cannot add disks to an array in use"
			}
			err = vda.Errorf(vda.KindOf(err), "controllers of %s: %w", what, err)
		} else if da.Redundancy.Mirrored() {
			err = vda.Errorf(vda.KindOf(err), "controllers of an array with redundancy %s have to be on cns whose data plane can mirror, as "+
				"vda_tgt can: %w", da.Redundancy, err)
		}
		if da.Reservations {
			err = vda.Errorf(vda.KindOf(err), "controllers of an array with reservations have to be on cns by which these hold: %w", err)
		}
		return nil, unheard, placement.Explain(err, leftOut)
	}
	p.warnings = append(p.warnings, w...)
	return p, false, nil
}

// nodeCandidates are the cns that may take controllers of an array, and why others
// may not. unheard: one of them may be fit for it, and no monitor has asked it yet.
func nodeCandidates(rows []vda.CN, da *vda.DA) (cns []placement.CN, leftOut []string, unheard bool) {
	for i := range rows {
		cn := &rows[i]
		switch {
		case !cn.Online:
			leftOut = append(leftOut, cn.Name+" (offline)")
		case cn.Health.Error:
			leftOut = append(leftOut, cn.Name+" (in error)")
		case da.NeedsVDATgt() && !cn.Mirrors && cn.DataPlaneVersion == "":
			leftOut = append(leftOut, cn.Name+" (vda_monitor has not heard yet whether its data plane can mirror)")
			unheard = true
		case da.NeedsVDATgt() && !cn.Mirrors && !da.Redundancy.Mirrored():
			leftOut = append(leftOut, cn.Name+" (its data plane is "+cn.DataPlaneVersion+")")
		case da.Reservations && !cn.Reserves:
			leftOut = append(leftOut, cn.Name+" ("+cn.NotReserving()+")")
			unheard = unheard || cn.DataPlaneVersion == ""
		case da.Redundancy.Mirrored() && !cn.Mirrors:
			leftOut = append(leftOut, cn.Name+" (its data plane, "+cn.DataPlaneVersion+", cannot mirror)")
		default:
			cns = append(cns, placement.CN{ID: cn.ID, Name: cn.Name, Location: cn.Location, Cntlrs: cn.CntlrCount, Primaries: cn.PrimaryCount})
		}
	}
	return cns, leftOut, unheard
}
