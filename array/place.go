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
	legs, err := legsOf(tx, l, column, old)
	if err != nil {
		return n, err
	}
	pds, leftOut, err := DiskCandidates(tx)
	if err != nil {
		return n, err
	}
	n.At, _, err = placement.AnotherLeg(pds, legs, l.mirrorOf(column).Size)
	return n, placement.Explain(err, leftOut)
}
