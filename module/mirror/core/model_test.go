package core_test

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// The model is a mirror with its legs, SQL, primaries that die, and a host that
// checks what it reads. All happens in fake time, in an order that a seed draws.

const (
	region   = 4 << 20
	regions  = 6
	dataSize = regions*region - region/2
	block    = 64 << 10 // what the host reads and writes
	step     = time.Millisecond
)

var mirrorID, arrayID = label.ID{0: 0xaa}, label.ID{0: 0xda}

func vdID(n int) label.ID { return label.ID{0: 0xb0, 15: byte(n)} }

// disk is a leg's medium: what is durable, and a write cache above it.
type disk struct {
	vd     label.ID
	up     bool
	epoch  int // of the admission; commands of an older one are refused
	boots  int // how often it lost its cache
	data   map[uint64]uint64
	cache  map[uint64]uint64
	slots  []byte
	pages  [][]byte
	sick   bool // its writes fail
	unread int  // its reads of this region fail; 0: none
	broken bool // its connection to the present primary broke
	bare   bool // it has no room for a label
}

func newDisk(n int) *disk {
	d := &disk{vd: vdID(n), up: true, data: map[uint64]uint64{}, cache: map[uint64]uint64{}, slots: make([]byte, 2*label.SlotSize)}
	for range label.Pages(regions) {
		d.pages = append(d.pages, make([]byte, label.SlotSize))
	}
	return d
}

func (d *disk) boot() label.ID { return label.ID{0: 1, 1: byte(d.boots)} }

func (d *disk) read(b uint64) uint64 {
	if v, ok := d.cache[b]; ok {
		return v
	}
	return d.data[b]
}

func (d *disk) flush() {
	for b, v := range d.cache {
		d.data[b] = v
	}
	clear(d.cache)
}

// row is what SQL says of a leg.
type row struct {
	disk *disk
	role core.Role
}

// primary is a core and the actions it waits for.
type primary struct {
	said    said // what it said last
	looked  bool // it has said something
	c       *core.Core
	term    uint64
	pending []pending
	admits  map[int]int // by place: the epoch of the leg's disk that it was admitted with
	disks   map[int]*disk
	memory  map[*core.IO]map[uint64]uint64 // of the mirror's own I/O
	apart   map[apart]map[uint64]uint64    // of a scrub: what each leg was read to hold
}

type apart struct {
	io  *core.IO
	leg core.Leg
}

type pending struct {
	a     core.Action
	d     *disk
	epoch int
}

// request is what the host has under way.
type request struct {
	b     uint64
	value uint64 // of a write
	begun int    // order of its submission
	alone bool   // no other was under way on its block at the same time
	io    *core.IO
}

// history is what a block may hold, for a host.
type history struct {
	may     []uint64 // what it was last seen to hold, and writes since whose outcome is open
	since   []uint64 // all that it may have held since the last flush
	changed int      // order of the last beginning or end of a write
	busy    int
}

type model struct {
	rng  *rand.Rand
	cfg  core.Config
	now  time.Duration
	rows []*row
	term uint64
	gen  uint64
	up   bool        // was up once
	past []core.Role // what SQL said before the last change of members
	back bool        // SQL has lost that change; nothing starts before all legs are seen
	p    *primary

	blocks   map[uint64]*history
	cuts     map[*disk]int // that lost their cache since the last acknowledged flush: when
	order    int
	noLabels bool // labels are never written
	lazy     bool // disks write back when they must
	deaf     bool // the primary dies before it hears of a change
	unjoined bool // SQL makes no leg a member
	lives    bool // it never does
	alone    bool // agent and monitor do nothing
	rests    bool // the host leaves regions alone for a while
	number   uint64
	reqs     map[*core.IO]*request
	log      []string
	wrong    string
	acks     int
	reads    int
	drops    int
	joins    int
	moves    int
	resumes  int

	scrubs   int      // a scrub begins, one in so many steps
	right    label.ID // leg that a scrub repairs from
	planted  int      // blocks in which a leg holds something else
	scrubbed uint64
}

func newModel(seed uint64, legs int, breach core.Breach) *model {
	m := &model{rng: rand.New(rand.NewPCG(seed, 7)), blocks: map[uint64]*history{}, cuts: map[*disk]int{}, reqs: map[*core.IO]*request{},
		term: 1, gen: 1, rests: seed/3%2 > 0, scrubs: int(seed/12%2) * 50}
	m.cfg = core.Config{DA: arrayID, Mirror: mirrorID, DataSize: dataSize, Idle: 200 * time.Millisecond, Heard: time.Hour,
		Hold:     300 * time.Millisecond,
		CopyStep: region / 4, HostStep: region / 4, CopyDepth: 2, Break: breach}
	for i := range legs {
		m.rows = append(m.rows, &row{disk: newDisk(i), role: core.Member})
	}
	return m
}

func (m *model) printf(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%6d  ", m.now.Milliseconds())+fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
		m.printf("WRONG: %s", m.wrong)
	}
}

func (m *model) specs() (specs []core.LegSpec) {
	for _, r := range m.rows {
		specs = append(specs, core.LegSpec{VD: r.disk.vd, Role: r.role, Bare: r.disk.bare})
	}
	return specs
}

// found reads a disk's label and map.
func (d *disk) found() (*label.Label, *label.Map) {
	l, err := label.Decode(d.slots)
	if err != nil {
		return nil, nil
	}
	bits := label.NewMap(regions)
	for i, p := range d.pages {
		bits.DecodePage(p, mirrorID, i)
	}
	return &l, bits
}

// start makes the next primary: it fences the disks that it reaches, and
// assembles.
func (m *model) start() {
	var seen []core.Seen
	p := &primary{term: m.term, admits: map[int]int{}, disks: map[int]*disk{}, memory: map[*core.IO]map[uint64]uint64{},
		apart: map[apart]map[uint64]uint64{}}
	for i, r := range m.rows {
		p.disks[i] = r.disk
		r.disk.broken = false
		if !r.disk.up || r.role == core.Absent {
			continue
		}
		r.disk.epoch++
		p.admits[i] = r.disk.epoch
		if r.role == core.Member || r.role == core.Target {
			l, bits := r.disk.found()
			seen = append(seen, core.Seen{VD: r.disk.vd, Label: l, Map: bits, Epoch: r.disk.boot(), NoTail: r.disk.bare})
		}
	}
	cfg := m.cfg
	cfg.Term, cfg.Gen, cfg.Legs, cfg.Fresh = m.term, m.gen, m.specs(), !m.up
	if m.back && slices.ContainsFunc(m.rows, func(r *row) bool { return !r.disk.up }) {
		return
	}
	for _, r := range m.rows {
		if l, bits := r.disk.found(); m.back && r.role == core.Absent && l != nil {
			seen = append(seen, core.Seen{VD: r.disk.vd, Label: l, Map: bits, Epoch: r.disk.boot()})
		}
	}
	c, err := core.New(cfg, seen)
	if errors.Is(err, core.ErrAhead) && m.back {
		m.adopt()
		return
	}
	m.back = false
	if err != nil {
		if m.up && !strings.Contains(err.Error(), "no member was reached") {
			m.fail("assembly: %v", err)
		}
		m.printf("not assembled: %v", err)
		return
	}
	c.Tick(m.now)
	p.c = c
	m.p = p
	m.printf("primary of term %d, gen %d: %v", m.term, m.gen, status(c))
}

func status(c *core.Core) string {
	var s []string
	for _, l := range c.Status().Legs {
		text := fmt.Sprintf("%x %v", l.VD[15], l.Role)
		if l.Lost {
			text += " lost"
		}
		if l.Ready {
			text += " ready"
		}
		s = append(s, text)
	}
	return strings.Join(s, ", ")
}

// adopt has SQL take over what the newest label says, as an operator does when
// SQL has gone back in time.
func (m *model) adopt() {
	newest := m.newest()
	m.gen = newest.Gen
	for _, r := range m.rows {
		if r.role = core.Absent; slices.Contains(newest.Members, r.disk.vd) {
			r.role = core.Member
		}
	}
	m.relax()
	m.printf("SQL takes over gen %d of the labels", m.gen)
}

// forgetChange has SQL lose its last change of members, as the primary that
// asked for it dies.
func (m *model) forgetChange() {
	if m.past == nil {
		return
	}
	m.crash()
	m.gen--
	for i, r := range m.rows {
		r.role = m.past[i]
	}
	m.past, m.back = nil, true
	m.relax()
	m.printf("SQL is back at gen %d", m.gen)
}

// crash ends the primary. What it had under way happens or does not. Sometimes
// it goes on unaware, as long as nothing tells it.
func (m *model) crash() {
	m.term++
	m.moves++
	m.printf("the primary of term %d dies", m.term-1)
	m.forget()
}

// forget ends the present core.
func (m *model) forget() {
	for _, r := range m.reqs {
		m.block(r.b).busy--
	}
	clear(m.reqs)
	if m.p != nil {
		m.settlePending(m.p)
	}
	m.p = nil
}

// settlePending ends what a primary has under way: it happens or does not.
func (m *model) settlePending(p *primary) {
	for _, x := range m.rng.Perm(len(p.pending)) {
		if a := p.pending[x]; m.rng.IntN(2) == 0 {
			m.execute(p, a)
		}
	}
}

// execute carries an action out on its disk.
func (m *model) execute(p *primary, x pending) core.Result {
	d, a := x.d, x.a
	if !d.up || d.broken || x.epoch != d.epoch {
		return core.Path
	}
	first, last := uint64(0), uint64(0)
	if a.IO != nil {
		first, last = a.IO.Off/block, (a.IO.Off+a.IO.Len+block-1)/block
	}
	switch a.Kind {
	case core.ReadLeg:
		if r := m.row(d.vd); a.IO.Op == core.Read && r != nil && r.role == core.Target {
			m.fail("a host reads from a target")
		}
		if d.unread > 0 && a.IO.Off/region == uint64(d.unread) {
			return core.Media
		}
		mem := p.of(a.IO)
		if a.IO.Scrubs() {
			mem = map[uint64]uint64{}
			p.apart[apart{a.IO, a.Leg}] = mem
		}
		for b := first; b < last; b++ {
			mem[b] = d.read(b)
		}
	case core.WriteLeg:
		if d.sick {
			return core.Media
		}
		mem := p.of(a.IO)
		if a.IO.Scrubs() {
			mem = p.apart[apart{a.IO, a.IO.From()}]
		}
		for b := first; b < last; b++ {
			d.cache[b] = mem[b]
		}
		if !m.lazy && m.rng.IntN(4) == 0 {
			d.flush() // disks write back when they like
		}
	case core.FlushLeg:
		d.flush()
	case core.WriteMap, core.WriteLabel:
		if d.bare {
			m.fail("%v is written to a leg that has no room for it", a.Kind)
		}
	}
	switch a.Kind {
	case core.WriteMap:
		copy(d.pages[a.Page], a.Bytes)
	case core.WriteLabel:
		b, err := a.Label.Encode()
		if err != nil {
			m.fail("label: %v", err)
			return core.Media
		}
		copy(d.slots[label.Slot(a.Label.Seq):], b)
	}
	return core.OK
}

func (p *primary) of(io *core.IO) map[uint64]uint64 {
	if p.memory[io] == nil {
		p.memory[io] = map[uint64]uint64{}
	}
	return p.memory[io]
}

// most is which legs hold what the most hold, of those that were read for a scrub.
func (p *primary) most(a core.Action) core.LegSet {
	for i := range p.disks {
		same := core.LegSet(0)
		for j := range p.disks {
			x, y := p.apart[apart{a.IO, core.Leg(i)}], p.apart[apart{a.IO, core.Leg(j)}]
			if a.Legs.Has(core.Leg(i)) && a.Legs.Has(core.Leg(j)) && maps.Equal(x, y) {
				same |= 1 << j
			}
		}
		if n := bits.OnesCount32(uint32(same)); 2*n > bits.OnesCount32(uint32(a.Legs)) {
			return same
		}
	}
	return 0
}

// take has the primary's actions become pending, and ends what is complete.
func (m *model) take() {
	p := m.p
	for {
		actions := p.c.Take(nil)
		if len(actions) == 0 {
			return
		}
		for _, a := range actions {
			switch a.Kind {
			case core.Complete:
				m.completed(a)
				delete(p.memory, a.IO)
				for l := range p.disks {
					delete(p.apart, apart{a.IO, core.Leg(l)})
				}
			case core.Compare:
				p.c.Compared(a.IO, p.most(a))
			case core.Detach:
				delete(p.admits, int(a.Leg))
			case core.Stopped:
			case core.WriteLabel:
				if m.noLabels {
					continue
				}
				fallthrough
			default:
				p.pending = append(p.pending, pending{a, p.disks[int(a.Leg)], p.admits[int(a.Leg)]})
			}
		}
	}
}

func (m *model) submit() {
	b := uint64(m.rng.IntN(8))
	if m.rests { // regions do, for a while: the host works in two places at a time
		b = (uint64(m.now/(400*time.Millisecond))*3 + b%2) % 8
	}
	b *= dataSize / block / 8
	if m.rng.IntN(3) > 0 { // some blocks are used often, others leave traces
		b += uint64(m.rng.IntN(dataSize / block / 8))
	}
	m.order++
	io := &core.IO{Off: b * block, Len: block}
	r := &request{b: b, io: io, begun: m.order}
	h := m.block(b)
	switch {
	case m.rng.IntN(12) == 0:
		io.Op, io.Off, io.Len = core.Flush, 0, 0
	case m.rng.IntN(2) == 0:
		m.number++
		io.Op, r.value = core.Write, m.number
		m.p.of(io)[b] = r.value
		h.may, h.since = append(h.may, r.value), append(h.since, r.value)
		h.changed = m.order
	default:
		io.Op = core.Read
	}
	if r.alone = h.busy == 0; !r.alone {
		for _, other := range m.reqs {
			other.alone = other.alone && other.b != b
		}
	}
	h.busy++
	m.reqs[io] = r
	m.p.c.Submit(io)
}

func (m *model) block(b uint64) *history {
	if m.blocks[b] == nil {
		m.blocks[b] = &history{may: []uint64{0}, since: []uint64{0}}
	}
	return m.blocks[b]
}

// completed judges what the host sees.
func (m *model) completed(a core.Action) {
	r := m.reqs[a.IO]
	if r == nil {
		return
	}
	delete(m.reqs, a.IO)
	h := m.block(r.b)
	h.busy--
	if m.order++; a.IO.Op == core.Write {
		h.changed = m.order
	}
	switch {
	case a.Result == core.Media:
		m.fail("the host sees a media error at block %d, and one leg alone is sick", r.b)
	case a.Result != core.OK: // whether it was written is open
	case a.IO.Op == core.Flush:
		for d, at := range m.cuts {
			if at < r.begun {
				delete(m.cuts, d)
			}
		}
		for _, h := range m.blocks {
			if h.changed < r.begun {
				h.since = slices.Clone(h.may)
			}
		}
	case a.IO.Op == core.Write:
		m.acks++
		if r.alone {
			h.may = []uint64{r.value}
		}
	default:
		m.reads++
		v := m.p.memory[a.IO][r.b]
		if !slices.Contains(h.may, v) {
			m.fail("lost write: block %d reads %d; it may be one of %v", r.b, v, h.may)
		} else if r.alone {
			h.may = []uint64{v}
		}
	}
}

// faults happen with these odds, one in so many steps.
type faults struct {
	crash, down, up, cut, breaks, sick, back int
}

// run runs the model for a while and then lets everything be well.
func (m *model) run(steps int, f faults) {
	m.start()
	for i := range steps {
		m.now += step
		if m.one(f.crash) {
			m.crash()
		}
		if m.one(f.back) {
			m.forgetChange()
		}
		if m.p == nil && m.one(20) {
			m.start()
		}
		m.disturb(f)
		if m.p != nil {
			m.turn(i%2 == 0)
		}
		if m.wrong != "" {
			return
		}
	}
	m.mend()
}

// mend lets everything be well, waits until the mirror is whole, and compares
// its legs.
func (m *model) mend() {
	m.printf("faults end")
	for _, r := range m.rows {
		if r.disk.sick = false; !r.disk.up {
			r.disk.up = true
			r.disk.epoch++
		}
	}
	for i := 0; ; i++ {
		m.now += step
		if m.p == nil {
			m.start()
		}
		if m.p != nil {
			m.turn(false)
		}
		if m.p != nil && m.whole() {
			break
		}
		if m.wrong != "" {
			return
		}
		if i == 20000 {
			what := "no primary"
			if m.p != nil {
				what = fmt.Sprintf("%v, %d bits, %d actions", status(m.p.c), m.p.c.Marked(), len(m.p.pending))
			}
			m.fail("not whole: %s, %d requests", what, len(m.reqs))
			return
		}
	}
	m.compare()
}

func (m *model) one(in int) bool { return in > 0 && m.rng.IntN(in) == 0 }

// disturb makes faults happen to disks.
func (m *model) disturb(f faults) {
	for i, r := range m.rows {
		d := r.disk
		switch {
		case d.up && m.one(f.down):
			d.up = false
			if m.one(f.cut) {
				clear(d.cache)
				d.boots++
				m.order++
				m.cuts[d] = m.order
				m.relax()
				m.printf("disk %d loses power", i)
			} else {
				m.printf("disk %d is away", i)
			}
		case d.up && m.one(f.breaks):
			d.broken = true
			m.printf("the connection to disk %d breaks", i)
		case d.up && m.one(f.sick) && !slices.ContainsFunc(m.rows, func(r *row) bool { return r.disk.sick }):
			d.sick = true
			m.printf("writes of disk %d fail", i)
		case d.sick && m.one(100):
			d.sick = false
		case !d.up && m.one(f.up):
			d.up = true
			d.epoch++ // its connections are gone
			m.printf("disk %d is back", i)
		}
	}
}

// relax takes back what was not flushed when all members that have all data have
// lost their caches since: that is what a volatile write cache may do.
func (m *model) relax() {
	if slices.ContainsFunc(m.rows, func(r *row) bool { return m.complete(r) && m.cuts[r.disk] == 0 }) {
		return
	}
	for _, h := range m.blocks {
		h.may = slices.Clone(h.since)
	}
	for _, r := range m.reqs {
		r.alone = false
	}
}

// turn lets the primary, its disks, the host and the control plane do something.
func (m *model) turn(host bool) {
	p := m.p
	p.c.Tick(m.now)
	m.take()
	if host && len(m.reqs) < 6 {
		m.submit()
		m.take()
	}
	m.scrub()
	for range 1 + m.rng.IntN(8) {
		if len(p.pending) == 0 {
			break
		}
		i := m.rng.IntN(len(p.pending)) // disks serve in any order
		x := p.pending[i]
		p.pending = slices.Delete(p.pending, i, i+1)
		p.c.Done(x.a, m.execute(p, x))
		m.take()
	}
	m.up = m.up || p.c.Status().Online
	m.told()
	if m.one(4) && !m.alone {
		m.control()
	}
}

// told fails when what is said of the mirror is another, though no change was counted: those who
// wait for changes would not hear of it.
func (m *model) told() {
	p := m.p
	s := p.c.Status()
	now := said{changes: p.c.Changes(), gen: s.Gen, assembled: s.Assembled, running: s.Scrub.Running, ended: s.Scrub.Ended}
	for i, l := range s.Legs {
		now.legs[i] = core.LegStatus{Role: l.Role, Lost: l.Lost, Ready: l.Ready, CatchingUp: l.CatchingUp, Connected: l.Connected}
	}
	if p.said.changes == now.changes && p.said != now && p.looked {
		m.fail("no change was counted from %+v to %+v", p.said, now)
	}
	p.said, p.looked = now, true
}

// said is what is said of a mirror but for bytes.
type said struct {
	changes, gen              uint64
	assembled, running, ended bool
	legs                      [8]core.LegStatus
}

// scrub has all legs compared, again and again. What it finds was planted.
func (m *model) scrub() {
	s := m.p.c.Status().Scrub
	if s.Mismatches > 0 && m.planted == 0 {
		m.fail("a scrub finds %d blocks in which legs differ, at %v", s.Mismatches, s.Offsets)
	}
	if m.scrubs > 0 && !s.Running && m.p.c.Status().Online && m.one(m.scrubs) {
		if err := m.p.c.Scrub(m.right); err != nil {
			m.fail("scrub: %v", err)
		}
		m.scrubbed += s.Done
		m.take()
	}
}

// control is the agent and the monitor: what the core reports goes to SQL, and
// what SQL says goes to the core, unless the primary dies in between.
func (m *model) control() {
	p := m.p
	s := p.c.Status()
	answers := func(skip int) bool {
		for j, l := range s.Legs {
			if j != skip && l.Connected && m.role(l.VD) == core.Member {
				return true
			}
		}
		return false
	}
	var before []core.Role
	for _, r := range m.rows {
		before = append(before, r.role)
	}
	for i, l := range s.Legs {
		r := m.row(l.VD)
		if r == nil {
			continue
		}
		idle := !slices.ContainsFunc(p.pending, func(x pending) bool { return x.d == r.disk })
		switch {
		case l.Lost && r.role != core.Absent && answers(i) && m.one(3):
			r.role = core.Absent
			r.disk.epoch++
			m.drops++
			m.relax()
			m.change(true, before)
			m.printf("SQL drops %x: %s", l.VD[15], l.Why)
			return
		case l.Lost && r.disk.up && !s.Assembled:
			m.forget()
			m.start()
			return
		case l.Lost && r.disk.up && !r.disk.sick && idle && m.one(3):
			r.disk.broken = false
			r.disk.epoch++
			p.admits[i] = r.disk.epoch
			has, _ := r.disk.found()
			if err := p.c.Resume(core.Leg(i), has, r.disk.boot()); err == nil {
				m.resumes++
				m.printf("%x is back: %v", l.VD[15], status(p.c))
			}
			m.take()
			return
		case l.Ready && r.role == core.Target && !m.unjoined:
			r.role = core.Member
			if k := slices.IndexFunc(m.rows, func(r *row) bool { return r.disk.bare }); k >= 0 { // it is moved
				m.rows, before = slices.Delete(m.rows, k, k+1), nil
			}
			m.joins++
			m.change(true, before)
			m.printf("SQL has %x joined", l.VD[15])
			return
		case r.role == core.Absent && r.disk.up && !r.disk.sick && !r.disk.bare && m.one(20):
			r.role = core.Target
			m.change(false, before)
			return
		case r.role == core.Target && l.Role == core.Absent && r.disk.up && !r.disk.sick && idle && s.Online && m.one(5):
			r.disk.broken = false
			r.disk.epoch++
			p.admits[i] = r.disk.epoch
			has, bits := r.disk.found()
			if err := p.c.Attach(core.Leg(i), has, bits, r.disk.boot()); err != nil {
				m.fail("attach: %v", err)
			}
			m.take()
			return
		}
	}
}

// change tells the core what SQL says now, or the primary dies before it hears.
func (m *model) change(members bool, before []core.Role) {
	if members {
		m.gen++
		m.past = before
	}
	if m.deaf || m.one(6) && !m.lives {
		m.crash()
		return
	}
	if err := m.p.c.Set(m.term, m.gen, m.specs()); err != nil {
		m.fail("set: %v", err)
	}
	m.take()
}

// newest returns the newest label of any disk, and an empty one before there is
// one.
func (m *model) newest() (newest label.Label) {
	for _, r := range m.rows {
		if l, _ := r.disk.found(); l != nil && (l.Gen > newest.Gen || l.Gen == newest.Gen && l.Seq >= newest.Seq) {
			newest = *l
		}
	}
	return newest
}

// complete reports that a leg is a member that does not catch up.
func (m *model) complete(r *row) bool {
	newest := m.newest()
	member := r.role == core.Member
	if m.back {
		member = slices.Contains(newest.Members, r.disk.vd)
	}
	if m.p != nil {
		for _, l := range m.p.c.Status().Legs {
			if l.VD == r.disk.vd {
				return member && !l.CatchingUp
			}
		}
	}
	return member && !slices.Contains(newest.CatchingUp, r.disk.vd)
}

func (m *model) row(vd label.ID) *row {
	for _, r := range m.rows {
		if r.disk.vd == vd {
			return r
		}
	}
	return nil
}

func (m *model) role(vd label.ID) core.Role {
	if r := m.row(vd); r != nil {
		return r.role
	}
	return core.Absent
}

// whole reports that all legs are members that have answered everything, and no
// bit is set any more.
func (m *model) whole() bool {
	for _, r := range m.rows {
		if r.role != core.Member || r.disk.broken {
			return false
		}
	}
	s := m.p.c.Status()
	return s.Online && s.Repair == 0 && len(m.reqs) == 0 && len(m.p.pending) == 0 && m.p.c.Marked() == 0
}

// compare finds legs that differ: no bit is set, so none may (M13).
func (m *model) compare() {
	rows := slices.DeleteFunc(slices.Clone(m.rows), func(r *row) bool { return r.role != core.Member })
	for b := range uint64(dataSize / block) {
		for _, r := range rows[1:] {
			if x, y := rows[0].disk.read(b), r.disk.read(b); x != y {
				m.fail("legs differ in block %d: %d and %d", b, x, y)
			}
		}
	}
}

// What follows is for orders of events that are written down.

// begin submits a write of the next number to a block.
func (m *model) begin(b uint64) {
	m.number++
	m.order++
	h := m.block(b)
	io := &core.IO{Op: core.Write, Off: b * block, Len: block}
	m.p.of(io)[b] = m.number
	h.may, h.since, h.changed = append(h.may, m.number), append(h.since, m.number), m.order
	h.busy++
	m.reqs[io] = &request{b: b, value: m.number, begun: m.order, alone: true, io: io}
	m.p.c.Submit(io)
	m.take()
}

// write submits a write and waits until it has ended, if it ends.
func (m *model) write(b uint64) {
	m.begin(b)
	m.await()
}

// read reads a block, likewise.
func (m *model) read(b uint64) {
	m.pass(20 * time.Millisecond)
	m.ask(b)
	m.await()
}

// ask has the host send a read.
func (m *model) ask(b uint64) {
	m.order++
	io := &core.IO{Op: core.Read, Off: b * block, Len: block}
	m.block(b).busy++
	m.reqs[io] = &request{b: b, begun: m.order, alone: true, io: io}
	m.p.c.Submit(io)
	m.take()
}

// await lets time pass until the host waits for nothing.
func (m *model) await() {
	for range 1000 {
		if m.p == nil || len(m.reqs) == 0 {
			return
		}
		m.now += step
		m.turn(false)
	}
}

// pass lets time pass.
func (m *model) pass(d time.Duration) {
	for end := m.now + d; m.now < end; {
		m.now += step
		if m.p == nil {
			m.start()
		}
		if m.p != nil {
			m.turn(false)
		}
	}
}

// powerCut has a disk lose its cache and its connections.
func (m *model) powerCut(i int) {
	d := m.rows[i].disk
	clear(d.cache)
	d.boots++
	d.epoch++
	m.order++
	m.cuts[d] = m.order
	m.relax()
}

// only carries out so many pending actions of a kind.
func (m *model) only(kind core.Kind, n int) {
	for ; n > 0; n-- {
		i := slices.IndexFunc(m.p.pending, func(x pending) bool { return x.a.Kind == kind })
		if i < 0 {
			return
		}
		x := m.p.pending[i]
		m.p.pending = slices.Delete(m.p.pending, i, i+1)
		m.p.c.Done(x.a, m.execute(m.p, x))
		m.take()
	}
}
