package monitor

import (
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

const mib = 1 << 20

// growing is a rig with a thin array of 16 MiB, which grows by itself to 32 MiB when less
// than a quarter is free, and room for that.
type growing struct {
	*rig
	da *vda.DA
}

func inGrowingBubble(t *testing.T, clusters uint64, fn func(g *growing)) {
	inBubble(t, func(r *rig) {
		r.agents.Agent("dn1").SetCapacity(clusters)
		r.update(func(tx store.Tx) error {
			return tx.InsertPD(&vda.PD{ID: "roomy", DNID: r.dns[1].ID, Name: "roomy", Online: true, Version: 1, ClusterSize: mib,
				TotalClusters: clusters, FreeClusters: clusters})
		})
		r.within(time.Minute, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		g := &growing{r, r.addDA("da0")}
		r.within(time.Minute, "the array is up", func() bool { _, _, settled := r.primary(g.da); return settled })
		g.change(func(d *vda.DA) {
			d.Size, d.PhysicalSize, d.StripeCount, d.StripeSizeKB = 64*mib, 16*mib, 1, 64
			d.AutoGrow = vda.AutoGrow{Limit: 32 * mib, LowPercent: 25}
		})
		r.update(func(tx store.Tx) error {
			grps, err := tx.GrpsOfDA(g.da.ID)
			if err != nil {
				return err
			}
			grps[0].Size = placement.VDSize(16*mib, mib, 1, 64<<10)
			return tx.UpdateGrp(&grps[0])
		})
		fn(g)
	})
}

func (g *growing) change(fn func(*vda.DA)) {
	g.Helper()
	g.update(func(tx store.Tx) error {
		d, err := tx.DA(g.da.ID)
		if err != nil {
			return err
		}
		fn(d)
		return tx.UpdateDA(d)
	})
}

// say has the primary report what it has and what is free, MiB.
func (g *growing) say(term, total, free uint64) {
	g.agents.Agent("cn0").Space(&apiv1.SpaceState{DaId: g.da.ID, Term: term, TotalBytes: total * mib, FreeBytes: free * mib})
}

// has is the physical size, MiB, the groups, and whether one is joining.
func (g *growing) has() (size uint64, grps int, joins bool) {
	g.Helper()
	if err := g.store.Store.View(g.Context(), func(tx store.Reader) error {
		d, err := tx.DA(g.da.ID)
		if err != nil {
			return err
		}
		l, err := tx.GrpsOfDA(g.da.ID)
		size, grps, joins = d.PhysicalSize/mib, len(l), false
		for _, x := range l {
			joins = joins || x.Joining
		}
		return err
	}); err != nil {
		g.Fatal(err)
	}
	return size, grps, joins
}

// stays fails when the array grows within three looks.
func (g *growing) stays(why string, size uint64, grps int) {
	g.Helper()
	time.Sleep(3 * growPeriod)
	if s, n, _ := g.has(); s != size || n != grps {
		g.Fatalf("%s: it has %d MiB in %d groups, want %d in %d", why, s, n, size, grps)
	}
}

func (g *growing) grows(size uint64) {
	g.Helper()
	g.within(time.Minute, "it grows", func() bool { s, _, joins := g.has(); return s == size && !joins })
}

// texts are what events of a kind say.
func (g *growing) texts(kind vda.EventKind) (all []string) {
	g.Helper()
	if err := g.store.Store.View(g.Context(), func(tx store.Reader) error {
		l, err := tx.ListEvents(store.EventFilter{}, store.EventPage{Limit: keptInTests})
		for _, e := range l {
			if e.Kind == kind {
				all = append(all, e.Text)
			}
		}
		return err
	}); err != nil {
		g.Fatal(err)
	}
	return all
}

// TestArrayGrowsByItself: below the mark it grows by a quarter, or by what it takes to
// have enough left, once per report that is of the array as it is, and to its limit, which
// is said once.
func TestArrayGrowsByItself(t *testing.T) {
	inGrowingBubble(t, 64, func(g *growing) {
		g.say(1, 16, 4)
		g.stays("a quarter is free", 16, 1)
		g.say(2, 16, 0)
		g.stays("the report is of another term", 16, 1)
		g.say(1, 15, 0)
		g.stays("the report is of a smaller array", 16, 1)

		g.agents.Agent("cn0").JoinNothing(true)
		g.say(1, 16, 3)
		g.within(time.Minute, "it begins to grow", func() bool { _, _, joins := g.has(); return joins })
		g.stays("a growth is under way", 16, 2)
		g.agents.Agent("cn0").JoinNothing(false)
		g.bumpCN()
		g.grows(20)
		g.stays("the report is from before it grew", 20, 2)
		g.say(1, 20, 0) // 7 are needed for a quarter of 27
		g.grows(27)
		g.say(1, 27, 6)
		g.grows(32)
		if n := len(g.texts(vda.EventDACannotGrow)); n != 0 {
			t.Errorf("%d events say that it cannot grow", n)
		}
		g.say(1, 32, 1)
		g.stays("the limit is reached", 32, 4)
		for i := range uint64(6) {
			g.say(1, 32, i%2*8) // to and fro
			time.Sleep(growPeriod + time.Second)
		}
		if no := g.texts(vda.EventDACannotGrow); len(no) != 1 || !strings.Contains(no[0], "1048576 of its 33554432 bytes are free, less than 25 "+
			"%, and it does not grow by itself: its physical size is 33554432 bytes, and it grows to 33554432 by itself (auto_grow)") {
			t.Errorf("events %q", no)
		}
		if yes := g.texts(vda.EventDAGrows); len(yes) != 3 {
			t.Errorf("events %q", yes)
		}
		g.change(func(d *vda.DA) { d.AutoGrow.Limit = 36 * mib })
		g.say(1, 32, 0)
		g.grows(36)
		g.change(func(d *vda.DA) { d.AutoGrow = vda.AutoGrow{} })
		g.say(1, 36, 0)
		g.stays("it is not to grow by itself", 36, 5)
	})
}

// TestArrayGrowsWithWhatIsThere: when there is no room for a quarter, it grows by what it
// takes; when there is no room for that, this is said once, and it grows when there is.
func TestArrayGrowsWithWhatIsThere(t *testing.T) {
	inGrowingBubble(t, 2, func(g *growing) {
		g.say(1, 16, 3)
		g.grows(18)
		g.say(1, 18, 1)
		time.Sleep(3 * growPeriod)
		if no := g.texts(vda.EventDACannotGrow); len(no) != 1 || !strings.Contains(no[0], "and it does not grow by itself: ") {
			t.Errorf("events %q", no)
		}
		g.stays("there is no room", 18, 2)
		g.addSpare("dn2")
		g.grows(23)
	})
}

// TestNoGrowthByAnOldReport: what a cn said that does not answer now is not gone by, also
// before it counts as down.
func TestNoGrowthByAnOldReport(t *testing.T) {
	inGrowingBubble(t, 64, func(g *growing) {
		g.change(func(d *vda.DA) { d.AutoGrow = vda.AutoGrow{} })
		g.say(1, 16, 0)
		g.within(10*time.Second, "the report is heard", func() bool { return len(g.m.freshSpaces()[g.da.ID]) == 1 })
		g.agents.Agent("cn0").Hang(true)
		period := g.m.cfg.Timing.Period
		time.Sleep(2*period + period/2)
		g.m.mu.Lock()
		n := g.m.nodes[g.cns[0].ID]
		g.m.mu.Unlock()
		if up, _ := n.state(); !up {
			t.Fatal("the cn counts as down already")
		}
		if old := g.m.freshSpaces(); len(old) != 0 {
			t.Errorf("gone by: %v", old)
		}
		g.change(func(d *vda.DA) { d.AutoGrow = vda.AutoGrow{Limit: 32 * mib, LowPercent: 25} })
		g.stays("nothing new is said", 16, 1)
	})
}

// bumpCN has cn0 be told again.
func (g *growing) bumpCN() {
	g.Helper()
	g.update(func(tx store.Tx) error {
		cntlrs, err := tx.CntlrsOfDA(g.da.ID)
		if err != nil {
			return err
		}
		v, err := tx.BumpNode(vda.ControllerNode, g.cns[0].ID)
		for i := range cntlrs {
			if c := &cntlrs[i]; c.Primary && err == nil {
				c.Version = v
				err = tx.UpdateCntlr(c)
			}
		}
		return err
	})
}
