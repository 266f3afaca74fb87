package array

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// SpaceReport is what the primary of a term says of how full an array is.
type SpaceReport struct {
	DAID  string
	Term  uint64
	Space vda.Space
}

// NoteSpace records reports, which are in the order of DAID, one per array. One of a
// former primary, or of an array that has gone, is void.
func NoteSpace(tx store.Tx, reports []SpaceReport) error {
	for _, r := range reports {
		da, err := tx.DA(r.DAID)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if da.Term != r.Term || da.Deleted || da.Space == r.Space {
			continue
		}
		if err := tx.SetDASpace(da.ID, r.Space); err != nil {
			return err
		}
	}
	return nil
}
