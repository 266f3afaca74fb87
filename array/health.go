package array

import (
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// SameHealth reports whether a row that has one health need not be written to
// have another.
func SameHealth(is, h vda.Health) bool { return is.Error == h.Error && is.Msg == store.CleanMsg(h.Msg) }

// HealthOfDisks is what is wrong with the vds of an array, which shows in all
// that stands on them.
func HealthOfDisks(vds []vda.VD) vda.Health {
	h := first(ailments(vds, nil))
	for i := range vds {
		if since := vds[i].Health.Since; vds[i].Health.Error && (h.Since.IsZero() || since.Before(h.Since)) {
			h.Since = since
		}
	}
	return h
}

// healthOf is the health of an array with these parts.
func healthOf(vds []vda.VD, cntlrs []vda.Cntlr) vda.Health { return first(ailments(vds, cntlrs)) }

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

// ailments is what is wrong with the parts of an array, causes first: a
// controller cannot be well without its vds, nor a secondary without the
// primary.
func ailments(vds []vda.VD, cntlrs []vda.Cntlr) []string {
	var bad []string
	for i := range vds {
		if vd := &vds[i]; vd.Health.Error {
			bad = append(bad, fmt.Sprintf("vd %d of group %d: %s", vd.Idx, vd.GrpIdx, vd.Health.Msg))
		}
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
