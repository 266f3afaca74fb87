package array

import (
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// DiskCandidates are the pds that may take vds, and why others may not.
func DiskCandidates(tx store.Reader) (pds []placement.PD, leftOut []string, err error) {
	pds, others, err := diskCandidates(tx)
	for _, l := range others {
		leftOut = append(leftOut, l.String())
	}
	return pds, leftOut, err
}

// leftOut is a pd that takes no vds.
type leftOut struct{ id, pd, dn, why string }

func (l leftOut) String() string { return fmt.Sprintf("%s of %s (%s)", l.pd, l.dn, l.why) }

// SomeDiskCandidates is DiskCandidates among n disks at random; all: the cluster has no
// others.
func SomeDiskCandidates(tx store.Reader, n int) (pds []placement.PD, leftOut []string, all bool, err error) {
	rows, err := tx.SomePDs(n)
	if err != nil {
		return nil, nil, false, err
	}
	var ids []string
	for i := range rows {
		ids = append(ids, rows[i].DNID)
	}
	slices.Sort(ids)
	dns, err := tx.DNsByID(slices.Compact(ids))
	if err != nil {
		return nil, nil, false, err
	}
	pds, others := fitDisks(dns, rows)
	for _, l := range others {
		leftOut = append(leftOut, l.String())
	}
	return pds, leftOut, len(rows) < n, nil
}

func diskCandidates(tx store.Reader) (pds []placement.PD, others []leftOut, err error) {
	dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return nil, nil, err
	}
	rows, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
	if err != nil {
		return nil, nil, err
	}
	pds, others = fitDisks(dns, rows)
	return pds, others, nil
}

func fitDisks(dns []vda.DN, rows []vda.PD) (pds []placement.PD, others []leftOut) {
	byID := make(map[string]*vda.DN, len(dns))
	for i := range dns {
		byID[dns[i].ID] = &dns[i]
	}
	for i := range rows {
		pd, dn := &rows[i], byID[rows[i].DNID]
		if dn == nil { // came after the dns were read
			continue
		}
		if why := unfit(pd.Online, pd.Health, dn.Online, dn.Health, pd.TotalClusters); why != "" {
			others = append(others, leftOut{pd.ID, pd.Name, dn.Name, why})
			continue
		}
		pds = append(pds, placement.PD{ID: pd.ID, Name: pd.Name, DNID: dn.ID, DNName: dn.Name, Location: dn.Location,
			ClusterSize: pd.ClusterSize, FreeClusters: pd.FreeClusters})
	}
	return pds, others
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

// NewLeg is a leg that is to replace another, and its place.
type NewLeg struct {
	DAID, InsteadOf string // id of the array, of the vd
	Moved           bool   // the other one goes because a user wants it elsewhere
	At              placement.VD
}

// PlaceLegs chooses places for legs of which DAID and InsteadOf are set, each as if those
// before it had theirs already. What is read does not grow with their number, but for rows. Of
// those without a place the error, by index, is ErrStale when the leg to be replaced is gone, and
// vda.ResourceExhausted when there is no room.
func PlaceLegs(tx store.Reader, wanted []NewLeg) (placed []NewLeg, errs []error, err error) {
	var ids []string
	for i := range wanted {
		ids = append(ids, wanted[i].DAID)
	}
	das, err := tx.DAs(ids)
	if err != nil {
		return nil, nil, err
	}
	all, err := legsIn(tx, das)
	if err != nil {
		return nil, nil, err
	}
	vds, err := tx.VDsOf(ids)
	if err != nil {
		return nil, nil, err
	}
	dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return nil, nil, err
	}
	rows, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
	if err != nil {
		return nil, nil, err
	}
	pds, others := fitDisks(dns, rows)
	var leftOut []string
	for _, l := range others {
		leftOut = append(leftOut, l.String())
	}
	of, locations := map[string][]vda.VD{}, map[string]string{}
	for i := range vds {
		of[vds[i].DAID] = append(of[vds[i].DAID], vds[i])
	}
	for i := range dns {
		locations[dns[i].ID] = dns[i].Location
	}
	placed, errs = slices.Clone(wanted), make([]error, len(wanted))
	for i := range placed {
		n, l := &placed[i], all[placed[i].DAID]
		if l == nil {
			errs[i] = ErrStale
			continue
		}
		column, old := l.find(n.InsteadOf)
		if old == nil || l.mirrorOf(column) == nil {
			errs[i] = ErrStale
			continue
		}
		var legs []placement.Leg
		for _, v := range of[n.DAID] { // tombstones too: their dns have not let go of them
			if v.GrpIdx == column.GrpIdx && v.Idx == column.Idx {
				legs = append(legs, placement.Leg{DNID: v.DNID, Location: locations[v.DNID], Leaving: v.ID == old.ID || v.Leaving || v.Deleted})
			}
		}
		if n.At, _, err = placement.AnotherLeg(pds, legs, l.mirrorOf(column).Size); err != nil {
			errs[i] = placement.Explain(err, leftOut)
			continue
		}
		at := slices.IndexFunc(pds, func(p placement.PD) bool { return p.ID == n.At.PDID })
		pds[at].FreeClusters -= n.At.Clusters
	}
	return placed, errs, nil
}
