package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
)

// mirrors makes n mirrored arrays with a leg on each dn, the primary on the first cn and an
// exporter, and returns their reports of the loss of the second leg.
func (f *fixture) mirrors(n int) (lost []*array.LegsReport) {
	f.update(func(tx store.Tx) error {
		lost = nil
		var at [2]uint64
		var err error
		for i := range at {
			if at[i], err = tx.BumpNode(vda.DiskNode, f.dn[i].ID); err != nil {
				return err
			}
		}
		primary, err := tx.BumpNode(vda.ControllerNode, f.cn[0].ID)
		if err != nil {
			return err
		}
		for i := range n {
			da := &vda.DA{ID: store.NewID(), Name: fmt.Sprint("many", i, "-", store.NewID()), Size: 1 << 20, PhysicalSize: 1 << 20, CntlrCnt: 1,
				StripeCount: 1, StripeSizeKB: 64, ClusterSize: 1 << 20, Term: 1, Created: true, Redundancy: vda.Mirror2, MinLegs: 1}
			m := &vda.Mirror{ID: store.NewID(), DAID: da.ID, Size: 1 << 20, Gen: 3}
			c := &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: f.cn[0].ID, Primary: true, Version: primary}
			e := &vda.Exp{ID: store.NewID(), DAID: da.ID, Name: "exp0", NQN: vda.ExpNQN(da.Name, "exp0"), InitiatorNQN: "nqn.x", Serial: "1",
				NSUUID: "u"}
			errs := []error{tx.InsertDA(da), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: da.ID, Size: 1 << 20}), tx.InsertMirror(m),
				tx.InsertCntlr(c), tx.InsertExp(e), tx.InsertES(&vda.ES{ID: store.NewID(), ExpID: e.ID, CntlrID: c.ID})}
			r := &array.LegsReport{DAID: da.ID, Term: 1, Mirrors: []array.MirrorReport{{ID: m.ID, Gen: m.Gen}}}
			for j := range at {
				v := &vda.VD{ID: store.NewID(), DAID: da.ID, PDID: f.pd[j].ID, DNID: f.dn[j].ID, Clusters: 2, Size: 2 << 20, MirrorID: m.ID,
					Version: at[j]}
				errs = append(errs, tx.InsertVD(v))
				r.Mirrors[0].Legs = append(r.Mirrors[0].Legs, array.LegReport{VDID: v.ID, Connected: j == 0, Lost: j == 1})
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			lost = append(lost, r)
		}
		return nil
	})
	return lost
}

// TestManyLegsTakeFewStatements: when the dn dies on which many arrays have a leg, what the
// database is asked to drop the legs, to tell the primaries, to write down that the node is
// down and that it is well again, and to let the legs in again does not grow with
// the arrays of a batch. Decisions are each array's: one that comes too late changes nothing of its own.
func TestManyLegsTakeFewStatements(t *testing.T) {
	asked := map[int]map[string]int64{}
	const few, many = 4, 100
	for _, n := range []int{few, many} {
		f := newFixture(t)
		f.mirrored()
		f.syncAll()
		lost := f.mirrors(n)
		f.syncAll()
		var statements atomic.Int64
		st, err := store.Open(t.Context(), f.uri, store.OnStatement(func() { statements.Add(1) }))
		f.ok(err)
		defer st.Close()
		s, err := syncer.New(syncer.Config{Store: st, Dial: f.agents, Timeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		f.ok(err)
		asked[n] = map[string]int64{}
		measure := func(what string, do func() []error) {
			t.Helper()
			statements.Store(0)
			f.ok(errors.Join(do()...))
			asked[n][what] = statements.Load()
		}
		late := *lost[0]
		late.Term = 9
		reports := append([]*array.LegsReport{&late}, lost[1:]...)
		f.forget()
		measure("legs are dropped", func() []error {
			var changes []array.LegChange
			for _, r := range reports {
				changes = append(changes, array.Reported(r))
			}
			return s.ChangeManyLegs(t.Context(), changes)
		})
		if syncs := f.agents.Agent("cn0:9820").Syncs(); len(syncs) != 1 || len(syncs[0].Cn.Cntlrs) != n-1 {
			t.Errorf("%d arrays: the cn of their primaries is told %d times", n, len(syncs))
		}
		down := syncer.NodeReport{Node: array.DN(f.dn[1].ID), Report: syncer.Report{Problem: "no answer", Down: true, Version: 1 << 40}}
		measure("the node is down", func() []error { return []error{s.Reports(t.Context(), []syncer.NodeReport{down})} })
		f.view(func(tx store.Reader) error {
			for i, r := range lost {
				vds, err := tx.VDsOfDA(r.DAID)
				mirrors, err2 := tx.MirrorsOfDA(r.DAID)
				if err := errors.Join(err, err2); err != nil {
					return err
				}
				want := fmt.Sprint(vda.Stale, " 1 gen 4")
				if i == 0 {
					want = fmt.Sprint(vda.Member, " 0 gen 3")
				}
				for _, v := range vds {
					if v.DNID != f.dn[1].ID {
						if v.Role != vda.Member || v.Epoch != 0 {
							t.Errorf("array %d: the leg that is left is %v", i, v)
						}
						continue
					}
					if got := fmt.Sprint(v.Role, " ", v.Epoch, " gen ", mirrors[0].Gen); got != want || !v.Health.Error {
						t.Errorf("array %d: its leg on the dead dn is %s, %v; want %s, in error", i, got, v.Health, want)
					}
				}
			}
			return nil
		})
		f.syncAll()
		measure("the node is up", func() []error {
			up := down
			up.Report = syncer.Report{Version: 1 << 40}
			return []error{s.Reports(t.Context(), []syncer.NodeReport{up})}
		})
		measure("legs are let in again", func() []error {
			var changes []array.LegChange
			for _, r := range lost[1:] {
				changes = append(changes, array.Admitted(r.DAID, r.Mirrors[0].Legs[1].VDID, 1))
			}
			return s.ChangeManyLegs(t.Context(), changes)
		})
		measure("what they lack is noted", func() []error {
			var changes []array.LegChange
			for _, r := range lost[1:] {
				r.Mirrors[0].Legs[1] = array.LegReport{VDID: r.Mirrors[0].Legs[1].VDID, Connected: true, Lack: 1 << 20}
				changes = append(changes, array.Lacking(r))
			}
			return s.ChangeManyLegs(t.Context(), changes)
		})
	}
	for what, n := range asked[few] {
		// Ids are asked for a thousand at a time, what is changed is recorded by a hundred.
		if is := asked[many][what]; n == 0 || is > n+4 {
			t.Errorf("%s: %d statements for %d arrays, %d for %d", what, is, many, n, few)
		}
		t.Logf("%s: %d statements for %d arrays, %d for %d", what, n, few, asked[many][what], many)
	}
}

// TestManyLegsAreReplacedTogether: to give a hundred mirrors a leg each in the place of one that
// is lost asks the database for little more per leg than its rows. Each leg is judged by itself, and a disk
// takes no more than it has room for.
func TestManyLegsAreReplacedTogether(t *testing.T) {
	asked := map[int]int64{}
	const few, many = 4, 100
	for _, n := range []int{few, many} {
		f := newFixture(t)
		f.mirrored()
		f.syncAll()
		lost := f.mirrors(n)
		dn := &vda.DN{Node: vda.Node{ID: store.NewID(), Name: "dn9:9720", Online: true, Version: 1}}
		room := uint64(2*n - 4) // for all but one that comes too late, and one
		pd := &vda.PD{ID: store.NewID(), DNID: dn.ID, Name: "pd0", Online: true, ClusterSize: 1 << 20, TotalClusters: room, FreeClusters: room}
		f.update(func(tx store.Tx) error { return errors.Join(tx.InsertNode(vda.DiskNode, &dn.Node), tx.InsertPD(pd)) })
		var statements atomic.Int64
		st, err := store.Open(t.Context(), f.uri, store.OnStatement(func() { statements.Add(1) }))
		f.ok(err)
		defer st.Close()
		s, err := syncer.New(syncer.Config{Store: storetest.Ordered(t, st), Dial: f.agents, Timeout: time.Minute,
			Log: slog.New(slog.DiscardHandler)})
		f.ok(err)
		wanted := []array.NewLeg{{DAID: lost[0].DAID, InsteadOf: store.NewID()}}
		for _, r := range lost[1:] {
			wanted = append(wanted, array.NewLeg{DAID: r.DAID, InsteadOf: r.Mirrors[0].Legs[1].VDID})
		}
		var legs []array.NewLeg
		full := 0
		f.ok(st.View(t.Context(), func(tx store.Reader) error {
			placed, errs, err := array.PlaceLegs(tx, wanted)
			for i := range placed {
				switch {
				case i == 0 != errors.Is(errs[i], array.ErrStale):
					t.Errorf("leg %d: %v", i, errs[i])
				case vda.KindOf(errs[i]) == vda.ResourceExhausted:
					full++
				case errs[i] == nil:
					legs = append(legs, placed[i])
				}
			}
			return err
		}))
		if len(legs) != n-2 || full != 1 {
			t.Fatalf("%d legs have a place, for %d there is none; want %d, 1", len(legs), full, n-2)
		}
		again := slices.Clone(legs)
		f.ok(errors.Join(s.AddLegs(t.Context(), legs)...))
		asked[n] = statements.Load()
		f.ok(errors.Join(s.AddLegs(t.Context(), again)...)) // too late
		f.view(func(tx store.Reader) error {
			added := map[string]bool{}
			for _, leg := range legs {
				added[leg.DAID] = true
			}
			for i, r := range lost {
				vds, err := tx.VDsOfDA(r.DAID)
				if err != nil {
					return err
				}
				want := 2
				if added[r.DAID] {
					want = 3
				}
				if len(vds) != want {
					t.Errorf("array %d has %d legs, want %d", i, len(vds), want)
				}
				for _, v := range vds {
					old := v.ID == r.Mirrors[0].Legs[1].VDID
					if v.Leaving != (old && added[r.DAID]) || (v.Role == vda.Stale) != (v.DNID == dn.ID) {
						t.Errorf("array %d: leg on %s is %v, leaving is %t", i, v.DNID, v.Role, v.Leaving)
					}
				}
			}
			row, err := tx.PD(pd.ID)
			if err == nil && (row.FreeClusters != 0 || int(row.VDCount) != len(legs)) {
				t.Errorf("the disk has %d clusters free and %d vds", row.FreeClusters, row.VDCount)
			}
			return err
		})
	}
	t.Logf("%d statements for %d legs, %d for %d", asked[few], few-2, asked[many], many-2)
	if perLeg := float64(asked[many]-asked[few]) / (many - few); perLeg > 4 {
		t.Errorf("each leg more asks for %.1f statements", perLeg)
	}
}

// TestOneOfManyLegsFails: a change that cannot be recorded keeps no other from being made.
func TestOneOfManyLegsFails(t *testing.T) {
	f := newFixture(t)
	f.mirrored()
	f.syncAll()
	lost := f.mirrors(5)
	f.syncAll()
	s, err := syncer.New(syncer.Config{Store: &refusesGens{storetest.Ordered(t, f.store), lost[2].Mirrors[0].ID}, Dial: f.agents,
		Timeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	f.ok(err)
	var changes []array.LegChange
	for _, r := range lost {
		changes = append(changes, array.Reported(r))
	}
	for i, err := range s.ChangeManyLegs(t.Context(), changes) {
		if (err != nil) != (i == 2) || i == 2 && !strings.Contains(err.Error(), "refused") {
			t.Errorf("change %d: %v", i, err)
		}
	}
	f.view(func(tx store.Reader) error {
		for i, r := range lost {
			v, err := tx.VD(r.Mirrors[0].Legs[1].VDID)
			if err != nil {
				return err
			}
			if dropped := v.Role == vda.Stale; dropped == (i == 2) {
				t.Errorf("array %d: its leg is %v", i, v.Role)
			}
		}
		return nil
	})
}

// refusesGens is a store that does not raise the gen of one mirror.
type refusesGens struct {
	store.Store
	mirror string
}

func (s *refusesGens) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.Store.Update(ctx, func(tx store.Tx) error { return fn(&refusesGen{tx, s.mirror}) })
}

type refusesGen struct {
	store.Tx
	mirror string
}

func (t *refusesGen) SetMirrorGens(ids []string, gen uint64) error {
	for _, id := range ids {
		if id == t.mirror {
			return vda.Errorf(vda.Internal, "refused")
		}
	}
	return t.Tx.SetMirrorGens(ids, gen)
}
