package monitor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// TestPlanDrainOfDisks: which vds are looked at for a place, and how many of each dn may
// leave at once.
func TestPlanDrainOfDisks(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	tried := map[string]time.Time{"t1": at(1), "t9": at(9)}
	vd := func(id, dn string, size uint64, leaving bool) vda.VD {
		return vda.VD{ID: id, DNID: dn, Size: size, Leaving: leaving}
	}
	for _, c := range []struct {
		name string
		vds  []vda.VD
		want string
	}{
		{"none", nil, ": "},
		{"the least first", []vda.VD{vd("a", "x", 3, false), vd("b", "x", 1, false), vd("c", "y", 2, false)}, "b c a: x 4, y 4"},
		{"one that had no place waits behind the others", []vda.VD{vd("t9", "x", 1, false), vd("t1", "x", 2, false), vd("a", "x", 9, false)},
			"a t1 t9: x 4"},
		{"those that are leaving count", []vda.VD{vd("a", "x", 1, true), vd("b", "x", 1, false)}, "b: x 3"},
		{"so many leave at once and no more", []vda.VD{vd("a", "x", 1, true), vd("b", "x", 1, true), vd("c", "x", 1, true),
			vd("d", "x", 1, true), vd("e", "x", 1, false), vd("f", "y", 1, false)}, "f: x 0, y 4"},
	} {
		next, free := PlanDrain(c.vds, func(id string) time.Time { return tried[id] })
		var ids, room []string
		for _, v := range next {
			ids = append(ids, v.ID)
		}
		for dn, n := range free {
			room = append(room, fmt.Sprint(dn, " ", n))
		}
		slices.Sort(room)
		if got := strings.Join(ids, " ") + ": " + strings.Join(room, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// addSpare makes a dn with an empty pd.
func (r *rig) addSpare(name string) *vda.DN {
	r.Helper()
	d := &vda.DN{Node: vda.Node{ID: store.NewID(), Name: name, Online: true, Version: 1}}
	r.update(func(tx store.Tx) error {
		return errors.Join(tx.InsertNode(vda.DiskNode, &d.Node), tx.InsertPD(&vda.PD{ID: "pd-" + name, DNID: d.ID, Name: "pd", Online: true,
			Version: 1, ClusterSize: 1 << 20, TotalClusters: 9, FreeClusters: 9}))
	})
	r.dns = append(r.dns, d)
	r.agents.Start(name)
	return d
}

// serve has the primary on cn0 say once that all legs that it is connected to are
// well, and that targets have all.
func (r *rig) serve(da *vda.DA, lost ...string) (legs []vda.VD) {
	r.Helper()
	state := &apiv1.MirrorState{MirrorId: "mirror", DaId: da.ID, Term: 1}
	err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
		m, err := tx.MirrorsOfDA(da.ID)
		if err != nil {
			return err
		}
		state.Gen = m[0].Gen
		legs, err = tx.VDsOfDA(da.ID)
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	for _, v := range legs {
		if gone := slices.Contains(lost, v.ID); !v.Deleted && v.Role != vda.Stale {
			state.Legs = append(state.Legs, &apiv1.LegState{VdId: v.ID, Connected: !gone, Lost: gone, Ready: v.Role == vda.Target && !gone})
		}
	}
	r.agents.Agent("cn0").Mirror(state)
	return legs
}

// at is on which dns the members are that stay, and what else there is: "dn1 dn2",
// "dn0> dn1 dn2+".
func (r *rig) at(legs []vda.VD) string {
	var at []string
	for _, v := range legs {
		for _, d := range r.dns {
			if d.ID == v.DNID {
				text := d.Name + []string{"", "+", "-"}[v.Role]
				if v.Leaving {
					text += ">"
				}
				if v.Deleted {
					text += "†"
				}
				at = append(at, text)
			}
		}
	}
	slices.Sort(at)
	return strings.Join(at, " ")
}

// TestADiskNodeIsDrained: the vds of a dn that is being drained leave it while the
// array serves, and those that have no place leave when there is one. A drain that is
// called off ends at that.
func TestADiskNodeIsDrained(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		drain := func(i int, on bool) {
			r.update(func(tx store.Tx) error { return tx.SetDNDrain(r.dns[i].ID, on) })
		}
		becomes := func(want string, lost ...string) {
			r.Helper()
			got := ""
			r.within(time.Minute, want, func() bool { got = r.at(r.serve(da, lost...)); return got == want })
		}
		stays := func(want string, lost ...string) {
			r.Helper()
			for range 30 {
				if got := r.at(r.serve(da, lost...)); got != want {
					r.Fatalf("legs %q, want %q", got, want)
				}
				time.Sleep(time.Second)
			}
		}
		becomes("dn0 dn1")
		drain(0, true)
		stays("dn0 dn1") // nowhere else
		r.addSpare("dn2")
		becomes("dn1 dn2")
		drain(0, false)

		// The dn of the leg that stays fails in the middle: the other one does not go
		// before there are two again.
		r.addSpare("dn3")
		r.update(func(tx store.Tx) error { // dn0 takes nothing
			n, err := tx.Node(vda.DiskNode, r.dns[0].ID)
			if err != nil {
				return err
			}
			n.Online = false
			return tx.UpdateNode(vda.DiskNode, n)
		})
		drain(2, true)
		r.within(time.Minute, "a move", func() bool { return strings.Contains(r.at(r.serve(da)), "dn2>") })
		r.agents.Agent("dn1").Stop()
		becomes("dn1- dn2> dn3", "b")
		stays("dn1- dn2> dn3")
		r.agents.Start("dn1")
		becomes("dn1 dn3")
	})
}

// TestAStripedArrayIsDrained: the only leg of a column that was never mirrored goes in the
// step in which its successor becomes a member.
func TestAStripedArrayIsDrained(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		r.update(func(tx store.Tx) error {
			v, err := tx.VD("a")
			if err != nil {
				return err
			}
			v.Size, da.Redundancy = 1<<20, vda.Striped // all of which is data
			return errors.Join(tx.UpdateVD(v), tx.DeleteVD("b"), tx.GivePD("pd1", 2), tx.UpdateDA(da))
		})
		becomes := func(want string) {
			r.Helper()
			r.within(time.Minute, want, func() bool { return r.at(r.serve(da)) == want })
		}
		becomes("dn0")
		r.addSpare("dn2")
		r.update(func(tx store.Tx) error { return tx.SetDNDrain(r.dns[0].ID, true) })
		becomes("dn2")
		r.addSpare("dn3") // the leg has a label by now, and goes when there are two
		r.update(func(tx store.Tx) error {
			return errors.Join(tx.SetDNDrain(r.dns[2].ID, true), tx.SetDNDrain(r.dns[1].ID, true))
		})
		r.update(func(tx store.Tx) error {
			n, err := tx.Node(vda.DiskNode, r.dns[0].ID)
			if err != nil {
				return err
			}
			n.Online = false
			return tx.UpdateNode(vda.DiskNode, n)
		})
		becomes("dn3")
	})
}

// TestADrainIsCalledOff: what is under way is undone.
func TestADrainIsCalledOff(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(10*time.Second, "the pd is up", func() bool { d := r.dn(0); return d.Applied == d.Version })
		da := r.addMirrored()
		r.addSpare("dn2")
		legs := func() (vds []vda.VD) {
			r.Helper()
			if err := r.store.Store.View(r.Context(), func(tx store.Reader) (err error) { vds, err = tx.VDsOfDA(da.ID); return err }); err != nil {
				r.Fatal(err)
			}
			return vds
		}
		r.serve(da)
		r.update(func(tx store.Tx) error { return tx.SetDNDrain(r.dns[0].ID, true) })
		r.within(time.Minute, "a target", func() bool { return r.at(legs()) == "dn0> dn1 dn2+" }) // which is not ready
		r.update(func(tx store.Tx) error { return tx.SetDNDrain(r.dns[0].ID, false) })
		r.update(func(tx store.Tx) error {
			_, err := array.KeepLegs(tx, da.ID, func(v *vda.VD) bool { return v.DNID == r.dns[0].ID })
			return err
		})
		r.within(time.Minute, "the target is gone", func() bool { return r.at(legs()) == "dn0 dn1" })
		time.Sleep(time.Minute)
		if got := r.at(legs()); got != "dn0 dn1" {
			r.Errorf("legs %q after the drain was called off", got)
		}
	})
}
