package array

import (
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// DiskCandidates are the pds that may take vds, and why others may not.
func DiskCandidates(tx store.Reader) (pds []placement.PD, leftOut []string, err error) {
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

// NewLeg is a leg that is to replace another, and its place.
type NewLeg struct {
	DAID, InsteadOf string // id of the array, of the vd
	At              placement.VD
}

// PlaceLeg chooses a place. It returns ErrStale when the leg to be replaced is
// gone, and vda.ResourceExhausted when there is no place.
func PlaceLeg(tx store.Reader, daID, insteadOf string) (n NewLeg, err error) {
	n = NewLeg{DAID: daID, InsteadOf: insteadOf}
	l, err := readLegs(tx, daID)
	if err != nil {
		return n, err
	}
	if l == nil {
		return n, ErrStale
	}
	column, old := l.find(insteadOf)
	if old == nil || l.mirrorOf(column) == nil {
		return n, ErrStale
	}
	var legs []placement.Leg
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return n, err
	}
	for i := range vds { // tombstones too: their dns have not let go of them
		v := &vds[i]
		if v.MirrorID != old.MirrorID {
			continue
		}
		dn, err := tx.DN(v.DNID)
		if err != nil {
			return n, err
		}
		legs = append(legs, placement.Leg{DNID: v.DNID, Location: dn.Location, Leaving: v.ID == old.ID || v.Leaving || v.Deleted})
	}
	pds, leftOut, err := DiskCandidates(tx)
	if err != nil {
		return n, err
	}
	n.At, _, err = placement.AnotherLeg(pds, legs, l.mirrorOf(column).Size)
	return n, placement.Explain(err, leftOut)
}
