package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// ErrAhead says that labels know of a later set of members than SQL does.
var ErrAhead = errors.New("the database of the control plane has gone back in time, " +
	"and legs may have been dropped that it calls members")

var errNoMember = errors.New("no member was reached that has a label of this mirror; " +
	"connect one, or say that the mirror is fresh if it never was up")

// Seen is a leg as it was found when the mirror was assembled.
type Seen struct {
	VD     label.ID
	Label  *label.Label // nil: none that can be read
	Map    *label.Map   // nil when Label is
	NoTail bool         // there is no room for a label
	Epoch  label.ID     // see label.Label; zero when the disk node does not tell
}

// New assembles a mirror from what SQL says and from the members that were
// reached. Members that were not, or that are not as they were left, are lost:
// I/O waits until SQL has dropped them. It refuses to start when a label is
// ahead of SQL, as then SQL has gone back in time, and when no member was reached
// that has a label of this mirror. When all members catch up, and no user has had the mirror
// go on with them, they are lost as well: others had more when the labels were written, and a
// set with one of these, or a user's word, has it assembled again. When a lost member turns up before the mirror
// has been online, it is assembled again: that member's label may say more.
func New(cfg Config, seen []Seen) (*Core, error) {
	c := blank(cfg)
	cfg = c.cfg
	if c.with(func(l *leg) bool { return l.spec == Member }) == 0 {
		return nil, fmt.Errorf("none of its %d legs has the role member; one at least must have", len(cfg.Legs))
	}
	newest, err := c.newest(seen)
	if err != nil {
		return nil, err
	}
	// Labels are on all members before any I/O is served.
	fresh := cfg.Fresh && (newest == nil || slices.ContainsFunc(seen, func(s Seen) bool {
		i, known := c.Find(s.VD)
		return known && c.legs[i].spec == Member && s.Label == nil
	}))
	bare, err := c.startBare(newest, seen)
	if err != nil {
		return nil, err
	}
	fresh = fresh || bare
	clean := fresh || newest != nil && newest.Clean
	for i := range c.legs {
		l := &c.legs[i]
		joining := newest != nil && joins(newest, cfg, l.vd)
		if bare && l.spec == Target && c.mayBeMember(l.vd, seen) {
			l.role, l.lost = Joining, true
			l.why = "it may have become a member meanwhile; the control plane must say what it is"
			continue
		}
		if l.spec != Member && !joining {
			continue
		}
		if l.role = Member; joining {
			l.role = Joining
		}
		k := slices.IndexFunc(seen, func(s Seen) bool { return s.VD == l.vd })
		if k >= 0 {
			l.epoch = seen[k].Epoch
		}
		switch {
		case k < 0:
			l.lost, l.why = true, NotReached
		case fresh:
		case seen[k].Label == nil:
			l.lost, l.why = true, "it has no label of this mirror"
		case seen[k].Label.Seq < newest.Confirmed:
			l.lost, l.why = true, WentBack
		default:
			l.seq = seen[k].Label.Seq
			clean = clean && seen[k].Label.Clean && l.seq == newest.Seq
			c.intent.Or(seen[k].Map)
		}
	}
	if newest != nil {
		c.seq, c.sure = newest.Seq, newest.Confirmed
		c.recall(newest)
	}
	if !clean {
		c.distrust(newest)
	}
	switch {
	case newest == nil || c.members()&^c.catch != 0:
	case newest.Gen > cfg.Recovered && cfg.Break != StartsCatchingUp:
		for i := range c.legs {
			if l := &c.legs[i]; l.role >= Joining {
				l.lost, l.why = true, LeftAlone
			}
		}
	default: // as good as it gets: see chooseSource
		c.catch = 0
	}
	if fit := c.members() &^ c.catch &^ c.lost(); !fit.Has(c.source) {
		c.source = c.any()
	}
	if !clean {
		for r := c.intent.Next(0); r >= 0; r = c.intent.Next(r + 1) {
			c.repair.Set(r)
			c.used[r] = 0
		}
	}
	c.rewriteIntent()
	c.relabel = true
	c.pump()
	return c, nil
}

// blank is a core that nothing is known of but what SQL says.
func blank(cfg Config) *Core {
	cfg.fill()
	c := &Core{cfg: cfg, regionSize: label.RegionSize(cfg.DataSize),
		setAt: map[int]uint64{}, used: map[int]time.Duration{}}
	n := int(label.Regions(cfg.DataSize, c.regionSize))
	c.intent, c.repair, c.pages = label.NewMap(n), label.NewMap(n), newPages(n)
	for _, s := range cfg.Legs {
		c.add(s)
	}
	return c
}

// newest returns the label of the members with the highest seq, nil when the
// mirror is fresh.
func (c *Core) newest(seen []Seen) (newest *label.Label, err error) {
	for _, s := range seen {
		l := s.Label
		i, known := c.Find(s.VD)
		switch {
		case l == nil || !known:
			continue
		case l.Mirror != c.cfg.Mirror:
			return nil, fmt.Errorf("%v has a label of mirror %v; it must be of mirror %v", &c.legs[i], l.Mirror, c.cfg.Mirror)
		case l.VD != s.VD:
			return nil, fmt.Errorf("%v has the label of vd %v: its bdev is another leg's", &c.legs[i], l.VD)
		case l.DataSize != c.cfg.DataSize || l.RegionSize != c.regionSize:
			return nil, fmt.Errorf("the label of %v says %d bytes of data in regions of %d; given is a size of %d, with regions of %d",
				&c.legs[i], l.DataSize, l.RegionSize, c.cfg.DataSize, c.regionSize)
		case l.Term > c.cfg.Term || l.Gen > c.cfg.Gen:
			return nil, fmt.Errorf("the label of %v has term %d and gen %d, later than the term %d and gen %d given: %w",
				&c.legs[i], l.Term, l.Gen, c.cfg.Term, c.cfg.Gen, ErrAhead)
		}
		if c.legs[i].spec == Member && (newest == nil || l.Seq > newest.Seq) {
			newest = l
		}
	}
	if newest == nil && !c.cfg.Fresh && !slices.ContainsFunc(c.legs, func(l leg) bool { return l.spec == Member && l.bare }) {
		return nil, errNoMember
	}
	return newest, nil
}

// joins reports that a label of this very set of members has a leg joining.
func joins(l *label.Label, cfg Config, vd label.ID) bool {
	return l.Term == cfg.Term && l.Gen == cfg.Gen && slices.Contains(l.Joining, vd)
}

// startBare reports that the mirror is to start without a label: it has one member,
// which may lack one and does. A leg without a tail cannot be anything else. Until
// here leg.bare is what SQL says, afterwards what was seen.
func (c *Core) startBare(newest *label.Label, seen []Seen) (bool, error) {
	members := 0
	for i := range c.legs {
		if c.legs[i].spec == Member {
			members++
		}
	}
	bare := false
	for i := range c.legs {
		l := &c.legs[i]
		k := slices.IndexFunc(seen, func(s Seen) bool { return s.VD == l.vd })
		noTail := k >= 0 && seen[k].NoTail
		if noTail && (l.spec != Member || members > 1) {
			return false, fmt.Errorf("%v has no room for a label behind its data; only the one member of a mirror can be without, "+
				"so grow its bdev by %d bytes", l, label.TailSize)
		}
		bare = bare || l.spec == Member && members == 1 && l.bare && newest == nil
		l.bare = noTail
	}
	return bare, nil
}

// mayBeMember reports that SQL may have made a target a member without this
// having been told: the one member there is has no label that would say so.
func (c *Core) mayBeMember(vd label.ID, seen []Seen) bool {
	k := slices.IndexFunc(seen, func(s Seen) bool { return s.VD == vd })
	return k < 0 || seen[k].Label != nil && joins(seen[k].Label, c.cfg, vd)
}

// Grow says that a leg without a tail has one now.
func (c *Core) Grow(l Leg) {
	if leg := &c.legs[l]; leg.bare {
		leg.bare = false
		c.rewriteIntent()
		c.relabel = true
		c.pump()
	}
}

// recall takes from the newest label what outlives a primary: the source of a
// repair that is not done, who still catches up, and who is absent since when.
func (c *Core) recall(l *label.Label) {
	if i, known := c.Find(l.Source); known {
		c.source = i
	}
	for _, vd := range l.CatchingUp {
		if i, known := c.Find(vd); known && c.legs[i].role >= Joining {
			c.catch |= set(i)
		}
	}
	c.absent = slices.DeleteFunc(slices.Clone(l.Absent), func(a label.Absent) bool {
		i, known := c.Find(a.VD)
		return !known || c.legs[i].role >= Joining
	})
	// Legs that were attached when that label was written, if ever a leg was: as
	// members that SQL has dropped meanwhile, or as targets.
	for i := range c.legs {
		leg := &c.legs[i]
		if leg.role == Absent && !slices.ContainsFunc(c.absent, func(a label.Absent) bool { return a.VD == leg.vd }) {
			c.absent = append(c.absent, label.Absent{VD: leg.vd, Seq: l.Confirmed})
		}
	}
}

// distrust has the members catch up that have lost their write caches since the
// newest label. When all that were reached have, and another member was not
// reached, they do not suffice: that one may have what they acknowledged and
// lost.
func (c *Core) distrust(newest *label.Label) {
	wiped := c.with(func(l *leg) bool {
		was := newest.Epoch(l.vd)
		return l.role >= Joining && !l.lost && l.epoch != label.ID{} && was != label.ID{} && l.epoch != was
	})
	if c.members()&^c.catch&^wiped != 0 {
		c.catch |= wiped
	}
}

// any returns a member that answers and has all writes, or else any leg: then
// nothing starts before SQL has said who is to go.
func (c *Core) any() Leg {
	for _, fit := range []LegSet{c.members() &^ c.catch &^ c.lost(), c.members()} {
		for i := range c.legs {
			if fit.Has(Leg(i)) {
				return Leg(i)
			}
		}
	}
	return 0
}

// Waiting returns a core of a mirror that cannot be assembled yet: its I/O waits,
// for Config.Hold at most, until another core takes its place.
func Waiting(cfg Config, now time.Duration) *Core {
	c := blank(cfg)
	c.now = now
	for i := range c.legs {
		if l := &c.legs[i]; l.spec == Member {
			l.role, l.lost, l.why = Member, true, "the mirror is not assembled"
		}
	}
	return c
}

// Yield ends a core that has not been online, which has served nothing: another
// takes its place. It returns the I/Os that wait, for Adopt. Actions that are not
// reported yet still are to be, and have no effect.
func (c *Core) Yield() []*IO {
	waiting := c.waiting
	c.waiting, c.out, c.yielded = nil, nil, true
	return waiting
}

// Adopt takes over I/Os that waited in a core that has yielded. They do not wait
// longer for that.
func (c *Core) Adopt(ios []*IO) {
	for _, io := range ios {
		begun := io.begun
		c.enqueue(io)
		io.begun = begun
	}
	c.pump()
}

// Follows checks that a set can follow the present one of a mirror that has not
// been online: then SQL may have made members of any legs meanwhile, and dropped
// any.
func (c *Core) Follows(term, gen uint64, legs []LegSpec) error {
	if err := c.inOrder(term, gen, legs); err != nil {
		return err
	}
	if !slices.ContainsFunc(legs, func(s LegSpec) bool { return s.Role == Member }) {
		return fmt.Errorf("none of %d legs has the role member; one at least must have", len(legs))
	}
	return nil
}
