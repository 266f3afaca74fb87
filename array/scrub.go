package array

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// A scrub is not desired state: the primary's data plane does it when it is asked, and
// it ends with the primary. What stands in the rows of mirrors is what was ordered and
// what has been said of it since.

// Scrub is an order for the primary of an array.
type Scrub struct {
	ID   string // what the primary says of it is known by this
	DAID string
	Term uint64
	At   Node   // where the primary is
	From string // a vd: its mirror alone, and the other legs are repaired from it
}

// BeginScrub notes that the mirrors of an array are being scrubbed, or that of one vd,
// when from is not "". What an earlier scrub found stays until this one has ended.
func BeginScrub(tx store.Tx, da *vda.DA, from string) (s Scrub, err error) {
	no := func(format string, args ...any) error {
		return &vda.Error{Kind: vda.FailedPrecondition, Object: "da " + da.Name, Msg: fmt.Sprintf(format, args...)}
	}
	l, err := readLegs(tx, da.ID)
	if err != nil {
		return s, err
	}
	if l == nil || !da.Created {
		return s, no("has never been up")
	}
	if !da.Redundancy.Mirrored() {
		return s, no("has redundancy none: there is nothing to compare its vds with")
	}
	only := ""
	if from != "" {
		c, v := l.find(from)
		switch {
		case v == nil:
			return s, vda.Errorf(vda.NotFound, "da %s has no vd %q; da get shows the ids of its vds", da.Name, vda.Shorten(from, 80))
		case v.Role != vda.Member:
			return s, no("vd %s is %s: only a member has all data to repair from", from, v.Role)
		}
		only = l.mirrorOf(c).ID
	}
	s = Scrub{ID: store.NewID(), DAID: da.ID, Term: da.Term, From: from}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return s, err
	}
	at := slices.IndexFunc(cntlrs, func(v vda.Cntlr) bool { return v.Primary && !v.Deleted })
	if at < 0 {
		return s, no("has no primary")
	}
	s.At = CN(cntlrs[at].CNID)
	for id, m := range l.mirrors {
		if only != "" && only != id {
			continue
		}
		m.Scrub.ID, m.Scrub.Term, m.Scrub.State, m.Scrub.Done = s.ID, da.Term, vda.ScrubRunning, 0
		if err := tx.SetMirrorScrub(id, m.Scrub); err != nil {
			return s, err
		}
	}
	return s, nil
}

// NoteScrub records what a primary says of scrubs. What it says of one that was not
// ordered last is void.
func NoteScrub(tx store.Tx, r *LegsReport) error {
	l, err := beginLegs(tx, r.DAID)
	if err != nil || l == nil || l.da.Term != r.Term {
		return err
	}
	ended, stopped := false, vda.ScrubState("")
	for i := range r.Mirrors {
		m, said := l.mirrors[r.Mirrors[i].ID], r.Mirrors[i].Scrub
		if m == nil || said.State == "" || said.ID != m.Scrub.ID || m.Scrub.Term != r.Term {
			continue
		}
		said.Term = r.Term
		if said.State != vda.ScrubDone && said.Unequal() <= m.Scrub.Unequal() { // it may not have come to where they differ
			said.Mismatches, said.Repaired, said.First = m.Scrub.Mismatches, m.Scrub.Repaired, m.Scrub.First
		}
		if said == m.Scrub {
			continue
		}
		ended = ended || said.Unequal() != m.Scrub.Unequal()
		if m.Scrub.State == vda.ScrubRunning && said.State != vda.ScrubRunning && stopped != vda.ScrubStopped {
			stopped = said.State
		}
		if n := said.Unequal(); n > m.Scrub.Unequal() {
			err := tx.Record(daEvent(l.da, vda.EventScrubDiffers, "column %d of group %d: legs differ in %d blocks of 4096 bytes, the first at "+
				"offset %d of each vd", m.Idx, m.GrpIdx, n, said.First))
			if err != nil {
				return err
			}
		}
		m.Scrub = said
		if err := tx.SetMirrorScrub(m.ID, said); err != nil {
			return err
		}
	}
	if err := l.scrubEnded(stopped); err != nil {
		return err
	}
	if !ended {
		return nil
	}
	return l.c.Settle(r.DAID)
}

// scrubEnded records the end of a scrub, when how is how the last of its columns ended.
func (l *legs) scrubEnded(how vda.ScrubState) error {
	if how == "" {
		return nil
	}
	for _, m := range l.mirrors {
		if m.Scrub.State == vda.ScrubRunning && m.Scrub.Term == l.da.Term {
			return nil
		}
	}
	text := "all legs have been compared"
	if how == vda.ScrubStopped {
		text = "the comparison was stopped before its end"
	}
	return l.c.tx.Record(daEvent(l.da, vda.EventScrubEnd, "%s", text))
}

// Unequal is one sentence per column in which a scrub has found that legs differ.
func Unequal(mirrors []vda.Mirror) (all []string) {
	for i := range mirrors {
		m := &mirrors[i]
		n := m.Scrub.Unequal()
		switch {
		case n == 0:
			continue
		case n == 1:
			all = append(all, fmt.Sprintf("column %d of group %d: its legs differ in 1 block of 4096 bytes, at offset %d of each vd", m.Idx,
				m.GrpIdx, m.Scrub.First))
		default:
			all = append(all, fmt.Sprintf("column %d of group %d: its legs differ in %d blocks of 4096 bytes, the first at offset %d of each vd",
				m.Idx, m.GrpIdx, n, m.Scrub.First))
		}
	}
	return all
}

// unequal is the health of an array of which a scrub has found that legs differ.
func unequal(mirrors []vda.Mirror) (h vda.Health) {
	if bad := Unequal(mirrors); bad != nil {
		h = vda.Health{Error: true, Msg: "a scrub has found, " + strings.Join(bad[:1], "; ")}
		if len(bad) > 1 {
			h.Msg += fmt.Sprintf(" (and %d more columns)", len(bad)-1)
		}
	}
	return h
}

// LastScrub is the order that an array's mirrors had last, to be taken back.
func LastScrub(tx store.Tx, da *vda.DA) (s Scrub, err error) {
	mirrors, err := tx.MirrorsOfDA(da.ID)
	if err != nil {
		return s, err
	}
	s = Scrub{DAID: da.ID, Term: da.Term}
	for i := range mirrors {
		if m := &mirrors[i]; m.Scrub.State == vda.ScrubRunning && m.Scrub.Term == da.Term {
			s.ID = max(s.ID, m.Scrub.ID)
		}
	}
	if s.ID == "" {
		return s, &vda.Error{Kind: vda.FailedPrecondition, Object: "da " + da.Name, Msg: "no scrub of it is running"}
	}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	for i := range cntlrs {
		if cntlrs[i].Primary && !cntlrs[i].Deleted {
			s.At = CN(cntlrs[i].CNID)
		}
	}
	return s, err
}

// VoidScrub notes that the primary did not take an order.
func VoidScrub(tx store.Tx, s Scrub) error {
	if _, err := tx.DA(s.DAID); err != nil {
		return vda.IgnoreNotFound(err)
	}
	mirrors, err := tx.MirrorsOfDA(s.DAID)
	for i := range mirrors {
		if m := &mirrors[i]; m.Scrub.ID == s.ID && m.Scrub.State == vda.ScrubRunning {
			m.Scrub.State = vda.ScrubStopped
			if err := tx.SetMirrorScrub(m.ID, m.Scrub); err != nil {
				return err
			}
		}
	}
	return err
}
