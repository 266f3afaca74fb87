package array

import (
	"cmp"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Left is a controller on a cn that is being drained, which is in the way of what the
// drain is for.
type Left struct {
	vda.Cntlr
	DAName string
	// Why it cannot go now, in words; "" when it is on its way.
	Why string
	// Replace: a controller on another cn may take its place now.
	Replace bool
}

// LeftOnCN are the controllers that a drain has not dealt with, by the names of their
// arrays. For vda.DrainPrimaries these are primaries, and secondaries whose array is not
// served well by its primary: hosts have no other path then.
func LeftOnCN(tx store.Reader, cnID string, drain vda.CNDrain) ([]Left, error) {
	here, err := tx.CntlrsOfCN(cnID)
	if err != nil || drain == vda.NoDrain {
		return nil, err
	}
	here = slices.DeleteFunc(here, func(c vda.Cntlr) bool { return c.Deleted })
	var das []string
	for i := range here {
		das = append(das, here[i].DAID)
	}
	slices.Sort(das)
	all, err := tx.CntlrsOfDAs(slices.Compact(das))
	if err != nil {
		return nil, err
	}
	byDA := map[string][]vda.Cntlr{}
	cns := map[string]*vda.CN{}
	for i := range all {
		if c := all[i]; !c.Deleted {
			byDA[c.DAID] = append(byDA[c.DAID], c)
			cns[c.CNID] = nil
		}
	}
	var ids []string
	for id := range cns {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	rows, err := tx.CNsByID(ids)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		cns[rows[i].ID] = &rows[i]
	}
	var left []Left
	for i := range here {
		da, err := tx.DA(here[i].DAID)
		if err != nil {
			return nil, err
		}
		l := Left{Cntlr: here[i], DAName: da.Name}
		if da.Deleted || !l.look(da, byDA[da.ID], cns, drain) {
			continue
		}
		if l.Primary && l.Replace { // the only one
			if l.Why, l.Replace, err = mayReplaceOnly(tx, da.ID, drain); err != nil {
				return nil, err
			}
		}
		left = append(left, l)
	}
	slices.SortFunc(left, func(a, b Left) int {
		return cmp.Or(cmp.Compare(a.DAName, b.DAName), cmp.Compare(a.ID, b.ID))
	})
	return left, nil
}

// look reports whether the controller is in the way, and fills why it stays. cns are those
// of the array's live controllers.
func (l *Left) look(da *vda.DA, live []vda.Cntlr, cns map[string]*vda.CN, drain vda.CNDrain) bool {
	if l.Primary {
		l.Why = stays(da, l.Cntlr, live, cns)
		l.Replace = len(live) == 1
		if l.Why == "" && da.Health.Error {
			l.Why = "the array is not well: " + da.Health.Msg
		}
		return true
	}
	at := slices.IndexFunc(live, func(c vda.Cntlr) bool { return c.Primary })
	switch {
	case at < 0 || !da.Moving.IsZero():
		return true // a failover is under way
	case cns[live[at].CNID] == nil:
		return true // it came after the cns were read
	}
	primary, cn := live[at], cns[live[at].CNID]
	switch {
	case cn.Health.Error:
		l.Why = "cn " + cn.Name + ", where its primary is, is not well: " + cn.Health.Msg
		return true
	case primary.Health.Error:
		l.Why = "its primary on cn " + cn.Name + " is not well: " + primary.Health.Msg
		return true
	}
	l.Replace = drain == vda.DrainCntlrs
	return l.Replace
}

// stays is why a primary does not move; "" when it can.
func stays(da *vda.DA, primary vda.Cntlr, live []vda.Cntlr, cns map[string]*vda.CN) string {
	if len(live) == 1 {
		return "the array has one controller only"
	}
	offline, ill := 0, ""
	for _, c := range live {
		cn := cns[c.CNID]
		switch {
		case c.ID == primary.ID || cn == nil:
		case cn.Health.Error:
			ill = "cn " + cn.Name + ", where its other controller is, is not well: " + cn.Health.Msg
		case !cn.Online:
			offline++
		case da.Reservations && !cn.Reserves:
			ill = "its reservations would not hold by cn " + cn.Name + ": " + cn.NotReserving()
		default:
			return ""
		}
	}
	if offline > 0 {
		return "the cns of its other controllers are offline, or being drained"
	}
	return ill
}

// mayReplaceOnly decides about the only controller of an array: hosts that are connected to
// it have no other path.
func mayReplaceOnly(tx store.Reader, daID string, drain vda.CNDrain) (why string, replace bool, err error) {
	why = "the array has one controller only"
	if drain != vda.DrainCntlrs {
		return why, false, nil
	}
	exps, err := tx.ExpsOfDA(daID)
	if err != nil {
		return "", false, err
	}
	if slices.ContainsFunc(exps, func(e vda.Exp) bool { return !e.Deleted }) {
		return why + ", and hosts reach it by that: delete its exps first", false, nil
	}
	return "", true, nil
}

// whyLeft says why a cn loses a controller.
func whyLeft(tx store.Reader, cnID string) string {
	cn, err := tx.Unlocked().CN(cnID)
	if err == nil && cn.Drain != vda.NoDrain {
		return "being drained"
	}
	return "gone"
}
