package core

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// Role is what a leg is; see the package comment.
type Role uint8

// The roles. SQL knows Absent (as "stale" or "leaving"), Target and Member.
const (
	Absent Role = iota
	Target
	Joining
	Member
)

func (r Role) String() string { return [...]string{"absent", "target", "joining", "member"}[r] }

// Result is how a read or write of a leg ended.
type Result uint8

// The results.
const (
	OK    Result = iota
	Path         // the leg was not reached; a later attempt may do better
	Media        // the leg has answered with an error of its disk
)

// Leg is a leg's place in a mirror, from 0. A leg keeps its place as long as it
// is named.
type Leg int

// LegSet is a set of legs.
type LegSet uint32

// Has reports whether a leg is in the set.
func (s LegSet) Has(l Leg) bool { return s>>l&1 != 0 }

func set(l Leg) LegSet { return 1 << l }

// LegSpec is what SQL says of a leg.
type LegSpec struct {
	VD   label.ID
	Role Role   // Absent, Target or Member
	Name string // of its bdev, for errors
	// Bare says that the leg may have no label: it has no room for one behind its
	// data, or has had for a short while. It must be the only member then.
	Bare bool
}

// Config says what a mirror is.
type Config struct {
	DA, Mirror label.ID
	// DataSize is the size of the mirror in bytes, a multiple of 4096.
	DataSize uint64
	// Term is the array's, Gen counts the sets of members that SQL has given.
	Term, Gen uint64
	Legs      []LegSpec
	// Fresh says that SQL does not know that the mirror was ever up: its legs are
	// zeroed, and may have no labels yet.
	Fresh bool
	// Recovered is the gen of the last set by which a user has had the mirror go on with
	// members that may lack writes; 0: none has. Labels of a later gen that have all
	// members catching up are of a set that leaves out the legs with all data, which no
	// primary has agreed to.
	Recovered uint64

	// Hold is how long I/O waits for a lost leg until it ends with Path. Default
	// 2 s.
	Hold time.Duration
	// Heard is how long after a member was heard of it may be read. Default 3 s.
	Heard time.Duration
	// Idle is how long a region rests until its bit is cleared. Default 10 s.
	Idle time.Duration
	// Hot is how many bits may be set; above, the regions that have rested longest
	// are cleared before Idle is over. Default 4,096.
	Hot int
	// CopyStep is how much is copied at a time, in bytes. Default 256 KiB.
	CopyStep uint64
	// HostStep is CopyStep beside I/O of hosts, and for 0.1 s after it. Default 32 KiB.
	HostStep uint64
	// CopyRate bounds what is copied, in bytes per second. 0: no bound.
	CopyRate uint64
	// Budget bounds what this mirror copies together with others; nil: nothing does.
	Budget Budget
	// CopyDepth is how many copies run at a time. Default 4.
	CopyDepth int

	// Break leaves a rule out, so that a test can show that its breach is found.
	Break Breach
}

// Budget is what several mirrors may copy together.
type Budget interface {
	// Left is how many bytes may be copied now; a step may begin while it is above 0.
	Left() int64
	// Spend takes bytes from it, also those that it has not.
	Spend(bytes uint64)
}

// Breach is a rule that is left out.
type Breach uint8

// The rules that can be left out.
const (
	Nothing           Breach = iota
	AckBeforeLabel           // M3: a write is acknowledged before labels say who lacks it
	ClearWithoutFlush        // M5: bits are cleared without a flush of the legs
	NoIntent                 // M5: data are written before the bit is durable
	NoOrder                  // M12: overlapping writes run side by side
	NoRepair                 // M6: regions are read before they are repaired
	NoJoining                // D ⊇ S: a target is reported ready before labels have it joining
	ClearWhileAbsent         // M5: bits are cleared while a leg is absent
	NoCopy                   // a leg that is back is taken for one that lacks nothing
	LastCatchesUp            // members that catch up may do without those that have all writes
	StartsCatchingUp         // and so they may when the mirror is assembled, though no user has said so
)

func (c *Config) fill() {
	c.Hold = cmp.Or(c.Hold, 2*time.Second)
	c.Heard = cmp.Or(c.Heard, 3*time.Second)
	c.Idle = cmp.Or(c.Idle, 10*time.Second)
	c.Hot = cmp.Or(c.Hot, 4096)
	c.CopyStep = cmp.Or(c.CopyStep, 256<<10)
	c.HostStep = cmp.Or(c.HostStep, 32<<10)
	c.CopyDepth = cmp.Or(c.CopyDepth, 4)
}

// Kind is what an action is.
type Kind uint8

// The actions. Each but Complete and Stopped is to be reported once with Done,
// also when its leg has been lost meanwhile.
const (
	// ReadLeg reads the range of IO from Leg into IO's memory.
	ReadLeg Kind = iota
	// WriteLeg writes IO's memory, or zeros for Zero, to its range on Leg.
	WriteLeg
	// FlushLeg makes all that was written to Leg durable.
	FlushLeg
	// WriteMap writes Bytes to page Page of Leg's map, durable.
	WriteMap
	// WriteLabel writes Label to Leg, durable.
	WriteLabel
	// Compare compares what was read from Legs for IO, and is reported with
	// Compared.
	Compare
	// Complete ends IO with Result.
	Complete
	// Detach gives Leg up: nothing is asked of it any more.
	Detach
	// Stopped says that the mirror is at rest and its labels say whether it is
	// clean.
	Stopped
)

// Action is something to be done.
type Action struct {
	Kind   Kind
	Leg    Leg
	IO     *IO // of ReadLeg, WriteLeg, Complete; of FlushLeg too
	Result Result
	Legs   LegSet // of Compare
	Page   int
	Bytes  []byte
	Label  *label.Label

	own bool // of WriteMap: the page is of the map of what the leg itself lacks
}

// leg is what the core knows of one.
type leg struct {
	vd    label.ID
	name  string
	spec  Role // what SQL says
	role  Role
	bare  bool // it has no tail: neither label nor map are written to it
	lost  bool // in D and not answering: I/O waits
	why   string
	heard time.Duration
	seq   uint64 // of the last label that it has
	epoch label.ID
	reads int // that it serves now
	under int // actions that are not yet reported

	// Of a target.
	lack     *label.Map    // what its map says that it lacks
	pages    pages         // of that map
	jobs     []*job        // that copy to it
	hand     int           // where the next region to copy is looked for
	copied   []int         // regions of lack that were copied and not flushed
	flushed  []int         // those of them that the flush under way is about
	flushAt  time.Duration // when some that were copied are flushed
	flushing bool          // a flush of the mirror's own is under way
	attached bool          // its map is durable: what it lacks is known for ever
	settling bool          // it lacks nothing, and becomes Joining when labels say so
	whole    bool          // settling, all older writes have ended and are flushed
	drained  bool          // whole, and the next label has it joining
	ready    bool          // Joining, and labels say so: SQL may make it a member
}

// Core is a mirror. Its methods must not be called at the same time.
type Core struct {
	cfg        Config
	regionSize uint64
	now        time.Duration // since the mirror was made
	out        []Action

	legs   []leg
	online bool  // labels of this life are on all members
	source Leg   // regions are repaired from it
	unread []int // regions that were to be repaired or copied, and that no member could read when it was last tried
	seq    uint64
	sure   uint64         // seq of a label that all of D have had
	absent []label.Absent // as the next label says

	intent  *label.Map
	pages   pages          // of intent, on all of D
	setAt   map[int]uint64 // by region: the version of its page that has its bit, until that is durable
	used    map[int]time.Duration
	repair  *label.Map // regions that legs may differ in
	catch   LegSet     // members that may lack writes until the repair is done
	repairs []*job
	hand    int           // where the next repair is looked for
	rest    time.Duration // no copy begins before

	labels   labelRound
	labelled uint64 // gen that the labels of all members have
	alone    uint64 // seq of the first label since there is one leg and no trace of others; 0: there are
	told     uint64 // Confirmed of the last label
	relabel  bool   // another round is needed

	order    order
	waiting  []*IO // in the order of their submission
	starting bool  // startWaiting is under way
	running  []*IO // own their range; in no order
	clear    clearing
	scrub    scrub
	copies   int     // that run
	tokens   float64 // bytes that may be copied

	stopping, stopped bool
	yielded           bool // another core has taken its place

	changes uint64 // of what Status says of legs

	pass    int64 // of the last read
	passLeg Leg   // that serves it

	foreground int           // I/Os of hosts that are under way
	served     bool          // an I/O of a host has ended
	servedAt   time.Duration // when the last one did
	counters   Counters
}

// Changes counts the changes of what Status says, but for numbers of bytes.
func (c *Core) Changes() uint64 { return c.changes }

// Marked returns how many regions have their bit set.
func (c *Core) Marked() int { return c.intent.Count() }

// Regions returns how many regions the mirror has.
func (c *Core) Regions() int { return c.intent.Len() }

// RegionSize returns the bytes per region.
func (c *Core) RegionSize() uint64 { return c.regionSize }

// Take returns the actions that are to be carried out, in order, and forgets
// them. It takes dst's memory.
func (c *Core) Take(dst []Action) []Action {
	dst = append(dst[:0], c.out...)
	clear(c.out)
	c.out = c.out[:0]
	return dst
}

func (c *Core) do(a Action) {
	if a.Kind < Compare {
		c.legs[a.Leg].under++
	}
	c.out = append(c.out, a)
}

// with returns the legs that f holds for.
func (c *Core) with(f func(l *leg) bool) (s LegSet) {
	for i := range c.legs {
		if f(&c.legs[i]) {
			s |= set(Leg(i))
		}
	}
	return s
}

// from returns the legs of at least a role.
func (c *Core) from(r Role) (s LegSet) {
	for i := range c.legs {
		if c.legs[i].role >= r {
			s |= set(Leg(i))
		}
	}
	return s
}

// d is the set of legs that a write waits for.
func (c *Core) d() LegSet { return c.from(Joining) }

// waited is d and the targets that are about to join it.
func (c *Core) waited() (s LegSet) {
	for i := range c.legs {
		if l := &c.legs[i]; l.role >= Joining || l.settling {
			s |= set(Leg(i))
		}
	}
	return s
}

func (c *Core) members() LegSet { return c.from(Member) }

// written is the set of legs that a write goes to.
func (c *Core) written() LegSet { return c.from(Target) }

func (c *Core) lost() (s LegSet) {
	for i := range c.legs {
		if c.legs[i].lost {
			s |= set(Leg(i))
		}
	}
	return s
}

// held reports that no I/O may start or be acknowledged.
func (c *Core) held() bool {
	return !c.online || c.lost() != 0 || c.labelled != c.cfg.Gen && c.cfg.Break != AckBeforeLabel
}

// Solo reports that the mirror has one leg, in order, and labels that say so: I/O
// may go to it past the core, as nobody is there whom it could be lacking. A leg
// that is attached after that is copied whole.
func (c *Core) Solo() (Leg, bool) {
	solo, legs := c.named()
	if legs != 1 || c.legs[solo].role != Member || c.held() || c.stopping || c.repair.Count() > 0 {
		return 0, false
	}
	return solo, c.legs[solo].bare || !c.relabel && c.labels.pend == 0 && c.alone > 0 && c.told >= c.alone
}

// Heard says that a leg has answered something.
func (c *Core) Heard(l Leg) { c.legs[l].heard = c.now }

// named returns the last leg that is named, and how many are.
func (c *Core) named() (last Leg, n int) {
	for i := range c.legs {
		if c.legs[i].vd != (label.ID{}) {
			last, n = Leg(i), n+1
		}
	}
	return last, n
}

// Silent returns how long ago a leg was heard of.
func (c *Core) Silent(l Leg) time.Duration { return c.now - c.legs[l].heard }

// Now returns the time that the core was told last.
func (c *Core) Now() time.Duration { return c.now }

// Clock says that it is now, and has nothing done about it; see Tick.
func (c *Core) Clock(now time.Duration) {
	c.tokens = min(c.tokens+float64(c.cfg.CopyRate)*(now-c.now).Seconds(), float64(c.cfg.CopyRate))
	if c.foreground > 0 && now > c.now && c.held() {
		c.counters.Held += now - c.now
	}
	c.now = now
}

// Assembled reports that labels of this life are on all members.
func (c *Core) Assembled() bool { return c.online }

// Tick says that it is now. Time must not go back.
func (c *Core) Tick(now time.Duration) {
	c.Clock(now)
	c.expire()
	c.pump()
}

// pump starts what can start. What there is nothing of is not looked at: pump is
// called twice per I/O.
func (c *Core) pump() {
	if c.relabel {
		c.nextLabel()
	}
	c.startWaiting()
	if c.now >= c.clear.next {
		c.startClearing()
	}
	if c.repair.Count() > 0 || c.catch != 0 {
		c.startRepairs()
	}
	if c.scrub.running {
		c.startScrub()
	}
	if c.written() != c.d() {
		c.startCopies()
		c.join()
	}
	if c.stopping {
		c.stop()
	}
}

// Status is what an agent reports of a mirror.
type Status struct {
	Term, Gen uint64
	Assembled bool // labels of this life are on all members
	Online    bool // I/O is served
	Legs      []LegStatus
	Repair    uint64 // bytes that legs may differ in
	Scrub     ScrubStatus
}

// LegStatus is what an agent reports of a leg.
type LegStatus struct {
	VD   label.ID
	Role Role
	// Lost says that I/O waits for the leg, until SQL drops it or it is back.
	Lost bool
	Why  string
	// CatchingUp says that it is a member that may lack writes, as it broke while
	// another did not.
	CatchingUp bool
	// Connected says that it is a member that has all data: it may be the last.
	Connected bool
	// Ready says that SQL may make it a member.
	Ready bool
	// Lack is what a target lacks, in bytes.
	Lack uint64
}

// Status returns what is to be reported.
func (c *Core) Status() Status {
	s := Status{Term: c.cfg.Term, Gen: c.cfg.Gen, Assembled: c.online, Online: !c.held(), Repair: uint64(c.repair.Count()) * c.regionSize}
	s.Scrub = c.scrub.status
	s.Scrub.Offsets = slices.Clone(s.Scrub.Offsets)
	for i, l := range c.legs {
		st := LegStatus{VD: l.vd, Role: l.role, Lost: l.lost, Why: l.why, Ready: l.ready, CatchingUp: c.catch.Has(Leg(i)),
			Connected: l.role == Member && !l.lost && !c.catch.Has(Leg(i))}
		if l.role == Target && l.lack != nil {
			st.Lack = uint64(l.lack.Count()) * c.regionSize
			if l.why == "" {
				st.Why = c.unreadable(l.lack)
			}
		}
		s.Legs = append(s.Legs, st)
	}
	return s
}

// Find returns the place of a vd.
func (c *Core) Find(vd label.ID) (Leg, bool) {
	for i := range c.legs {
		if c.legs[i].vd == vd {
			return Leg(i), true
		}
	}
	return 0, false
}

// String names a leg in errors.
func (l *leg) String() string {
	if l.name == "" {
		return fmt.Sprintf("leg vd %v", l.vd)
	}
	return fmt.Sprintf("leg %q (vd %v)", l.name, l.vd)
}
