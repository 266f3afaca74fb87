package core

import (
	"errors"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// ErrCatchingUp says that members cannot do without others yet.
var ErrCatchingUp = errors.New("members that catch up")

// labelRound is a label on its way to all legs that are attached.
type labelRound struct {
	pend   LegSet
	failed bool
	label  label.Label
	join   LegSet // that the label has joining for the first time
	alone  bool   // one leg is named, and no other is left
}

// lose is told that a leg has failed. A target is taken out, and nobody waits
// for it; a leg of D has all I/O wait, as what it lacks must be on record before
// anything more is acknowledged.
func (c *Core) lose(l Leg, why string) {
	leg := &c.legs[l]
	switch {
	case leg.role == Target:
		c.takeOut(l)
	case leg.role >= Joining && !leg.lost:
		leg.lost, leg.why, leg.ready = true, why, false
		c.changes++
		c.forsake(l)
	}
}

// Lost says that the connection to a leg has broken, or that it does not answer.
func (c *Core) Lost(l Leg, why string) {
	c.lose(l, why)
	c.pump()
}

// forsake has no round wait for a leg.
func (c *Core) forsake(l Leg) {
	for page := range c.pages.pend {
		c.mapDone(page, l)
	}
	if c.labels.pend.Has(l) {
		c.labels.failed = true
		c.labels.pend &^= set(l)
		c.labelDone()
	}
}

// takeOut gives up a target.
func (c *Core) takeOut(l Leg) {
	c.changes++
	leg := &c.legs[l]
	c.leave(l)
	c.relabel = true
	for _, io := range slices.Clone(c.running) {
		if io.need.Has(l) {
			io.need &^= set(l)
			io.failed &^= set(l)
		}
		c.check(io)
	}
	*leg = leg.detached()
}

// drop takes a leg out of D, as SQL has taken it out of S. What it lacks of I/O
// under way is acknowledged when labels say that it is absent. That takes a round of
// its own when gen is as before, as of a leg that was ready and not yet a member.
func (c *Core) drop(l Leg) {
	c.changes++
	c.relabel = true
	leg := &c.legs[l]
	c.counters.drop(reason(leg.why), 1)
	c.leave(l)
	for _, io := range c.running {
		if io.need.Has(l) {
			io.need &^= set(l)
			io.failed &^= set(l)
			io.short = true
		}
	}
	c.catch &^= set(l)
	*leg = leg.detached()
}

// leave is what takeOut and drop have in common.
func (c *Core) leave(l Leg) {
	leg := &c.legs[l]
	c.alone = 0
	leg.role, leg.lost, leg.settling, leg.drained, leg.ready = Absent, false, false, false, false
	c.absent = append(c.absent, label.Absent{VD: leg.vd, Seq: leg.seq})
	if len(c.absent) > label.MaxAbsent {
		c.absent = c.absent[1:] // it is copied whole, should it come back
	}
	c.forsake(l)
	c.do(Action{Kind: Detach, Leg: l})
}

// detached is the leg as one that is not attached.
func (l *leg) detached() leg {
	return leg{vd: l.vd, name: l.name, spec: l.spec, bare: l.bare, seq: l.seq, epoch: l.epoch, reads: l.reads, under: l.under}
}

// Set says what SQL has made of the mirror. It refuses what does not follow from
// what the core knows: another term, a gen that is past, a member that is not in
// D, or a set without a member that answers. It is ErrCatchingUp when those that are to stay
// lack writes that only others have.
func (c *Core) Set(term, gen uint64, legs []LegSpec) error {
	if err := c.inOrder(term, gen, legs); err != nil {
		return err
	}
	answers, whole := false, false
	for _, s := range legs {
		i, known := c.Find(s.VD)
		if s.Role == Member && (!known || c.legs[i].role < Joining) {
			role := Absent
			if known {
				role = c.legs[i].role
			}
			return fmt.Errorf("%v cannot be a member: it is %v here and may lack writes; it can once it is ready", s.leg(), role)
		}
		if s.Role == Member {
			answers = answers || !c.legs[i].lost
			whole = whole || !c.catch.Has(i) // also one that is lost, for which I/O waits, and which resumes when this is taken
		}
	}
	switch {
	case gen == c.cfg.Gen:
	case !answers:
		return fmt.Errorf("gen %d leaves no member that answers; one that is connected must stay", gen)
	case !whole && c.cfg.Break != LastCatchesUp:
		return fmt.Errorf("gen %d leaves only %w: one that has all writes must stay until they have them too", gen, ErrCatchingUp)
	}
	c.changes++
	for i := range c.legs {
		l := &c.legs[i]
		s := LegSpec{}
		if k := slices.IndexFunc(legs, func(s LegSpec) bool { return s.VD == l.vd }); k >= 0 {
			s = legs[k]
		}
		if l.spec = s.Role; s.Name != "" {
			l.name = s.Name
		}
		switch {
		case s.Role == Member:
			if l.role == Joining {
				c.counters.Joins++
			}
			l.role, l.ready = Member, false
		case l.role >= Joining && (s.Role == Absent || l.role == Member):
			c.drop(Leg(i))
		case l.role == Target && s.Role == Absent:
			c.takeOut(Leg(i))
		}
		if s.VD == (label.ID{}) { // named no more
			c.absent = slices.DeleteFunc(c.absent, func(a label.Absent) bool { return a.VD == l.vd })
			l.vd = label.ID{}
			c.alone, c.relabel = 0, true
		}
	}
	for _, s := range legs {
		if _, known := c.Find(s.VD); !known {
			c.add(s)
		}
	}
	if gen > c.cfg.Gen {
		c.cfg.Gen = gen
		c.relabel = true
	}
	c.chooseSource()
	c.pump()
	return nil
}

// inOrder checks that a set is of this term and not of the past, and that with an
// unchanged gen it has the members of the present one.
func (c *Core) inOrder(term, gen uint64, legs []LegSpec) error {
	switch {
	case term != c.cfg.Term:
		return fmt.Errorf("term %d is not the one it was created with, %d; for another, delete and create it", term, c.cfg.Term)
	case gen < c.cfg.Gen:
		return fmt.Errorf("gen %d is older than the last one taken, %d", gen, c.cfg.Gen)
	}
	for i := range c.legs {
		l := &c.legs[i]
		if gen == c.cfg.Gen && l.spec == Member && !slices.ContainsFunc(legs, func(s LegSpec) bool { return s.VD == l.vd }) {
			return fmt.Errorf("%v is a member and is left out, but gen is %d as before; other members take a greater gen", l, gen)
		}
	}
	for _, s := range legs {
		i, known := c.Find(s.VD)
		was := known && c.legs[i].spec == Member
		switch {
		case s.VD == label.ID{}:
			return fmt.Errorf("the vd id of the leg on bdev %q is all zeros; it must be the vd's", s.Name)
		case gen == c.cfg.Gen && was && s.Role != Member:
			return fmt.Errorf("%v is a member and becomes %v, but gen is %d as before; other members take a greater gen", s.leg(), s.Role, gen)
		case gen == c.cfg.Gen && !was && s.Role == Member:
			return fmt.Errorf("%v becomes a member, but gen is %d as before; other members take a greater gen", s.leg(), gen)
		}
	}
	return nil
}

func (s *LegSpec) leg() *leg { return &leg{vd: s.VD, name: s.Name} }

// add gives a new leg a place.
func (c *Core) add(s LegSpec) Leg {
	i := slices.IndexFunc(c.legs, func(l leg) bool { return l.vd == label.ID{} && l.role == Absent && l.under == 0 })
	if i < 0 {
		i = len(c.legs)
		c.legs = append(c.legs, leg{})
	}
	c.legs[i] = leg{vd: s.VD, name: s.Name, spec: s.Role, bare: s.Bare}
	c.alone = 0
	return Leg(i)
}

// chooseSource keeps the source a member that has all writes. When there is none
// any more, those that are left are as good as it gets.
func (c *Core) chooseSource() {
	fit := c.members() &^ c.catch
	if fit == 0 {
		c.catch, fit = 0, c.members()
	}
	if fit.Has(c.source) {
		return
	}
	for i := range c.legs {
		if fit.Has(Leg(i)) {
			c.source = Leg(i)
			return
		}
	}
}

// Attach says that a target is connected, with the label and the map that it
// has; nil for none that can be read. All actions on an earlier connection of it
// must have been reported. A leg that labels have known to be absent ever since
// lacks only what the maps say; any other is copied whole. epoch is label.Label's.
func (c *Core) Attach(l Leg, has *label.Label, m *label.Map, epoch label.ID) error {
	leg := &c.legs[l]
	if leg.spec != Target || leg.role != Absent {
		return fmt.Errorf("%v is %v here and its role is %v; what is attached is absent, with the role target", leg, leg.role, leg.spec)
	}
	if leg.under > 0 {
		return c.busy(leg)
	}
	leg.bare = false
	known := slices.IndexFunc(c.absent, func(a label.Absent) bool { return a.VD == leg.vd })
	lack := label.NewMap(c.intent.Len())
	if has != nil && m != nil && known >= 0 && has.Mirror == c.cfg.Mirror && has.VD == leg.vd && has.Seq >= c.absent[known].Seq {
		lack.Or(m)
		lack.Or(c.intent)
	} else {
		lack.SetAll()
	}
	if c.cfg.Break == NoCopy {
		lack = label.NewMap(c.intent.Len())
	}
	*leg = leg.detached()
	leg.role, leg.heard, leg.epoch = Target, c.now, epoch
	c.changes++
	leg.lack, leg.pages = lack, newPages(lack.Len())
	leg.pages.touch()
	c.write(leg.lack, &leg.pages, set(l), true)
	c.pump()
	return nil
}

// attach has a target attached once its map is durable: from then on the maps
// of the others may forget what it lacks.
func (c *Core) attach(l Leg) {
	leg := &c.legs[l]
	if !leg.attached && leg.pages.settled() {
		leg.attached = true
		c.absent = slices.DeleteFunc(c.absent, func(a label.Absent) bool { return a.VD == leg.vd })
		c.relabel = true
	}
}

// Resume says that a lost leg of D is back, with the label that it has. All
// actions on its former connection must have been reported, and the disk node
// must have settled it. When its epoch is another or not known, it may have lost
// its write cache: unless it is the only one, it catches up by a repair before it
// may be read.
func (c *Core) Resume(l Leg, has *label.Label, epoch label.ID) error {
	leg := &c.legs[l]
	switch {
	case !c.online:
		return fmt.Errorf("%v cannot resume: the mirror has not been online yet, and must be assembled again", leg)
	case leg.under > 0:
		return c.busy(leg)
	case leg.role < Joining || !leg.lost:
		return fmt.Errorf("%v is %v and not lost; there is nothing to resume", leg, leg.role)
	case leg.bare: // it says nothing
	case has == nil || has.Mirror != c.cfg.Mirror || has.VD != leg.vd || has.Seq < leg.seq:
		leg.why = WentBack
		c.changes++
		found := "it has none of this mirror"
		if has != nil && has.Mirror == c.cfg.Mirror && has.VD == leg.vd {
			found = fmt.Sprintf("its label has seq %d", has.Seq)
		}
		return fmt.Errorf("%v is not as it was left: the last label written to it had seq %d, and %s; drop it, and it is copied", leg, leg.seq,
			found)
	}
	leg.lost, leg.why, leg.heard = false, "", c.now
	c.changes++
	kept := epoch != label.ID{} && epoch == leg.epoch
	leg.epoch = epoch
	if !kept {
		if others := c.members() &^ set(l) &^ c.catch &^ c.lost(); others != 0 {
			c.catch |= set(l)
			c.chooseSource()
		}
		// It may also be that others have what it has lost.
		for r := c.intent.Next(0); r >= 0; r = c.intent.Next(r + 1) {
			c.mustRepair(r)
		}
	}
	c.rewriteIntent()
	c.relabel = true
	for _, io := range slices.Clone(c.running) {
		if io.failed.Has(l) {
			io.failed &^= set(l)
			kind := WriteLeg
			if io.Op == Flush || io.Op == syncOp {
				kind = FlushLeg
			}
			c.each(io, set(l), kind)
		}
	}
	c.pump()
	return nil
}

// busy says that actions on a former connection of a leg are not yet reported.
func (c *Core) busy(l *leg) error {
	return fmt.Errorf("%v: %d requests on its former connection are still under way; try again when they have ended", l, l.under)
}

// nextLabel writes a label to all that are attached, when one is needed. No leg
// of D may be lost: what it has to say would not be on all of S.
func (c *Core) nextLabel() {
	if !c.relabel || c.labels.pend != 0 || c.lost() != 0 || c.stopped {
		return
	}
	c.relabel = false
	l := label.Label{Seq: c.seq + 1, Confirmed: c.sure, Term: c.cfg.Term, Gen: c.cfg.Gen, DataSize: c.cfg.DataSize, RegionSize: c.regionSize,
		DA: c.cfg.DA, Mirror: c.cfg.Mirror, Absent: slices.Clone(c.absent)}
	join := LegSet(0)
	for i := range c.legs {
		leg := &c.legs[i]
		switch {
		case leg.spec == Member:
			l.Members = append(l.Members, leg.vd)
			l.Epochs = slices.Insert(l.Epochs, len(l.Members)-1, leg.epoch)
		case leg.role == Joining || leg.drained:
			l.Joining = append(l.Joining, leg.vd)
			l.Epochs = append(l.Epochs, leg.epoch)
			join |= set(Leg(i))
		}
		if c.catch.Has(Leg(i)) {
			l.CatchingUp = append(l.CatchingUp, leg.vd)
		}
	}
	if l.Clean = c.clean(); !l.Clean {
		l.Source = c.legs[c.source].vd
	}
	c.seq = l.Seq
	_, named := c.named()
	c.labels = labelRound{label: l, join: join, alone: named == 1 && len(l.Absent) == 0}
	c.labels.pend = c.with(func(l *leg) bool { return !l.bare && (l.role >= Joining || l.role == Target && l.attached) })
	if c.labels.pend == 0 { // the one member has no room for it
		c.labelDone()
		return
	}
	for i := range c.legs {
		if c.labels.pend.Has(Leg(i)) {
			own := l
			own.VD = c.legs[i].vd
			c.do(Action{Kind: WriteLabel, Leg: Leg(i), Label: &own})
		}
	}
}

func (c *Core) labelWritten(a Action, r Result) {
	if !c.labels.pend.Has(a.Leg) || a.Label.Seq != c.labels.label.Seq {
		return
	}
	if r != OK {
		c.lose(a.Leg, NoLabel)
	} else {
		c.legs[a.Leg].seq = a.Label.Seq
	}
	if c.labels.pend.Has(a.Leg) {
		c.labels.pend &^= set(a.Leg)
		c.labelDone()
	}
}

// labelDone goes on when a round is over: what it says holds if all of D have
// it.
func (c *Core) labelDone() {
	if c.labels.pend != 0 {
		return
	}
	round := c.labels
	c.labels = labelRound{}
	if round.failed {
		c.relabel = true // what a lost target has missed is of no importance
		if c.lost() != 0 {
			return
		}
	}
	c.changes++
	c.online = true
	c.labelled = round.label.Gen
	c.sure, c.told = round.label.Seq, round.label.Confirmed
	if _, n := c.named(); round.alone && n == 1 && c.alone == 0 {
		c.alone, c.relabel = round.label.Seq, true
	}
	for i := range c.legs {
		if l := &c.legs[i]; round.join.Has(Leg(i)) && (l.drained || l.role == Joining) {
			if l.role != Member {
				l.role, l.ready = Joining, true
			}
			l.settling, l.drained, l.lack = false, false, nil
		}
	}
	if round.label.Clean {
		c.stopped = true
		c.do(Action{Kind: Stopped})
		return
	}
	for _, io := range slices.Clone(c.running) {
		c.labelledScrub(io)
		c.proceed(io)
		c.check(io)
	}
}
