package array

import (
	"errors"
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// The members of a mirror are the legs that have every write which was
// acknowledged. Which they are stands in the database alone, and changes in
// transactions that compare the array's term and the mirror's gen. A member goes
// here before its primary acknowledges a write without it, and a leg becomes one
// after its primary waits for it with every write: at any time those that the
// primary waits for contain the members that stand here.

// LegReport is what a primary says of a leg.
type LegReport struct {
	VDID      string
	Connected bool
	Lost      bool   // it does not answer, and all I/O waits for it: a member, or a target that was ready
	Ready     bool   // a target that has all, and for which writes wait like for a member
	Lack      uint64 // bytes that are to be copied to it
	Rate      uint64 // bytes per second by which Lack falls; 0: not known
}

// Unsure reports that the primary does not know what the leg lacks: it has no connection to
// it, or its data plane has not assembled the mirror yet.
func (r *LegReport) Unsure() bool { return !r.Connected && r.Lack == 0 }

// MirrorReport is what a primary says of a mirror.
type MirrorReport struct {
	ID    string
	Gen   uint64 // that its data plane has
	Legs  []LegReport
	Scrub vda.Scrub // of the one that is running or the last one; State is "" when there was none
}

// LegsReport is what an array's primary says of all its mirrors.
type LegsReport struct {
	DAID    string
	Term    uint64
	Mirrors []MirrorReport
}

// legs is an array under a change of its mirrors, any array.
type legs struct {
	c       *Change
	da      *vda.DA
	mirrors map[string]*vda.Mirror
	columns []vda.Column
	grps    []vda.Grp
	cntlrs  []vda.Cntlr
	changed bool                 // the primary has to know
	disks   map[string]bool      // dns that have to
	raised  map[*vda.Mirror]bool // of which Gen is another one
}

// beginLegs locks an array and reads it, for a change; nil when it is gone
// or is being deleted.
func beginLegs(tx store.Tx, daID string) (*legs, error) {
	all, err := Begin(tx).beginLegs([]string{daID})
	return all[daID], err
}

// beginLegs locks arrays and reads them, by id, without those that are gone or are being deleted.
func (c *Change) beginLegs(daIDs []string) (map[string]*legs, error) {
	das, err := c.lockArrays(daIDs)
	if err != nil {
		return nil, err
	}
	all, err := legsIn(c.tx, das)
	for _, l := range all {
		l.c = c
	}
	return all, err
}

// readLegs reads an array; nil when it is gone or is being deleted.
func readLegs(tx store.Reader, daID string) (*legs, error) {
	das, err := tx.DAs([]string{daID})
	if err != nil {
		return nil, err
	}
	all, err := legsIn(tx, das)
	return all[daID], err
}

func legsIn(tx store.Reader, das []vda.DA) (map[string]*legs, error) {
	p := parts{das: slices.DeleteFunc(das, func(da vda.DA) bool { return da.Deleted })}
	if err := p.read(tx, true); err != nil {
		return nil, err
	}
	all := map[string]*legs{}
	for i := range p.das {
		da := &p.das[i]
		l := &legs{da: da, mirrors: map[string]*vda.Mirror{}, columns: vda.Columns(p.vds[da.ID]), grps: p.grps[da.ID], cntlrs: p.cntlrs[da.ID],
			disks: map[string]bool{}, raised: map[*vda.Mirror]bool{}}
		mirrors := p.mirrors[da.ID]
		for i := range mirrors {
			l.mirrors[mirrors[i].ID] = &mirrors[i]
		}
		all[da.ID] = l
	}
	return all, nil
}

func (l *legs) find(vdID string) (*vda.Column, *vda.VD) {
	for i := range l.columns {
		for _, v := range l.columns[i].Legs {
			if v.ID == vdID {
				return &l.columns[i], v
			}
		}
	}
	return nil, nil
}

// mirrorOf is the mirror of a column.
func (l *legs) mirrorOf(c *vda.Column) *vda.Mirror { return l.mirrors[c.Legs[0].MirrorID] }

// joining reports that a column is of a group that is not part of the array yet.
func (l *legs) joining(c *vda.Column) bool {
	return slices.ContainsFunc(l.grps, func(g vda.Grp) bool { return g.Joining && g.Idx == c.GrpIdx })
}

// plan ends the change of this array: the primary is told first, which waits, then the dns.
// The plan is empty when nothing has changed.
func (l *legs) plan() Plan {
	plan := stages(Primary, Disks)
	if l.changed {
		for i := range l.cntlrs {
			if v := &l.cntlrs[i]; v.Primary && !v.Deleted {
				l.c.stampCntlr(v)
				plan.addCntlr(v)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.disks)) {
		plan.add(Disks, DN(id))
	}
	return plan
}

// write ends a change of one array.
func (l *legs) write() (Plan, error) {
	plan := l.plan()
	return plan, l.c.Write()
}

// raiseGen notes that a mirror has other members.
func (l *legs) raiseGen(m *vda.Mirror) {
	m.Gen++
	l.changed = true
	if !l.raised[m] {
		l.raised[m] = true
		l.c.then(func() error {
			l.c.alike.gens.add(m.Gen, m.ID)
			return nil
		})
	}
}

// expel makes a leg stale. Its dn lets nobody in who was told before.
func (l *legs) expel(v *vda.VD) {
	v.Role = vda.Stale
	v.Epoch++
	l.changed = true
	l.tell(v)
	l.c.stampLeg(v)
}

// update has a leg's dn know of what has changed of it, expel included.
func (l *legs) update(v *vda.VD) {
	l.tell(v)
	l.c.updateVD(v)
}

func (l *legs) insert(v *vda.VD) {
	l.tell(v)
	l.c.insertVD(v)
}

func (l *legs) tell(v *vda.VD) { l.disks[v.DNID] = true }

// setLeg writes the state of a leg of which no dn has to know.
func (l *legs) setLeg(v *vda.VD) {
	l.c.then(func() error {
		l.c.alike.legs.add(store.LegStateOf(v), v.ID)
		return nil
	})
}

func (l *legs) setLack(v *vda.VD, bytes, rate uint64) {
	v.Lack, v.CopyRate = bytes, rate
	l.c.then(func() error {
		l.c.alike.lacks.add(lack{bytes, rate}, v.ID)
		return nil
	})
}

// LegChange is a transition of the legs of one array, that can be made together with those of others.
// The zero value is of no use.
type LegChange struct {
	daID string
	do   func(l *legs) error // changes nothing when it returns an error
	void error               // of an array that is gone
}

// errVoid says of a change that there is nothing to be done, by nobody.
var errVoid = errors.New("void")

// ChangeManyLegs makes changes of the legs of many arrays, in one transaction and with a few statements for
// all of them. Each is judged by itself: the plans and errors are theirs, in their order, and one that
// comes too late, ErrStale, or is not possible, keeps no other from being made. The last error is of the transaction: nothing
// is changed then.
func ChangeManyLegs(tx store.Tx, changes []LegChange) (plans []Plan, errs []error, err error) {
	plans, errs = make([]Plan, len(changes)), make([]error, len(changes))
	c, ids := Begin(tx), make([]string, len(changes))
	for i := range changes {
		ids[i] = changes[i].daID
	}
	all, err := c.beginLegs(ids)
	if err != nil {
		return nil, nil, err
	}
	for i := range changes {
		if l := all[ids[i]]; l == nil {
			errs[i] = changes[i].void
		} else if errs[i] = changes[i].do(l); errs[i] != nil && !errors.Is(errs[i], ErrStale) && !errors.Is(errs[i], errVoid) {
			return nil, nil, errs[i]
		}
	}
	of := map[string]Plan{}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		of[id] = all[id].plan()
	}
	for i, id := range ids {
		switch {
		case errs[i] == nil:
			plans[i] = of[id]
		case errors.Is(errs[i], errVoid):
			errs[i] = nil
		}
	}
	return plans, errs, c.Write()
}

// one makes a change of one array, as a transaction of its own.
func (c LegChange) one(tx store.Tx) (Plan, error) {
	plans, errs, err := ChangeManyLegs(tx, []LegChange{c})
	if err != nil {
		return nil, err
	}
	return plans[0], errs[0]
}

// ChangeLegs draws the conclusions from what the primary of an array says of its
// mirrors. Members that are lost go, unless fewer than MinLegs were left or one of
// the array's mirrors has no member that is connected: then it is the primary that
// is cut off. Targets that are ready become members; one that is copied to from a
// member without a label takes its place. A report of another term is void, as is
// what it says of a mirror that has another gen by now.
func ChangeLegs(tx store.Tx, r *LegsReport) (Plan, error) { return Reported(r).one(tx) }

// Reported is ChangeLegs together with others.
func Reported(r *LegsReport) LegChange {
	return LegChange{daID: r.DAID, do: func(l *legs) error { return l.reported(r) }}
}

func (l *legs) reported(r *LegsReport) error {
	if l.da.Term != r.Term {
		return errVoid
	}
	said := map[string]*LegReport{}
	for i := range r.Mirrors {
		if m := l.mirrors[r.Mirrors[i].ID]; m != nil && m.Gen == r.Mirrors[i].Gen {
			for j := range r.Mirrors[i].Legs {
				leg := &r.Mirrors[i].Legs[j]
				said[leg.VDID] = leg
			}
		}
	}
	answers := func(v *vda.VD) bool { s := said[v.ID]; return s != nil && s.Connected && !s.Lost }
	var members [][]*vda.VD
	for i := range l.columns { // the array is usable without what is not part of it yet
		if c := &l.columns[i]; !l.joining(c) {
			members = append(members, c.Of(vda.Member))
		}
	}
	mayDrop := vda.Usable(members, answers)
	for i := range l.columns {
		if m := l.mirrorOf(&l.columns[i]); m != nil {
			l.change(m, &l.columns[i], said, answers, mayDrop)
		}
	}
	return nil
}

// change has members of one mirror go and join.
func (l *legs) change(m *vda.Mirror, c *vda.Column, said map[string]*LegReport, answers func(*vda.VD) bool, mayDrop bool) {
	members, left := c.Of(vda.Member), 0
	var lost []*vda.VD
	for _, v := range members {
		switch s := said[v.ID]; {
		case answers(v):
			left++
		case s != nil && s.Lost:
			lost = append(lost, v)
		}
	}
	other, joined := false, false
	if mayDrop && left >= max(int(l.da.MinLegs), 1) {
		for _, v := range lost {
			l.expel(v)
			l.note(v, vda.EventLegLost, "it does not answer and misses writes from now on")
			other = true
		}
	}
	for _, v := range c.Of(vda.Target) {
		s := said[v.ID]
		switch {
		case s == nil:
		case s.Lost: // writes wait for it already
			l.expel(v)
		case s.Ready:
			// A member without a label cannot be one of two.
			for _, old := range members {
				if old.Role == vda.Member && !m.HasTail(old) {
					old.Leaving = true
					l.expel(old)
				}
			}
			v.Role, v.Leaving = vda.Member, v.Moved // it was quicker than the one that was to replace it, unless a user wants it elsewhere
			l.setLeg(v)
			l.setLack(v, 0, 0)
			l.note(v, vda.EventRebuildEnd, "it has all data")
			other, joined = true, true
		}
	}
	if joined {
		l.retire(c)
	}
	if other {
		l.raiseGen(m)
	}
}

// retire marks the legs that a column does not need now that one has joined. When all
// were members, and none was leaving, nobody would look at them again.
func (l *legs) retire(c *vda.Column) {
	for _, v := range l.surplus(c) {
		if !v.Leaving {
			v.Leaving = true
			l.setLeg(v)
		}
	}
}

// NoteLack records how much is to be copied to legs, for those who look at it.
func NoteLack(tx store.Tx, r *LegsReport) error {
	_, err := Lacking(r).one(tx)
	return err
}

// Lacking is NoteLack together with others.
func Lacking(r *LegsReport) LegChange {
	return LegChange{daID: r.DAID, do: func(l *legs) error {
		if l.da.Term != r.Term {
			return errVoid
		}
		for i := range r.Mirrors {
			for j := range r.Mirrors[i].Legs {
				s := &r.Mirrors[i].Legs[j]
				if s.Unsure() {
					continue
				}
				if _, v := l.find(s.VDID); v != nil && (v.Lack != s.Lack || v.CopyRate != s.Rate) {
					l.setLack(v, s.Lack, s.Rate)
				}
			}
		}
		return nil
	}}
}

// CaughtUp records that no member of an array lacks anything, when its primary is on a cn: it
// says nothing of the array's mirrors, as there is nothing to say.
func CaughtUp(daID, cnID string) LegChange {
	return LegChange{daID: daID, void: errVoid, do: func(l *legs) error {
		if !slices.ContainsFunc(l.cntlrs, func(v vda.Cntlr) bool { return v.Primary && !v.Deleted && v.CNID == cnID }) {
			return errVoid
		}
		for i := range l.columns {
			for _, v := range l.columns[i].Of(vda.Member) {
				if v.Lack > 0 {
					l.setLack(v, 0, 0)
				}
			}
		}
		return nil
	}}
}

// AdmitLeg makes a stale leg a target. The caller knows that its dn is well and
// lets in the leg's present epoch alone. ErrStale when the leg has another epoch or
// role by now, or is not needed any more.
func AdmitLeg(tx store.Tx, daID, vdID string, epoch uint64) (Plan, error) {
	return Admitted(daID, vdID, epoch).one(tx)
}

// Admitted is AdmitLeg together with others.
func Admitted(daID, vdID string, epoch uint64) LegChange {
	return ofLeg(daID, vdID, func(l *legs, c *vda.Column, v *vda.VD) error {
		if v.Role != vda.Stale || v.Epoch != epoch || slices.Contains(l.surplus(c), v) {
			return ErrStale
		}
		v.Role = vda.Target
		l.changed = true
		l.setLeg(v)
		l.setLack(v, v.Lack, 0)
		l.note(v, vda.EventRebuildBegin, "what it lacks is copied to it")
		return nil
	})
}

// ExpelTarget makes a target stale that its primary does not reach, so that
// nothing of this attempt lands on it in the next. ErrStale as of AdmitLeg.
func ExpelTarget(tx store.Tx, daID, vdID string, epoch uint64) (Plan, error) {
	return Expelled(daID, vdID, epoch).one(tx)
}

// Expelled is ExpelTarget together with others.
func Expelled(daID, vdID string, epoch uint64) LegChange {
	return ofLeg(daID, vdID, func(l *legs, _ *vda.Column, v *vda.VD) error {
		if v.Role != vda.Target || v.Epoch != epoch {
			return ErrStale
		}
		l.expel(v)
		return nil
	})
}

// Recover makes a leg that lacks writes the only member of its mirror, when there
// is no other way to the rest of the data: what was acknowledged and is not on it
// is lost. All is copied to the other legs again. FailedPrecondition when the leg is a
// member that lacks nothing.
func Recover(tx store.Tx, daID, vdID string) (Plan, error) {
	return changeLeg(tx, daID, vdID, func(l *legs, c *vda.Column, v *vda.VD) error {
		m := l.mirrorOf(c)
		if m == nil || v.Role == vda.Member && !v.Copied() {
			return &vda.Error{Kind: vda.FailedPrecondition, Op: "recover", Object: "da " + l.da.Name, Msg: "vd " + vdID + " is a member: " +
				"it has every write, and nothing is to be recovered from it"}
		}
		for _, other := range c.Legs {
			if other != v {
				l.expel(other)
			}
		}
		v.Role, v.Leaving, v.Moved = vda.Member, false, false
		v.Epoch++
		l.update(v)
		l.setLack(v, 0, 0)
		l.raiseGen(m)
		m.Recovered = m.Gen // its labels may say that v is the one that lacks something
		l.c.then(func() error { return l.c.tx.UpdateMirror(m) })
		return nil
	})
}

func changeLeg(tx store.Tx, daID, vdID string, change func(*legs, *vda.Column, *vda.VD) error) (Plan, error) {
	return ofLeg(daID, vdID, change).one(tx)
}

// ofLeg is a change of one leg; ErrStale when it is gone.
func ofLeg(daID, vdID string, change func(*legs, *vda.Column, *vda.VD) error) LegChange {
	return LegChange{daID: daID, void: ErrStale, do: func(l *legs) error {
		c, v := l.find(vdID)
		if v == nil {
			return ErrStale
		}
		return change(l, c, v)
	}}
}
