//go:build !race

// Stories run without the race detector, under which they take minutes; seeds show
// it the same code.

package sim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// orders are events of nodes and of the control plane in a certain order, with mirrored
// arrays. Nothing may be wrong in any of them: the ledger judges each acknowledgement and
// each read, all is well again at the end, and legs are equal. Those that are about one
// mirror and its legs alone are played in module/mirror/core (TestNamedOrders).
var orders = []struct {
	name  string
	dns   int
	cfg   Config
	shape story
	tell  func(p *player)
}{
	{name: "the primary dies with one leg ahead, and then that leg", dns: 2, cfg: Config{CopyRate: 64 << 10}, tell: whatWasReadStays},
	{name: "the old primary keeps one leg and the hosts, the next one has the other", dns: 2, tell: twoHalves},
	{name: "the primary's agent is dead, its data plane is not, and monitors do not reach one leg", dns: 2, tell: aDeafLeg},
	{name: "monitors do not reach one leg, and the old primary does not hear that the other is fenced late", dns: 2, tell: aLateFence},
	{name: "the primary hangs for 40 s with writes under way, and a leg is dropped and joins", dns: 2, tell: aLongHang},
	{name: "failovers in the middle of a copy", dns: 2, cfg: Config{CopyRate: 1 << 20}, tell: failoversInACopy},
	{name: "a flush is acknowledged, and then all disks lose power", dns: 2, tell: flushedBeforePower},
	{name: "a leg comes back with a write of before still under way at its disk", dns: 2, tell: aLateWriteOfALeg},
	{name: "the database is away while legs are lost", dns: 2, tell: noDatabase},
	{name: "monitors hang when a leg is lost, and run on later", dns: 2, tell: monitorsRunOn},
	{name: "an array is deleted that lacks a leg, and one that is copied to", dns: 2, cfg: Config{CopyRate: 256 << 10}, tell: deletedUnwell},
	{name: "the primary is moved while a leg is suspect", dns: 2, tell: switchWithASuspect},
	{name: "the primary is cut off from all for 2 s", dns: 2, tell: shortCut},
	{name: "a leg flaps", dns: 2, tell: flapping},
	{name: "each dn dies when one of two columns has its leg on it again", dns: 2, cfg: Config{CopyRate: 4 << 20}, shape: story{stripes: 2},
		tell: crosswise},
	{name: "a leg returns while its replacement is copied to", dns: 3, cfg: Config{CopyRate: 512 << 10},
		shape: story{replaceAfter: 10 * time.Second}, tell: backBeforeItsReplacement},
	{name: "a dn is drained while the one with the other leg dies", dns: 3, cfg: Config{CopyRate: 1 << 20}, tell: drainBesideALoss},
	{name: "a dn is drained while the primary's cn cannot carry out what another array is to be", dns: 3, cfg: Config{CopyRate: 4 << 20},
		tell: besideAnArrayInError},
	{name: "the dn of a new vd dies as it is made", dns: 2, tell: diesOverANewVD},
	{name: "a disk loses a vd", dns: 3, shape: story{replaceAfter: 10 * time.Second}, tell: aLostVD},
	{name: "a disk goes back in time", dns: 2, tell: aDiskGoesBack},
	{name: "one leg's disk fails writes", dns: 2, tell: aSickDisk},
	{name: "one leg's disk fails reads", dns: 2, tell: unreadable},
	{name: "a leg is slow, and not lost", dns: 2, tell: aSlowLeg},
}

// TestNamedOrders tells each.
func TestNamedOrders(t *testing.T) {
	file := schema(t)
	for _, o := range orders {
		t.Run(o.name, func(t *testing.T) {
			o.cfg.Schema, o.cfg.Redundancy, o.cfg.story = file, "mirror:2", &o.shape
			out := play(t, o.cfg, o.dns, 2, o.tell)
			if len(out.Wrongs) > 0 {
				t.Errorf("%q\n%s", out.Wrongs, out.Log)
			}
			keepLog(t, strings.ReplaceAll(o.name, " ", "-"), out)
		})
	}
}

func twoHalves(p *player) {
	p.write(3)
	legs, old := p.legs(), p.primary()
	a, b := legs[0], legs[1]
	healOld := p.isolate(old, b.dn.machine, hostMachine)
	healB := p.isolate(b.dn, old.machine, hostMachine)
	w := p.beginAt(old, 3)
	stop := p.keepReading(old, 3)
	p.moved(old)
	p.write(3) // at the next one, with the other leg
	p.waits("the old primary has one leg of two", w, 5*time.Second)
	p.until("the leg is dropped", func() bool { return p.role(b.ID) == vda.Stale && p.role(a.ID) == vda.Member })
	stop()
	healOld()
	healB()
	p.joins(b)
}

func aDeafLeg(p *player) {
	p.write(3)
	old, b := p.primary(), p.legs()[1]
	heal := p.s.part(b.dn.machine, p.s.machines()[:5])
	old.agent.kill()
	stop := p.keepReading(old, 3)
	p.moved(old)
	p.write(3)
	p.pass(5 * time.Second)
	p.write(3)
	stop()
	heal()
	old.agent.start()
	p.joins(b)
}

// aLateFence: its agent is dead. The dn of the leg that monitors reach lets go of it only when the next
// primary comes, and it still has the other leg.
func aLateFence(p *player) {
	p.write(3)
	old, next, a, b := p.primary(), p.other(), p.legs()[0], p.legs()[1]
	heal := p.s.part(b.dn.machine, p.s.machines()[:5])
	told, cut := make(chan struct{}), make(chan func(), 2)
	comes, falls := sync.OnceFunc(func() { close(told) }), sync.OnceFunc(func() {
		cut <- p.cut(old, a.dn)
		cut <- p.cut(a.dn, old)
	})
	next.model.SetHook(func(method string, params map[string]any) error {
		if name, _ := params["name"].(string); method == "bdev_nvme_attach_controller" && name == "vda-vd-"+a.ID {
			comes()
		}
		return nil
	})
	a.dn.model.SetHook(func(method string, _ map[string]any) error {
		if method == "nvmf_subsystem_remove_host" {
			<-told
			falls()
		}
		return nil
	})
	old.agent.kill()
	p.until("the leg is dropped", func() bool { return p.role(b.ID) == vda.Stale })
	w := p.beginAt(next, 3)
	if p.until("a write at the next primary ends", w.over); w.ok {
		p.s.ledger.Ack(p.h.array, 3, w.number)
	}
	var stops []func()
	for range 8 { // one that hangs at a leg keeps no other from the other
		stops = append(stops, p.keepReading(old, 3))
	}
	p.pass(5 * time.Second)
	for _, stop := range stops {
		stop()
	}
	(<-cut)()
	(<-cut)()
	heal()
	old.agent.start()
	p.joins(b)
}

func aLongHang(p *player) {
	p.write(3)
	old, b := p.primary(), p.legs()[1]
	for block := range uint64(6) {
		p.begin(block)
	}
	old.plane.hang(true)
	old.agent.hang(true)
	begun := time.Now()
	p.moved(old)
	p.write(3)
	p.drop(b)
	p.write(3)
	p.revive(b.dn)
	p.joins(b)
	p.pass(40*time.Second - time.Since(begun))
	old.plane.hang(false)
	old.agent.hang(false)
	for range 20 {
		p.readAt(old, 3)
	}
	p.pass(5 * time.Second)
}

func failoversInACopy(p *player) {
	b := p.legs()[1]
	p.drop(b)
	for block := range uint64(workers * blocksPerWorker) {
		p.write(block)
	}
	p.revive(b.dn)
	for range 2 {
		p.until("the leg is copied to", func() bool { return p.role(b.ID) == vda.Target })
		p.pass(3 * time.Second)
		old := p.primary()
		p.kill(old)
		p.moved(old)
		p.write(5)
		p.read(5, 4)
		p.revive(old)
	}
	p.joins(b)
}

func flushedBeforePower(p *player) {
	p.write(3)
	p.pass(rested)
	for block := range uint64(4) {
		p.volatile(block)
	}
	p.flush()
	p.blackout(p.s.of("dn")...)
	p.kill(p.primary())
	for block := range uint64(4) {
		p.read(block, 2)
	}
}

func aLateWriteOfALeg(p *player) {
	p.write(3)
	old, b := p.primary(), p.legs()[1]
	there := p.watch(p.number + 1)
	number := p.number + 1
	release := p.when("a write is late", planetest.Wait, func(a planetest.Access) bool {
		return a.Write && a.Number == number && a.Addr == b.dn.machine
	})
	p.s.db.set(true, 0) // nobody can drop the leg
	w := p.begin(3)
	p.until("the write is at the disks", there)
	heal := both(p.s.net.Cut(old.machine, b.dn.machine), p.s.net.Cut(b.dn.machine, old.machine))
	p.pass(4 * time.Second)
	heal()
	p.waits("a leg has not written it", w, 2*time.Second)
	p.begin(3)
	release()
	p.pass(2 * time.Second)
	p.s.db.set(false, 0)
	p.write(3)
}

func noDatabase(p *player) {
	p.write(3)
	b := p.legs()[1]
	p.s.db.set(true, 0)
	b.dn.plane.kill()
	w := p.begin(3)
	p.waits("a leg is lost, and nobody can drop it", w, time.Second)
	b.dn.plane.start()
	p.write(3) // as the leg resumes
	p.kill(b.dn)
	w = p.begin(3)
	p.waits("a leg is lost for good, and nobody can drop it", w, 20*time.Second)
	p.s.db.set(false, 0)
	p.write(3)
	p.until("the leg is dropped", func() bool { return p.role(b.ID) == vda.Stale })
	p.revive(b.dn)
	p.joins(b)
}

func monitorsRunOn(p *player) {
	p.write(3)
	b := p.legs()[1]
	for i := range 3 {
		m := p.s.daemons[1+i]
		p.kill(b.dn)
		p.begin(3)
		p.pass(2 * time.Millisecond) // the loss is on its way
		m.hang(true)
		p.write(3)
		p.until("the leg is dropped", func() bool { return p.role(b.ID) == vda.Stale })
		p.revive(b.dn)
		p.joins(b)
		m.hang(false)
		p.pass(3 * time.Second)
		p.write(3)
	}
}

func deletedUnwell(p *player) {
	b := p.legs()[1]
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for _, name := range []string{"lacks", "copied"} {
		r, err := p.s.admin.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, CntlrCnt: 2, DaSize: 16 << 20, Redundancy: "mirror:2"})
		p.must("da create "+name, r.GetReplyInfo(), err)
	}
	stale := func(name string, role vda.LegRole) func() bool {
		return func() bool {
			return p.anyLeg(name, func(vd *vda.VD) bool { return vd.DNID == b.DNID && vd.Role == role })
		}
	}
	p.pass(5 * time.Second)
	p.kill(b.dn)
	p.until("both lack a leg", func() bool { return stale("lacks", vda.Stale)() && stale("copied", vda.Stale)() })
	p.s.remove("lacks", "none") // the dn is told later
	p.write(3)
	p.revive(b.dn)
	p.until("the other is copied to", stale("copied", vda.Target))
	d, err := p.s.admin.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "copied"})
	p.must("da delete copied", d.GetReplyInfo(), err)
	p.joins(b)
}

func switchWithASuspect(p *player) {
	p.write(3)
	old, to, b := p.primary(), p.other(), p.legs()[1]
	b.dn.plane.hang(true)
	p.begin(3)
	p.pass(500 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := p.s.admin.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: p.h.array, ToCn: to.machine + ":" + cnPort})
	p.s.log.printf("STORY da failover: %v", replied(r.GetReplyInfo(), err))
	p.moved(old)
	p.write(3)
	b.dn.plane.hang(false)
	p.joins(b)
	p.write(3)
}

func shortCut(p *player) {
	p.write(3)
	legs := p.legs()
	p.s.hookCommits(func() {
		for _, l := range legs {
			if p.role(l.ID) != vda.Member {
				p.s.ledger.Wrong("leg %s is dropped as the primary is cut off for a moment", l.ID)
			}
		}
	})
	heal := p.isolate(p.primary())
	p.begin(3)
	p.pass(2 * time.Second)
	heal()
	p.write(3)
	p.pass(5 * time.Second)
	p.s.hookCommits(nil)
}

func flapping(p *player) {
	b := p.legs()[1]
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end) && !p.stuck; {
		b.dn.plane.kill()
		p.pass(2 * time.Second)
		p.write(3)
		b.dn.plane.start()
		p.pass(2 * time.Second)
		p.write(5)
		p.read(3, 2)
	}
	p.joins(b)
}

func crosswise(p *player) {
	dns := p.s.of("dn")
	for block := range uint64(8) {
		p.write(block)
	}
	for i := range 2 {
		gone, stays := dns[i], dns[1-i]
		legs := p.legsOn(gone)
		p.kill(gone)
		for block := range uint64(8) {
			p.write(block)
		}
		p.until("its legs are dropped", func() bool { return p.all(legs, vda.Stale) })
		p.revive(gone)
		p.until("one of them is a member", func() bool { return p.role(legs[0].ID) == vda.Member || p.role(legs[1].ID) == vda.Member })
		p.kill(stays)
		p.begin(0)
		p.begin(1)
		p.pass(10 * time.Second)
		p.revive(stays)
		p.until("all are members", func() bool { return p.all(p.legs(), vda.Member) })
	}
}

func backBeforeItsReplacement(p *player) {
	for block := range uint64(workers * blocksPerWorker) {
		p.write(block)
	}
	p.pass(rested)
	b := p.legs()[1]
	p.drop(b)
	p.write(3)
	next := func() (n leg) {
		for _, l := range p.legs() {
			if l.Role == vda.Target && l.ID != b.ID {
				n = l
			}
		}
		return n
	}
	p.until("another leg is copied to", func() bool { return next().ID != "" })
	p.until("it lacks little", func() bool { n := next(); return n.ID == "" || n.Lack <= 4<<20 })
	p.revive(b.dn)
	p.write(4)
	p.until("there are two members and no other legs", func() bool { return len(p.legs()) == 2 && p.all(p.legs(), vda.Member) })
}

func diesOverANewVD(p *player) {
	dn := p.legs()[1].dn
	once := make(chan bool, 1)
	dn.model.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_create" {
			select {
			case once <- true:
			default:
			}
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p.h.work.Go(func() {
		r, err := p.s.admin.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "new", CntlrCnt: 2, DaSize: 16 << 20, Redundancy: "mirror:2"})
		p.s.log.printf("STORY da create: %v", replied(r.GetReplyInfo(), err))
	})
	p.until("a vd is made", func() bool { return len(once) > 0 })
	p.pass(2 * time.Millisecond)
	p.kill(dn)
	p.pass(10 * time.Second)
	p.write(3)
	p.revive(dn)
	p.pass(10 * time.Second)
	p.until("the array is gone", func() bool { return p.s.remove("new", "none") })
}

func aLostVD(p *player) {
	p.write(3)
	b := p.legs()[1]
	p.kill(b.dn)
	p.s.planes.Forget(p.s.disk(b.dn), b.ID)
	p.revive(b.dn)
	p.write(3)
	p.until("another leg takes its place", func() bool {
		return len(p.legs()) == 2 && p.all(p.legs(), vda.Member) && p.role(b.ID) == gone
	})
}

func aDiskGoesBack(p *player) {
	p.write(3)
	legs := p.legs()
	restore := p.s.planes.Image(p.s.disk(legs[1].dn))
	p.drop(legs[0]) // labels rise
	p.revive(legs[0].dn)
	p.joins(legs[0])
	p.write(3)
	old := p.primary()
	p.kill(old, legs[1].dn)
	restore()
	p.revive(legs[1].dn)
	p.moved(old)
	p.write(5)
	p.read(3, 4)
	p.until("all are members", func() bool { return p.all(p.legs(), vda.Member) })
}

func aSickDisk(p *player) {
	p.write(3)
	b := p.legs()[1]
	heal := p.when("writes fail", planetest.Fail, func(a planetest.Access) bool { return a.Addr == b.dn.machine && a.Write })
	p.write(3)
	p.until("the leg is dropped", func() bool { return p.role(b.ID) != vda.Member })
	heal()
	p.joins(b)
}

func unreadable(p *player) {
	p.write(3)
	legs := p.legs()
	heal := p.when("reads fail", planetest.Fail, func(a planetest.Access) bool {
		return a.Addr == legs[0].dn.machine && !a.Write && !a.Flush && a.Off < legs[0].Size-1<<20
	})
	p.read(3, 4)
	p.read(4, 4)
	heal()
	p.write(3)
}

func aSlowLeg(p *player) {
	p.write(3)
	b := p.legs()[1]
	slow := func(d time.Duration) {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		p.s.disks[b.dn.machine] = d
	}
	slow(700 * time.Millisecond)
	for block := range uint64(3) {
		p.write(block)
		p.read(block, 2)
	}
	slow(0)
	if p.role(b.ID) != vda.Member {
		p.s.ledger.Wrong("a leg that is slow is dropped")
	}
}

// drainBesideALoss drains a dn, and the one with the peer of its leg dies meanwhile.
func drainBesideALoss(p *player) {
	for block := range uint64(workers * blocksPerWorker) {
		p.write(block)
	}
	legs := p.legs()
	a, b := legs[0], legs[1]
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	r, err := p.s.admin.DrainDn(ctx, &apiv1.DrainDnRequest{DnName: b.dn.machine + ":" + dnPort})
	p.must("dn drain", r.GetReplyInfo(), err)
	p.until("another leg is copied to", func() bool {
		return slices.ContainsFunc(p.legs(), func(l leg) bool { return l.Role == vda.Target })
	})
	p.kill(a.dn)
	p.write(3)
	p.read(3, 2)
	p.pass(5 * time.Second)
	p.revive(a.dn)
	p.until("nothing is on the dn and all are members", func() bool {
		return len(p.legsOn(b.dn)) == 0 && len(p.legs()) == 2 && p.all(p.legs(), vda.Member)
	})
}

// besideAnArrayInError: what the cn has not carried out of one array keeps no leg of another.
func besideAnArrayInError(p *player) {
	p.write(3)
	cn, b := p.primary(), p.legs()[1]
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	r, err := p.s.admin.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "ill", CntlrCnt: 1, DaSize: 16 << 20, Redundancy: "mirror:2"})
	p.must("da create ill", r.GetReplyInfo(), err)
	if of := p.primaryOf("ill"); of != cn {
		f, err := p.s.admin.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: p.h.array, ToCn: of.machine + ":" + cnPort})
		p.must("da failover", f.GetReplyInfo(), err)
		cn = of
	}
	var mirrors []string
	p.view(func(tx store.Reader) error {
		da, err := tx.DAByName("ill")
		if err != nil {
			return err
		}
		all, err := tx.MirrorsOfDA(da.ID)
		for _, m := range all {
			mirrors = append(mirrors, m.ID)
		}
		return err
	})
	cn.model.SetHook(func(method string, params map[string]any) error {
		name, _ := params["name"].(string)
		of := func(id string) bool { return strings.Contains(name, id) }
		if strings.HasPrefix(method, "vda_mirror_set") && slices.ContainsFunc(mirrors, of) {
			return errors.New("the story has it fail")
		}
		return nil
	})
	m, err := p.s.admin.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "ill", RebuildMbps: proto.Uint64(7)})
	p.must("da modify ill", m.GetReplyInfo(), err)
	inError := func() (is bool) {
		p.view(func(tx store.Reader) error {
			da, err := tx.DAByName("ill")
			if err != nil {
				return err
			}
			cntlrs, err := tx.CntlrsOfDA(da.ID)
			if err != nil {
				return err
			}
			n, err := tx.CN(cntlrs[0].CNID)
			is = err == nil && cntlrs[0].Health.Error && n.Applied < cntlrs[0].Version
			return err
		})
		return is
	}
	p.until("the other array is in error, and has been changed", inError)
	d, err := p.s.admin.DrainDn(ctx, &apiv1.DrainDnRequest{DnName: b.dn.machine + ":" + dnPort})
	p.must("dn drain", d.GetReplyInfo(), err)
	p.until("nothing is on the dn and all are members", func() bool {
		return len(p.legsOn(b.dn)) == 0 && len(p.legs()) == 2 && p.all(p.legs(), vda.Member)
	})
	p.until("the other array is in error still", inError)
	cn.model.SetHook(nil)
	p.write(3)
}
