package syncer

import (
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// BuryVDs turns the vds of a deleted array into tombstones and returns the ids
// of their dns. It happens when the last controller is gone, so that the
// primary can still destroy the lvstore on them and detach; and at once for an
// array whose controllers can't be reached, so that a dead cn does not keep
// the space.
func BuryVDs(tx store.Tx, daID string) (dnIDs []string, err error) {
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return nil, err
	}
	byDN := map[string][]*vda.VD{}
	for i := range vds {
		if !vds[i].Deleted {
			byDN[vds[i].DNID] = append(byDN[vds[i].DNID], &vds[i])
		}
	}
	dnIDs = slices.Sorted(maps.Keys(byDN))
	for _, id := range dnIDs {
		version, err := tx.BumpNode(vda.DiskNode, id)
		if err != nil {
			return nil, err
		}
		for _, vd := range byDN[id] {
			vd.Deleted, vd.Version = true, version
			if err := tx.UpdateVD(vd); err != nil {
				return nil, err
			}
		}
	}
	return dnIDs, nil
}
