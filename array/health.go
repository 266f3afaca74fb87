package array

import (
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// SameHealth reports whether a row that has one health need not be written to
// have another.
func SameHealth(is, h vda.Health) bool { return is.Error == h.Error && is.Msg == store.CleanMsg(h.Msg) }

// HealthOfDisks is what is wrong with the vds of an array, which are in the order
// of GrpIdx and Idx, and shows in all that stands on them. A leg of a mirror shows
// only when no member of its column is well; so all legs of a column are given, or
// none that is well.
func HealthOfDisks(vds []vda.VD) vda.Health {
	bad := ailingDisks(vds)
	h := first(ailments(bad, nil))
	for _, v := range bad {
		if since := v.Health.Since; h.Since.IsZero() || since.Before(h.Since) {
			h.Since = since
		}
	}
	return h
}

// healthOf is the health of an array with these parts.
func healthOf(vds []vda.VD, cntlrs []vda.Cntlr) vda.Health {
	return first(ailments(ailingDisks(vds), cntlrs))
}

// ailingDisks are the vds in error that the array cannot do without. Of a column
// that has a member that is well none is: what the array lacks then is told by its
// vda.RedundancyState.
func ailingDisks(vds []vda.VD) (bad []*vda.VD) {
	columns := vda.Columns(vds)
	for i := range columns {
		c := &columns[i]
		if c.Usable() {
			continue
		}
		for _, v := range c.Legs {
			if v.Health.Error && v.Role == vda.Member {
				bad = append(bad, v)
			}
		}
	}
	return bad
}

// first is a health that names the first of what is wrong.
func first(bad []string) vda.Health {
	if len(bad) == 0 {
		return vda.Health{}
	}
	h := vda.Health{Error: true, Msg: bad[0]}
	if more := len(bad) - 1; more > 0 {
		h.Msg += fmt.Sprintf(" (and %d more)", more)
	}
	return h
}

// ailments is what is wrong with these vds and with controllers, causes first: a
// controller cannot be well without its vds, nor a secondary without the primary.
func ailments(vds []*vda.VD, cntlrs []vda.Cntlr) []string {
	var bad []string
	for _, vd := range vds {
		bad = append(bad, fmt.Sprintf("vd %d of group %d: %s", vd.Idx, vd.GrpIdx, vd.Health.Msg))
	}
	for _, primary := range []bool{true, false} {
		for i := range cntlrs {
			if c := &cntlrs[i]; c.Health.Error && c.Primary == primary {
				bad = append(bad, fmt.Sprintf("controller %d: %s", c.Idx, c.Health.Msg))
			}
		}
	}
	return bad
}
