package monitor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// addMirrored makes an array with one mirror, whose legs a and b are on dn0 and dn1,
// and controllers on all cns, the primary on cn0.
func (r *rig) addMirrored() *vda.DA {
	r.Helper()
	da := &vda.DA{ID: store.NewID(), Name: "m", Size: 1 << 20, PhysicalSize: 1 << 20, ClusterSize: 1 << 20, Term: 1, Created: true,
		Redundancy: vda.Mirror2, MinLegs: 1}
	r.update(func(tx store.Tx) error {
		errs := []error{tx.InsertDA(da), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: da.ID}),
			tx.InsertMirror(&vda.Mirror{ID: "mirror", DAID: da.ID, Size: 1 << 20, Gen: 1}),
			tx.InsertPD(&vda.PD{ID: "pd1", DNID: r.dns[1].ID, Name: "pd1", Version: 1, ClusterSize: 1 << 20, TotalClusters: 9, FreeClusters: 9})}
		for i, id := range []string{"a", "b"} {
			v, err := tx.BumpNode(vda.DiskNode, r.dns[i].ID)
			pd := []string{r.pd.ID, "pd1"}[i]
			errs = append(errs, err, tx.TakePD(pd, 2), tx.InsertVD(&vda.VD{ID: id, DAID: da.ID, MirrorID: "mirror", PDID: pd, DNID: r.dns[i].ID,
				Clusters: 2, Size: 2 << 20, Version: v}))
		}
		for i, c := range r.cns {
			v, err := tx.BumpNode(vda.ControllerNode, c.ID)
			errs = append(errs, err, tx.InsertCntlr(&vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: c.ID, Idx: uint32(i), Primary: i == 0,
				Version: v}))
		}
		return errors.Join(errs...)
	})
	return da
}

// legs is how the legs of the mirror stand, in SQL and as the primary was told
// last: "gen 1: a member 0, b member 0".
func (r *rig) legs(da *vda.DA) (sql, told string) {
	r.Helper()
	err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
		m, err := tx.MirrorsOfDA(da.ID)
		if err != nil {
			return err
		}
		vds, err := tx.VDsOfDA(da.ID)
		var legs []string
		for _, v := range vds {
			legs = append(legs, fmt.Sprint(v.ID, " ", v.Role, " ", v.Epoch))
		}
		sql = fmt.Sprintf("gen %d: %s", m[0].Gen, strings.Join(legs, ", "))
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	for _, s := range r.agents.Agent("cn0").Syncs() {
		for _, c := range s.Cn.GetCntlrs() {
			for _, g := range c.Grps {
				for _, m := range g.Mirrors {
					var legs []string
					for _, l := range m.Legs {
						legs = append(legs, fmt.Sprint(l.Vd.VdId, " ", strings.ToLower(strings.TrimPrefix(l.Role.String(), "LEG_ROLE_")), " ", l.Vd.Epoch))
					}
					told = fmt.Sprintf("gen %d: %s", m.Gen, strings.Join(legs, ", "))
				}
			}
		}
	}
	return sql, told
}

// lack is how much a leg lacks, as the database knows.
func (r *rig) lack(id string) (bytes uint64) {
	r.Helper()
	if err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
		v, err := tx.VD(id)
		if err == nil {
			bytes = v.Lack
		}
		return err
	}); err != nil {
		r.Fatal(err)
	}
	return bytes
}

// TestLegsAreSettled: the primary says that a leg is lost, that it has all; the
// monitor decides, tells the primary, and lets the leg in again when its dn has
// fenced it.
func TestLegsAreSettled(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		is := func(want string) {
			t.Helper()
			told := ""
			r.within(20*time.Second, want, func() bool {
				sql, now := r.legs(da)
				if now != "" {
					told = now
				}
				return sql == want && told == want
			})
		}
		say := func(gen uint64, a, b *apiv1.LegState) {
			a.VdId, b.VdId = "a", "b"
			r.agents.Agent("cn0").Mirror(&apiv1.MirrorState{MirrorId: "mirror", DaId: da.ID, Term: 1, Gen: gen, Legs: []*apiv1.LegState{a, b}})
		}
		well, lost := func() *apiv1.LegState { return &apiv1.LegState{Connected: true} }, &apiv1.LegState{Lost: true}
		is("gen 1: a member 0, b member 0")
		r.agents.Agent("dn1").Stop()
		say(1, well(), lost)
		is("gen 2: a member 0, b stale 1")
		say(2, well(), &apiv1.LegState{})
		time.Sleep(time.Minute)
		is("gen 2: a member 0, b stale 1") // its dn is away
		r.agents.Start("dn1")
		is("gen 2: a member 0, b target 1")
		copying := well()
		copying.LackBytes, copying.CopyBytesPerSec = 1<<19, 1<<10
		say(2, well(), copying)
		r.within(20*time.Second, "what is lacking and its rate are in SQL", func() bool {
			var v *vda.VD
			err := r.store.Store.View(r.Context(), func(tx store.Reader) (err error) { v, err = tx.VD("b"); return err })
			return err == nil && v.Lack == 1<<19 && v.CopyRate == 1<<10
		})
		time.Sleep(time.Minute)
		is("gen 2: a member 0, b target 1")
		ready := well()
		ready.Ready = true
		say(2, well(), ready)
		is("gen 3: a member 0, b member 1")

		// A target that is not reached any more starts again from the beginning.
		say(3, well(), &apiv1.LegState{Lost: true})
		is("gen 4: a member 0, b target 2")
		say(4, well(), &apiv1.LegState{})
		is("gen 4: a member 0, b stale 3") // the third time: it has to wait
		time.Sleep(time.Minute)
		is("gen 4: a member 0, b target 3")
	})
}

// TestMembersThatCatchUp: that a member has something copied to it is in the database at once,
// so that nobody leaves it alone meanwhile; and that it lacks nothing any more, also when no
// monitor was there to hear of it.
func TestMembersThatCatchUp(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		legs := func(want string) {
			t.Helper()
			r.within(20*time.Second, want, func() bool { sql, _ := r.legs(da); return sql == want })
		}
		say := func(bytes uint64) { // during a scrub, which is noted every few seconds
			r.agents.Agent("cn0").Mirror(&apiv1.MirrorState{MirrorId: "mirror", DaId: da.ID, Term: 1, Gen: 1, Legs: []*apiv1.LegState{
				{VdId: "a", Connected: true}, {VdId: "b", LackBytes: bytes, Connected: bytes == 0}},
				Scrub: &apiv1.ScrubState{State: "running"}})
		}
		legs("gen 1: a member 0, b member 0")
		for i := range 4 {
			say(0)
			r.within(10*time.Second, "nothing is lacking", func() bool { return r.lack("b") == 0 })
			time.Sleep(lackPeriod + time.Duration(i)*lackPeriod/4)
			say(1 << 19)
			r.within(time.Second, "what is lacking is in SQL", func() bool { return r.lack("b") == 1<<19 })
		}
		r.update(func(tx store.Tx) error { // a user has it narrowed
			v, err := tx.VD("a")
			if err != nil {
				return err
			}
			v.Leaving = true
			row, err := tx.DA(da.ID)
			if err != nil {
				return err
			}
			row.Redundancy = vda.Striped
			return errors.Join(tx.UpdateVD(v), tx.UpdateDA(row))
		})
		time.Sleep(time.Minute)
		legs("gen 1: a member 0, b member 0")
		r.agents.Agent("cn0").Mirror()
		r.within(10*time.Second, "nothing is lacking", func() bool { return r.lack("b") == 0 })
		legs("gen 2: a stale 1, b member 0")
	})
	inEmptyBubble(t, func(r *rig) {
		stop := r.monitor()
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		r.addMirrored()
		stop()
		r.update(func(tx store.Tx) error { return tx.SetVDLack("b", 4096, 0) })
		defer r.monitor()()
		r.within(time.Minute, "nothing is lacking", func() bool { return r.lack("b") == 0 })
	})
}

// TestADataPlaneThatStartsAgain: what a member lacks is not forgotten while the primary's data
// plane has no mirrors.
func TestADataPlaneThatStartsAgain(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		say := func(gen, lacks uint64, connected bool) {
			r.agents.Agent("cn0").Mirror(&apiv1.MirrorState{MirrorId: "mirror", DaId: da.ID, Term: 1, Gen: gen, Legs: []*apiv1.LegState{
				{VdId: "a", Connected: connected}, {VdId: "b", LackBytes: lacks}}})
		}
		say(1, 1<<19, true)
		r.within(10*time.Second, "what is lacking is in SQL", func() bool { return r.lack("b") == 1<<19 })
		say(0, 0, false)
		time.Sleep(time.Minute)
		if r.lack("b") != 1<<19 {
			t.Errorf("while the data plane has no mirrors, b lacks %d bytes", r.lack("b"))
		}
		r.agents.Agent("cn0").Mirror()
		r.within(10*time.Second, "nothing is lacking", func() bool { return r.lack("b") == 0 })
	})
}

// TestAnotherLegLacksSomething: that a member has something copied to it is in the database at
// once, also while another leg of its array is copied to, and a decision is due.
func TestAnotherLegLacksSomething(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		say := func(a, b uint64) {
			r.agents.Agent("cn0").Mirror(&apiv1.MirrorState{MirrorId: "mirror", DaId: da.ID, Term: 1, Gen: 1, Legs: []*apiv1.LegState{
				{VdId: "a", LackBytes: a}, {VdId: "b", LackBytes: b}}})
		}
		for i := range uint64(4) {
			r.agents.Agent("cn0").Mirror()
			r.within(10*time.Second, "nothing is lacking", func() bool { return r.lack("a")+r.lack("b") == 0 })
			time.Sleep(lackPeriod + time.Duration(i)*lackPeriod/4)
			say(1<<20+i, 0)
			r.within(time.Second, "what a lacks is in SQL", func() bool { return r.lack("a") == 1<<20+i })
			time.Sleep(lackPeriod / 4)
			say(1<<20+i, 1<<19)
			r.within(time.Second, "what b lacks is in SQL", func() bool { return r.lack("b") == 1<<19 })
		}
	})
}
