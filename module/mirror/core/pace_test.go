package core_test

import (
	"container/heap"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// paced is a mirror of two legs on disks that take their time, one request after the
// other, in fake time. Its data are not there: what it is about is how long I/O takes.
type paced struct {
	t     *testing.T
	c     *core.Core
	now   time.Duration
	free  [2]time.Duration // when a leg's disk has done what it was asked
	under events
	order int
	seen  [2]core.Seen
	ended map[*core.IO]time.Duration
	moved uint64 // bytes that the core has had copied
}

const (
	diskRate    = 500e6                 // bytes per second
	diskLatency = 80 * time.Microsecond // beside
	tebibyte    = 1 << 40
)

type event struct {
	at    time.Duration
	order int
	a     core.Action
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// assemble makes a core of what stands on the disks.
func (p *paced) assemble(cfg core.Config) {
	p.t.Helper()
	c, err := core.New(cfg, p.seen[:])
	if err != nil {
		p.t.Fatal(err)
	}
	p.c, p.now, p.under, p.free = c, 0, nil, [2]time.Duration{}
	p.until("online", func() bool { return p.c.Status().Online })
}

// carry has the disks begin what the core wants.
func (p *paced) carry() {
	for todo := p.c.Take(nil); len(todo) > 0; todo = p.c.Take(nil) {
		for _, a := range slices.Clone(todo) {
			size := uint64(label.SlotSize)
			switch a.Kind {
			case core.Complete:
				p.ended[a.IO] = p.now
				continue
			case core.ReadLeg, core.WriteLeg:
				size = a.IO.Len
				if a.Kind == core.WriteLeg && a.IO.Own() {
					p.moved += size
				}
			case core.FlushLeg:
				size = 0
			}
			p.free[a.Leg] = max(p.free[a.Leg], p.now) + time.Duration(float64(size)/diskRate*1e9)
			p.order++
			heap.Push(&p.under, event{p.free[a.Leg] + diskLatency, p.order, a})
		}
	}
}

// until lets time pass.
func (p *paced) until(what string, f func() bool) {
	p.t.Helper()
	const clock = 100 * time.Millisecond
	for tick := p.now; !f(); p.carry() {
		p.carry()
		if len(p.under) == 0 || p.under[0].at > tick {
			p.now, tick = max(p.now, tick), tick+clock
			if p.c.Tick(p.now); p.now > time.Hour {
				p.t.Fatalf("%s: not within an hour: %+v", what, p.c.Status())
			}
			continue
		}
		e := heap.Pop(&p.under).(event)
		p.now = e.at
		s := &p.seen[e.a.Leg]
		switch e.a.Kind {
		case core.WriteLabel:
			l := *e.a.Label
			s.Label = &l
		case core.WriteMap:
			if s.Map == nil {
				s.Map = label.NewMap(p.c.Regions())
			}
			from, to := e.a.Page*label.PageRegions, min((e.a.Page+1)*label.PageRegions, p.c.Regions())
			for r := from; r < to; r++ {
				s.Map.Clear(r)
			}
			s.Map.DecodePage(e.a.Bytes, mirrorID, e.a.Page)
		}
		p.c.Clock(p.now)
		p.c.Done(e.a, core.OK)
	}
}

// do has the host do an I/O, and returns how long it took.
func (p *paced) do(op core.Op, off uint64) time.Duration {
	io, begun := &core.IO{Op: op, Off: off, Len: 4096}, p.now
	p.c.Clock(p.now)
	p.c.Submit(io)
	p.until("an I/O ends", func() bool { _, over := p.ended[io]; return over })
	took := p.ended[io] - begun
	delete(p.ended, io)
	return took
}

func newPaced(t *testing.T, size uint64) (*paced, core.Config) {
	p := &paced{t: t, ended: map[*core.IO]time.Duration{}}
	legs := []core.LegSpec{{VD: vdID(0), Role: core.Member}, {VD: vdID(1), Role: core.Member}}
	p.seen = [2]core.Seen{{VD: vdID(0)}, {VD: vdID(1)}}
	cfg := core.Config{DA: arrayID, Mirror: mirrorID, DataSize: size, Term: 1, Gen: 1, Fresh: true, Legs: legs}
	p.assemble(cfg)
	cfg.Fresh = false
	return p, cfg
}

// TestResyncOfATebibyte: after a crash of the primary of a mirror of 1 TiB with a hot
// set of 4,096 regions these are repaired and nothing else, within a minute on disks
// that do 500 MB/s.
func TestResyncOfATebibyte(t *testing.T) {
	const hot = 4096
	p, cfg := newPaced(t, tebibyte)
	for r := range uint64(hot) {
		p.do(core.Write, r*64*p.c.RegionSize())
	}
	if n := p.c.Marked(); n != hot {
		t.Fatalf("%d regions are hot, not %d", n, hot)
	}
	cfg.Term, p.moved = 2, 0
	p.assemble(cfg) // the former primary is dead
	p.until("all is repaired", func() bool { return p.c.Status().Repair == 0 })
	t.Logf("%d MiB copied in %v", p.moved>>20, p.now.Round(time.Millisecond))
	if want := hot * p.c.RegionSize(); p.moved != want {
		t.Errorf("%d bytes were copied, not %d", p.moved, want)
	}
	if p.now > time.Minute {
		t.Errorf("the repair took %v", p.now)
	}
}

// TestHostsBesideARepair: of the latencies of I/O that a host sends one after the
// other, those of 99 of 100 are at most doubled, and a repair alone uses the disks.
func TestHostsBesideARepair(t *testing.T) {
	const hot, ios = 256, 1000
	p, cfg := newPaced(t, tebibyte)
	for r := range uint64(2 * hot) {
		p.do(core.Write, r*p.c.RegionSize())
	}
	p99 := func(op core.Op) time.Duration {
		var took []time.Duration
		for i := range uint64(ios) { // in regions that are hot, and not repaired yet or not at all
			took = append(took, p.do(op, (hot+i%hot)*p.c.RegionSize()+i*4096))
		}
		slices.Sort(took)
		return took[ios*99/100]
	}
	alone := [2]time.Duration{p99(core.Read), p99(core.Write)}
	for i := range p.seen { // only the first half is in doubt
		for r := hot; r < 2*hot; r++ {
			p.seen[i].Map.Clear(r)
		}
	}
	cfg.Term = 2
	p.assemble(cfg)
	for r := range uint64(hot) {
		p.do(core.Write, (hot+r)*p.c.RegionSize())
	}
	rate := func(moved uint64, took time.Duration) float64 { return float64(moved) / 1e6 / took.Seconds() }
	moved, begun := p.moved, p.now
	beside := [2]time.Duration{p99(core.Read), p99(core.Write)}
	slow := rate(p.moved-moved, p.now-begun)
	if p.c.Status().Repair == 0 {
		t.Fatal("the repair was over before the host was")
	}
	begun = p.now
	p.until("the host has rested", func() bool { return p.now-begun > 200*time.Millisecond })
	moved, begun = p.moved, p.now
	p.until("all is repaired", func() bool { return p.c.Status().Repair == 0 })
	fast := rate(p.moved-moved, p.now-begun)
	t.Logf("p99 of reads and writes: %v alone, %v beside a repair of %.0f MB/s; %.0f MB/s without hosts", alone, beside, slow, fast)
	for i, what := range []string{"reads", "writes"} {
		if beside[i] > 2*alone[i] {
			t.Errorf("p99 of %s is %v, and %v beside a repair", what, alone[i], beside[i])
		}
	}
	if fast < 0.8*diskRate/1e6 {
		t.Errorf("without hosts %.0f MB/s are copied, of %.0f that the disks do", fast, diskRate/1e6)
	}
}
