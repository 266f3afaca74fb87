package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// ErrAhead says that labels know of a later set of members than SQL does.
var ErrAhead = errors.New("SQL has gone back in time")

// Seen is a leg as it was found when the mirror was assembled.
type Seen struct {
	VD    label.ID
	Label *label.Label // nil: none that can be read
	Map   *label.Map   // nil when Label is
	Epoch label.ID     // see label.Label; zero when the disk node does not tell
}

// New assembles a mirror from what SQL says and from the members that were
// reached. Members that were not, or that are not as they were left, are lost:
// I/O waits until SQL has dropped them. It refuses to start when a label is
// ahead of SQL, as then SQL has gone back in time, and when no member was reached
// that has a label of this mirror. When a lost member turns up before the mirror
// has been online, it is assembled again: that member's label may say more.
func New(cfg Config, seen []Seen) (*Core, error) {
	cfg.fill()
	c := &Core{cfg: cfg, regionSize: label.RegionSize(cfg.DataSize),
		setAt: map[int]uint64{}, used: map[int]time.Duration{}, order: order{lists: map[int][]*IO{}}}
	n := int(label.Regions(cfg.DataSize, c.regionSize))
	c.intent, c.repair, c.pages = label.NewMap(n), label.NewMap(n), newPages(n)
	for _, s := range cfg.Legs {
		c.add(s)
	}
	if c.with(func(l *leg) bool { return l.spec == Member }) == 0 {
		return nil, fmt.Errorf("mirror %v: SQL names no member", cfg.Mirror)
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
	clean := fresh || newest != nil && newest.Clean
	for i := range c.legs {
		l := &c.legs[i]
		joining := newest != nil && newest.Term == cfg.Term && newest.Gen == cfg.Gen && slices.Contains(newest.Joining, l.vd)
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
			l.lost, l.why = true, "it was not reached"
		case fresh:
		case seen[k].Label == nil:
			l.lost, l.why = true, "it has no label of this mirror"
		case seen[k].Label.Seq < newest.Confirmed:
			l.lost, l.why = true, "its disk has gone back in time"
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

// newest returns the label of the members with the highest seq, nil when the
// mirror is fresh.
func (c *Core) newest(seen []Seen) (newest *label.Label, err error) {
	for _, s := range seen {
		l := s.Label
		i, known := c.Find(s.VD)
		switch {
		case l == nil || !known:
			continue
		case l.Mirror != c.cfg.Mirror || l.VD != s.VD:
			return nil, fmt.Errorf("mirror %v: vd %v carries the label of vd %v in mirror %v", c.cfg.Mirror, s.VD, l.VD, l.Mirror)
		case l.DataSize != c.cfg.DataSize || l.RegionSize != c.regionSize:
			return nil, fmt.Errorf("mirror %v: vd %v has %d bytes of data in regions of %d; SQL says %d", c.cfg.Mirror, s.VD,
				l.DataSize, l.RegionSize,
				c.cfg.DataSize)
		case l.Term > c.cfg.Term || l.Gen > c.cfg.Gen:
			return nil, fmt.Errorf("mirror %v: the label of vd %v has term %d and gen %d, SQL has %d and %d: %w",
				c.cfg.Mirror, s.VD, l.Term, l.Gen, c.cfg.Term, c.cfg.Gen, ErrAhead)
		}
		if c.legs[i].spec == Member && (newest == nil || l.Seq > newest.Seq) {
			newest = l
		}
	}
	if newest == nil && !c.cfg.Fresh {
		return nil, fmt.Errorf("mirror %v: no member was reached that has a label of it", c.cfg.Mirror)
	}
	return newest, nil
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
