package array

import (
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// A vd moves while its array serves: its column gets one more leg at the new place
// (AddLeg), that is copied to and becomes a member as any leg does, and the old one,
// which is leaving, goes when its column has all its members without it (TrimLegs).
// Nothing of it is state of a program: it stands in the rows, and the monitors go on
// with it when a program dies in the middle.

// MoveTo is where a vd is to go: to a pd, to any pd of a dn, or, when both are "",
// wherever there is room.
type MoveTo struct{ PDID, DNID string }

// Mover chooses places for the vds that a user wants elsewhere. It reads the pds of the
// cluster once, in one transaction.
type Mover struct {
	tx      store.Reader
	pds     []placement.PD
	leftOut map[string]string // why others take no vds, by id
	reasons []string          // the same, with names
}

// NewMover reads the pds.
func NewMover(tx store.Reader) (*Mover, error) {
	pds, leftOut, err := diskCandidates(tx)
	if err != nil {
		return nil, err
	}
	m := &Mover{tx: tx, pds: pds, leftOut: map[string]string{}}
	for _, l := range leftOut {
		m.leftOut[l.id] = l.why
		m.reasons = append(m.reasons, l.String())
	}
	return m, nil
}

// Place chooses where a vd goes. vda.FailedPrecondition says why it cannot move as
// things are, vda.ResourceExhausted that there is no place, and ErrStale that it is
// gone. The string is what could not be spread, "" when all was.
func (m *Mover) Place(daID, vdID string, to MoveTo) (n NewLeg, warning string, err error) {
	n = NewLeg{DAID: daID, InsteadOf: vdID, Moved: true}
	l, err := readLegs(m.tx, daID)
	if err != nil {
		return n, "", err
	}
	if l == nil {
		return n, "", ErrStale
	}
	c, v := l.find(vdID)
	if v == nil {
		return n, "", ErrStale
	}
	if err := l.movable(m.tx, c, v); err != nil {
		return n, "", err
	}
	legs, err := legsOf(m.tx, l, c, v)
	if err != nil {
		return n, "", err
	}
	size := l.mirrorOf(c).Size
	pds, err := m.at(l, c, v, to, size)
	if err != nil {
		return n, "", err
	}
	n.At, warning, err = placement.AnotherLeg(pds, legs, size)
	if to == (MoveTo{}) {
		err = placement.Explain(err, m.reasons)
	}
	return n, warning, err
}

// cannot is why a vd is not moved.
func cannot(da *vda.DA, v *vda.VD, format string, args ...any) error {
	return &vda.Error{Kind: vda.FailedPrecondition, Object: fmt.Sprintf("vd %s of da %s", v.ID, da.Name), Msg: fmt.Sprintf(format, args...)}
}

// cannotMirror says of the first controller of an array whose data plane has no mirrors
// where it is, "" when all have.
func (l *legs) cannotMirror(tx store.Reader) (string, error) {
	cntlrs, err := tx.CntlrsOfDA(l.da.ID)
	if err != nil {
		return "", err
	}
	for i := range cntlrs {
		if cntlrs[i].Deleted {
			continue
		}
		cn, err := tx.CN(cntlrs[i].CNID)
		switch {
		case err != nil:
			return "", err
		case cn.Mirrors:
		case cn.DataPlaneVersion == "":
			return fmt.Sprintf("a controller on cn %s, of which vda_monitor has not heard yet whether its data plane can mirror", cn.Name), nil
		default:
			return fmt.Sprintf("a controller on cn %s, whose data plane, %s, cannot mirror; run vda_tgt there", cn.Name, cn.DataPlaneVersion), nil
		}
	}
	return "", nil
}

// movable refuses to move a vd that cannot go anywhere as things are.
func (l *legs) movable(tx store.Reader, c *vda.Column, v *vda.VD) error {
	where, err := l.cannotMirror(tx)
	if err != nil {
		return err
	}
	if where != "" {
		return cannot(l.da, v, "cannot move: the array has %s", where)
	}
	switch moving := slices.IndexFunc(c.Legs, func(o *vda.VD) bool { return o.Moved && o.Leaving }); {
	case !l.da.Created:
		return cannot(l.da, v, "cannot move: the array has never been up, so there is nothing to copy from")
	case l.joining(c):
		return cannot(l.da, v, "cannot move yet: it is to be part of the array, and is not yet")
	case l.mirrorOf(c) == nil:
		return cannot(l.da, v, "cannot move: the array stands on its vds without mirrors")
	case v.Leaving:
		return cannot(l.da, v, "is leaving already: another vd takes its place")
	case moving >= 0:
		return cannot(l.da, v, "cannot move yet: vd %s of the same column is being moved, and one of a column moves at a time", c.Legs[moving].ID)
	case len(c.Legs) >= MaxLegs:
		return cannot(l.da, v, "cannot move yet: its column has %d legs, of which some are to go first", len(c.Legs))
	}
	return nil
}

// legsOf are the legs of a column, tombstones too, as placement sees them: one goes.
func legsOf(tx store.Reader, l *legs, c *vda.Column, goes *vda.VD) (legs []placement.Leg, err error) {
	vds, err := tx.VDsOfDA(l.da.ID)
	if err != nil {
		return nil, err
	}
	for i := range vds { // tombstones too: their dns have not let go of them
		v := &vds[i]
		if v.GrpIdx != c.GrpIdx || v.Idx != c.Idx {
			continue
		}
		dn, err := tx.DN(v.DNID)
		if err != nil {
			return nil, err
		}
		legs = append(legs, placement.Leg{DNID: v.DNID, Location: dn.Location, Leaving: v.ID == goes.ID || v.Leaving || v.Deleted})
	}
	return legs, nil
}

// at are the pds that a vd may go to.
func (m *Mover) at(l *legs, c *vda.Column, v *vda.VD, to MoveTo, data uint64) ([]placement.PD, error) {
	if to == (MoveTo{}) {
		return m.pds, nil
	}
	dnID := to.DNID
	if to.PDID != "" {
		pd, err := m.tx.PD(to.PDID)
		if err != nil {
			return nil, err
		}
		dnID = pd.DNID
	}
	dn, err := m.tx.DN(dnID)
	if err != nil {
		return nil, err
	}
	for _, o := range c.Legs {
		switch {
		case o.ID == v.ID && o.PDID == to.PDID:
			return nil, cannot(l.da, v, "is on that pd")
		case o.ID == v.ID && o.DNID == dnID:
			return nil, cannot(l.da, v, "is on dn %s, and moves to another dn only", dn.Name)
		case o.DNID == dnID:
			return nil, cannot(l.da, v, "cannot move to dn %s, which has vd %s of the same column: its loss would take both", dn.Name, o.ID)
		}
	}
	var pds []placement.PD
	var free uint64
	for _, p := range m.pds {
		if p.DNID == dnID && (to.PDID == "" || p.ID == to.PDID) {
			pds = append(pds, p)
			free = max(free, p.FreeClusters*p.ClusterSize)
		}
	}
	if why := m.leftOut[to.PDID]; to.PDID != "" && why != "" {
		return nil, cannot(l.da, v, "cannot move to that pd, which takes no vds: %s", why)
	}
	if need := data + vda.LegTail; free < need {
		return nil, vda.Errorf(vda.ResourceExhausted, "vd %s of da %s needs %d bytes, and the most that is free on one online pd there is %d",
			v.ID, l.da.Name, need, free)
	}
	return pds, nil
}

// KeepLegs ends the moves of those vds of an array for which which is true: a member
// stays, and what was to take its place goes, unless that has taken it already. One
// that is not a member any more is kept if it is quicker to be one again. The plan is
// empty when there is nothing to end.
func KeepLegs(tx store.Tx, daID string, which func(*vda.VD) bool) (Plan, error) {
	l, err := beginLegs(tx, daID)
	if err != nil || l == nil {
		return nil, err
	}
	told, err := l.primaryKnows()
	if err != nil {
		return nil, err
	}
	kept := false
	for i := range l.columns {
		done := l.surplus(&l.columns[i]) // what has been replaced already goes
		for _, v := range l.columns[i].Legs {
			if v.Moved && which(v) && !slices.Contains(done, v) {
				v.Moved, v.Leaving, kept = false, v.Role != vda.Member, true
				l.c.then(func() error { return tx.UpdateVD(v) })
			}
		}
	}
	if !kept {
		return nil, nil
	}
	l.trim(told, nil)
	return l.write()
}

// DrainLeg is AddLeg for a vd whose dn or pd is being drained. It does nothing when
// neither is any more.
func DrainLeg(tx store.Tx, n NewLeg) (Plan, error) {
	u := tx.Unlocked()
	v, err := u.VD(n.InsteadOf)
	if err != nil {
		return nil, stale(err)
	}
	dn, err := u.DN(v.DNID)
	if err != nil {
		return nil, stale(err)
	}
	pd, err := u.PD(v.PDID)
	if err != nil {
		return nil, stale(err)
	}
	if !dn.Drain && !pd.Drain {
		return nil, ErrStale
	}
	return AddLeg(tx, n)
}
