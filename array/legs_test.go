package array_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// insertMirrored makes the array m of two mirrors: m0 with the legs a and b on dn0
// and dn1, m1 with c and d on dn1 and dn2. It is primary on cn0, secondary on cn1.
func insertMirrored(tx store.Tx) error {
	errs := []error{
		tx.InsertDA(&vda.DA{ID: "m", Name: "m", CntlrCnt: 2, Term: 5, Created: true, Redundancy: vda.Mirror2, MinLegs: 1}),
		tx.InsertGrp(&vda.Grp{ID: "m-grp", DAID: "m"}),
		tx.InsertMirror(&vda.Mirror{ID: "m0", DAID: "m", Idx: 0, Size: 1 << 20, Gen: 1}),
		tx.InsertMirror(&vda.Mirror{ID: "m1", DAID: "m", Idx: 1, Size: 1 << 20, Gen: 1}),
		tx.InsertCntlr(&vda.Cntlr{ID: "m-p", DAID: "m", CNID: cn(0), Primary: true, Version: 20}),
		tx.InsertCntlr(&vda.Cntlr{ID: "m-s", DAID: "m", CNID: cn(1), Idx: 1, Version: 20}),
	}
	for i, id := range []string{"a", "b", "c", "d"} {
		at := []int{0, 1, 1, 2}[i]
		errs = append(errs, tx.TakePD(pd(at), 2), tx.InsertVD(&vda.VD{ID: id, DAID: "m", Idx: uint32(i / 2), MirrorID: fmt.Sprint("m", i/2),
			PDID: pd(at), DNID: dn(at), Clusters: 2, Size: 2 << 20, Version: 10}))
	}
	return errors.Join(errs...)
}

// striped makes the array one that was never mirrored: the legs a and c without
// room for a label.
func striped(tx store.Tx) error {
	da, err := tx.DA("m")
	if err != nil {
		return err
	}
	da.Redundancy = vda.Striped
	errs := []error{tx.UpdateDA(da), tx.DeleteVD("b"), tx.DeleteVD("d"), tx.GivePD(pd(1), 2), tx.GivePD(pd(2), 2)}
	for _, id := range []string{"a", "c"} {
		v, err := tx.VD(id)
		if err != nil {
			return err
		}
		v.Size, v.Clusters = 1<<20, 1
		errs = append(errs, tx.UpdateVD(v), tx.GivePD(v.PDID, 2), tx.TakePD(v.PDID, 1))
	}
	return errors.Join(errs...)
}

// said is a report of the primary: of each leg a letter behind its id, c for
// connected, l for lost, r for ready, n for nothing of these; mirrors by gen.
func said(term uint64, gens [2]uint64, legs string) *array.LegsReport {
	r := &array.LegsReport{DAID: "m", Term: term, Mirrors: []array.MirrorReport{{ID: "m0", Gen: gens[0]}, {ID: "m1", Gen: gens[1]}}}
	for _, l := range strings.Fields(legs) {
		m := &r.Mirrors[strings.Index("aabbxxccddyy", l[:1])/6]
		m.Legs = append(m.Legs, array.LegReport{VDID: l[:1], Connected: l[1] == 'c' || l[1] == 'r', Lost: l[1] == 'l', Ready: l[1] == 'r'})
	}
	return r
}

// newLeg is a leg of so many clusters on a dn, instead of another.
func newLeg(instead string, at int, clusters uint64) array.NewLeg {
	return array.NewLeg{DAID: "m", InsteadOf: instead, At: placement.VD{PDID: pd(at), DNID: dn(at), Clusters: clusters, Size: clusters << 20}}
}

// legsText is how legs stand: "m0@1 a.0 b.0; m1@1 c.0 d.0": the gen, and of each leg
// the epoch, with a sign for a target (+), a stale one (-), one that is leaving (>),
// at a user's word (>>), and a tombstone (†).
func legsText(tx store.Reader) (string, error) {
	mirrors, err := tx.MirrorsOfDA("m")
	if err != nil {
		return "", err
	}
	vds, err := tx.VDsOfDA("m")
	if err != nil {
		return "", err
	}
	slices.SortStableFunc(vds, func(x, y vda.VD) int { return len(x.ID) - len(y.ID) })
	var out []string
	for _, m := range mirrors {
		line := fmt.Sprintf("%s@%d", m.ID, m.Gen)
		if m.Recovered > 0 {
			line += fmt.Sprintf("(recovered %d)", m.Recovered)
		}
		for _, v := range vds {
			if v.MirrorID != m.ID {
				continue
			}
			id := v.ID
			if len(id) > 1 {
				id = "new"
			}
			line += fmt.Sprintf(" %s.%d%s", id, v.Epoch, []string{"", "+", "-"}[v.Role])
			if v.Leaving {
				line += ">"
			}
			if v.Moved {
				line += ">"
			}
			if v.Deleted {
				line += "†"
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "; "), nil
}

// TestLegs: what becomes of the legs of an array, step by step; who is told, and
// who learns nothing.
func TestLegs(t *testing.T) {
	type step struct {
		do   func(store.Tx) (array.Plan, error)
		plan string
		want string
	}
	report := func(term uint64, g0, g1 uint64, legs string) func(store.Tx) (array.Plan, error) {
		return func(tx store.Tx) (array.Plan, error) {
			return array.ChangeLegs(tx, said(term, [2]uint64{g0, g1}, legs))
		}
	}
	admit := func(id string, epoch uint64) func(store.Tx) (array.Plan, error) {
		return func(tx store.Tx) (array.Plan, error) { return array.AdmitLeg(tx, "m", id, epoch) }
	}
	trim := func(tx store.Tx) (array.Plan, error) { return array.TrimLegs(tx, "m") }
	knows := func(tx store.Tx) (array.Plan, error) {
		inner := tx.(*storetest.Recorder).Tx // not part of the transition
		n, err := inner.Node(vda.ControllerNode, cn(0))
		if err != nil {
			return nil, err
		}
		return nil, inner.SetNodeApplied(vda.ControllerNode, cn(0), n.Version)
	}
	knowsThis := func(tx store.Tx) (array.Plan, error) { // and not all that its cn is told
		inner := tx.(*storetest.Recorder).Tx
		n, err := inner.Node(vda.ControllerNode, cn(0))
		if err != nil {
			return nil, err
		}
		return nil, inner.SetApplied(store.ObjCntlr, []string{"m-p"}, n.Version)
	}
	copied := func(tx store.Tx) (array.Plan, error) { // the new leg
		inner := tx.(*storetest.Recorder).Tx
		vds, err := inner.VDsOfDA("m")
		for i := range vds {
			if len(vds[i].ID) > 1 {
				vds[i].Role = vda.Member
				err = errors.Join(err, inner.UpdateVD(&vds[i]), inner.SetVDLack(vds[i].ID, 0, 0))
			}
		}
		return nil, err
	}
	newID := func(tx store.Tx) (string, error) {
		vds, err := tx.(*storetest.Recorder).Tx.VDsOfDA("m")
		at := slices.IndexFunc(vds, func(v vda.VD) bool { return len(v.ID) > 1 })
		return vds[at].ID, err
	}
	admitNew := func(tx store.Tx) (array.Plan, error) {
		id, err := newID(tx)
		if err != nil {
			return nil, err
		}
		return array.AdmitLeg(tx, "m", id, 1)
	}
	readyNew := func(tx store.Tx) (array.Plan, error) {
		id, err := newID(tx)
		r := said(5, [2]uint64{1, 1}, "ac cc")
		r.Mirrors[0].Legs = append(r.Mirrors[0].Legs, array.LegReport{VDID: id, Connected: true, Ready: true})
		if err != nil {
			return nil, err
		}
		return array.ChangeLegs(tx, r)
	}
	allReady := func(tx store.Tx) (array.Plan, error) { // c and the new leg of the other mirror
		id, err := newID(tx)
		if err != nil {
			return nil, err
		}
		r := said(5, [2]uint64{1, 2}, "ac bc cr dc")
		r.Mirrors[1].Legs = append(r.Mirrors[1].Legs, array.LegReport{VDID: id, Connected: true, Ready: true})
		return array.ChangeLegs(tx, r)
	}
	add := func(instead string, at int) func(store.Tx) (array.Plan, error) {
		return func(tx store.Tx) (array.Plan, error) {
			return array.AddLeg(tx, newLeg(instead, at, 2))
		}
	}
	move := func(instead string, at int) func(store.Tx) (array.Plan, error) {
		return func(tx store.Tx) (array.Plan, error) {
			n := newLeg(instead, at, 2)
			n.Moved = true
			return array.AddLeg(tx, n)
		}
	}
	keep := func(id string) func(store.Tx) (array.Plan, error) {
		return func(tx store.Tx) (array.Plan, error) {
			return array.KeepLegs(tx, "m", func(v *vda.VD) bool { return v.ID == id })
		}
	}
	const whole = "m0@1 a.0 b.0; m1@1 c.0 d.0"
	const nothing = "primary; disks"
	lostB := step{report(5, 1, 1, "ac bl cc dc"), "primary cn0; disks dn1", "m0@2 a.0 b.1-; m1@1 c.0 d.0"}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a leg is lost, comes back and is copied to", []step{lostB,
			{admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+; m1@1 c.0 d.0"},
			{report(5, 2, 1, "ac bc cc dc"), nothing, "m0@2 a.0 b.1+; m1@1 c.0 d.0"},
			{report(5, 2, 1, "ac br cc dc"), "primary cn0; disks", "m0@3 a.0 b.1; m1@1 c.0 d.0"}}},
		{"the report is of a term before", []step{{report(4, 1, 1, "ac bl cc dc"), "", whole}}},
		{"the report is of a gen before", []step{lostB, {admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+; m1@1 c.0 d.0"},
			{report(5, 1, 1, "ac br cc dc"), nothing, "m0@2 a.0 b.1+; m1@1 c.0 d.0"}}},
		{"all members of a mirror are lost", []step{{report(5, 1, 1, "al bl cc dc"), nothing, whole}}},
		{"the primary is cut off: it drops nothing elsewhere either", []step{{report(5, 1, 1, "ac bl cl dl"), nothing, whole}}},
		{"nothing is said of the other mirror", []step{{report(5, 1, 1, "ac bl"), nothing, whole}}},
		{"a leg of each mirror is lost at once", []step{{report(5, 1, 1, "ac bl cl dc"), "primary cn0; disks dn1",
			"m0@2 a.0 b.1-; m1@2 c.1- d.0"}}},
		{"the last member is never dropped", []step{lostB, {report(5, 2, 1, "al cc dc"), nothing, "m0@2 a.0 b.1-; m1@1 c.0 d.0"}}},
		{"a target is not the last member either", []step{lostB, {admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+; m1@1 c.0 d.0"},
			{report(5, 2, 1, "al bc cc dc"), nothing, "m0@2 a.0 b.1+; m1@1 c.0 d.0"}}},
		{"a leg is neither connected nor lost", []step{{report(5, 1, 1, "ac bn cc dc"), nothing, whole}}},
		{"fewer than min_legs would be left", []step{
			{func(tx store.Tx) (array.Plan, error) {
				da, err := tx.DA("m")
				if err != nil {
					return nil, err
				}
				da.MinLegs = 2
				return nil, tx.UpdateDA(da)
			}, "", whole},
			{report(5, 1, 1, "ac bl cc dc"), nothing, whole}}},
		{"a target is lost", []step{lostB, {admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+; m1@1 c.0 d.0"},
			{func(tx store.Tx) (array.Plan, error) { return array.ExpelTarget(tx, "m", "b", 1) }, "primary cn0; disks dn1",
				"m0@2 a.0 b.2-; m1@1 c.0 d.0"}}},
		{"a target that was ready is lost: I/O waits for it", []step{lostB, {admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+; m1@1 c.0 d.0"},
			{report(5, 2, 1, "ac bl cc dc"), "primary cn0; disks dn1", "m0@2 a.0 b.2-; m1@1 c.0 d.0"}}},
		{"a vd without a label is moved: its successor takes its place in one step", []step{
			{func(tx store.Tx) (array.Plan, error) { return nil, striped(tx.(*storetest.Recorder).Tx) }, "", "m0@1 a.0; m1@1 c.0"},
			{add("a", 3), "primary; disks dn3", "m0@1 a.0> new.1-; m1@1 c.0"},
			{admitNew, "primary cn0; disks", "m0@1 a.0> new.1+; m1@1 c.0"},
			{trim, nothing, "m0@1 a.0> new.1+; m1@1 c.0"},
			{readyNew, "primary cn0; disks dn0", "m0@2 a.1-> new.1; m1@1 c.0"},
			{trim, nothing, "m0@2 a.1-> new.1; m1@1 c.0"},
			{knows, "", "m0@2 a.1-> new.1; m1@1 c.0"},
			{trim, "primary cn0; disks dn0", "m0@2 a.1->† new.1; m1@1 c.0"}}},
		{"a leg is replaced", []step{lostB,
			{add("b", 3), "primary; disks dn3", "m0@2 a.0 b.1-> new.1-; m1@1 c.0 d.0"},
			{trim, nothing, "m0@2 a.0 b.1-> new.1-; m1@1 c.0 d.0"},
			{copied, "", "m0@2 a.0 b.1-> new.1; m1@1 c.0 d.0"},
			{trim, nothing, "m0@2 a.0 b.1-> new.1; m1@1 c.0 d.0"}, // the primary has not applied what b is now
			{knows, "", "m0@2 a.0 b.1-> new.1; m1@1 c.0 d.0"},
			{trim, "primary cn0; disks dn1", "m0@2 a.0 b.1->† new.1; m1@1 c.0 d.0"}}},
		{"the same, and the primary's cn has not carried out what another array is to be", []step{lostB,
			{add("b", 3), "primary; disks dn3", "m0@2 a.0 b.1-> new.1-; m1@1 c.0 d.0"},
			{copied, "", "m0@2 a.0 b.1-> new.1; m1@1 c.0 d.0"},
			{trim, nothing, "m0@2 a.0 b.1-> new.1; m1@1 c.0 d.0"},
			{knowsThis, "", "m0@2 a.0 b.1-> new.1; m1@1 c.0 d.0"},
			{trim, "primary cn0; disks dn1", "m0@2 a.0 b.1->† new.1; m1@1 c.0 d.0"}}},
		{"the one to be replaced is quicker", []step{lostB,
			{add("b", 3), "primary; disks dn3", "m0@2 a.0 b.1-> new.1-; m1@1 c.0 d.0"},
			{admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+> new.1-; m1@1 c.0 d.0"},
			{report(5, 2, 1, "ac br cc dc"), "primary cn0; disks", "m0@3 a.0 b.1 new.1->; m1@1 c.0 d.0"},
			{knows, "", "m0@3 a.0 b.1 new.1->; m1@1 c.0 d.0"},
			{trim, "primary cn0; disks dn3", "m0@3 a.0 b.1 new.1->†; m1@1 c.0 d.0"}}},
		{"a member moves", []step{
			{add("d", 3), "primary; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0> new.1-"},
			{copied, "", "m0@1 a.0 b.0; m1@1 c.0 d.0> new.1"},
			{trim, "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@2 c.0 d.1-> new.1"},
			{trim, nothing, "m0@1 a.0 b.0; m1@2 c.0 d.1-> new.1"},
			{knows, "", "m0@1 a.0 b.0; m1@2 c.0 d.1-> new.1"},
			{trim, "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@2 c.0 d.1->† new.1"}}},
		{"a member that a user moves is lost meanwhile and comes back: it goes all the same", []step{
			{move("d", 3), "primary; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{report(5, 1, 1, "ac bc cc dl"), "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@2 c.0 d.1->> new.1-"},
			{admit("d", 1), "primary cn0; disks", "m0@1 a.0 b.0; m1@2 c.0 d.1+>> new.1-"},
			{report(5, 1, 2, "ac bc cc dr"), "primary cn0; disks", "m0@1 a.0 b.0; m1@3 c.0 d.1>> new.1-"},
			{trim, nothing, "m0@1 a.0 b.0; m1@3 c.0 d.1>> new.1-"},
			{copied, "", "m0@1 a.0 b.0; m1@3 c.0 d.1>> new.1"},
			{trim, "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@4 c.0 d.2->> new.1"},
			{knows, "", "m0@1 a.0 b.0; m1@4 c.0 d.2->> new.1"},
			{trim, "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@4 c.0 d.2->>† new.1"}}},
		{"the peer of a member that moves is lost: the member stays until the peer is back", []step{
			{move("d", 3), "primary; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{report(5, 1, 1, "ac bc cl dc"), "primary cn0; disks dn1", "m0@1 a.0 b.0; m1@2 c.1- d.0>> new.1-"},
			{copied, "", "m0@1 a.0 b.0; m1@2 c.1- d.0>> new.1"},
			{trim, nothing, "m0@1 a.0 b.0; m1@2 c.1- d.0>> new.1"},
			{admit("c", 1), "primary cn0; disks", "m0@1 a.0 b.0; m1@2 c.1+ d.0>> new.1"},
			{report(5, 1, 2, "ac bc cr dc"), "primary cn0; disks", "m0@1 a.0 b.0; m1@3 c.1 d.0>> new.1"},
			{trim, "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@4 c.1 d.1->> new.1"}}},
		{"a move is called off", []step{
			{move("d", 3), "primary; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{keep("a"), "", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{knows, "", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{keep("d"), "primary cn0; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0 new.1-†"}}},
		{"a move that is as good as done is not called off", []step{
			{move("d", 3), "primary; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{copied, "", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1"},
			{keep("d"), "", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1"}}},
		{"a move of a leg that is lost is called off: who is quicker stays", []step{
			{move("d", 3), "primary; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{report(5, 1, 1, "ac bc cc dl"), "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@2 c.0 d.1->> new.1-"},
			{keep("d"), nothing, "m0@1 a.0 b.0; m1@2 c.0 d.1-> new.1-"},
			{admit("d", 1), "primary cn0; disks", "m0@1 a.0 b.0; m1@2 c.0 d.1+> new.1-"},
			{report(5, 1, 2, "ac bc cc dr"), "primary cn0; disks", "m0@1 a.0 b.0; m1@3 c.0 d.1 new.1->"}}},
		{"a move is called off while the peer is away: when all have joined, one goes", []step{
			{move("d", 3), "primary; disks dn3", "m0@1 a.0 b.0; m1@1 c.0 d.0>> new.1-"},
			{report(5, 1, 1, "ac bc cl dc"), "primary cn0; disks dn1", "m0@1 a.0 b.0; m1@2 c.1- d.0>> new.1-"},
			{keep("d"), nothing, "m0@1 a.0 b.0; m1@2 c.1- d.0 new.1-"},
			{admit("c", 1), "primary cn0; disks", "m0@1 a.0 b.0; m1@2 c.1+ d.0 new.1-"},
			{admitNew, "primary cn0; disks", "m0@1 a.0 b.0; m1@2 c.1+ d.0 new.1+"},
			{allReady, "primary cn0; disks", "m0@1 a.0 b.0; m1@3 c.1 d.0> new.1"},
			{trim, "primary cn0; disks dn2", "m0@1 a.0 b.0; m1@4 c.1 d.1-> new.1"}}},
		{"two join at once: one is too many", []step{lostB,
			{add("b", 3), "primary; disks dn3", "m0@2 a.0 b.1-> new.1-; m1@1 c.0 d.0"},
			{admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+> new.1-; m1@1 c.0 d.0"},
			{copied, "", "m0@2 a.0 b.1+> new.1; m1@1 c.0 d.0"},
			{report(5, 2, 1, "ac br cc dc"), "primary cn0; disks", "m0@3 a.0 b.1> new.1; m1@1 c.0 d.0"},
			{trim, "primary cn0; disks dn1", "m0@4 a.0 b.2-> new.1; m1@1 c.0 d.0"}}},
		{"the same, and one of them is not well: that one goes", []step{lostB,
			{add("b", 3), "primary; disks dn3", "m0@2 a.0 b.1-> new.1-; m1@1 c.0 d.0"},
			{admit("b", 1), "primary cn0; disks", "m0@2 a.0 b.1+> new.1-; m1@1 c.0 d.0"},
			{copied, "", "m0@2 a.0 b.1+> new.1; m1@1 c.0 d.0"},
			{func(tx store.Tx) (array.Plan, error) {
				inner := tx.(*storetest.Recorder).Tx
				return nil, inner.SetHealth(store.ObjVD, "a", vda.Health{Error: true, Msg: "media errors"})
			}, "", "m0@2 a.0 b.1+> new.1; m1@1 c.0 d.0"},
			{report(5, 2, 1, "ac br cc dc"), "primary cn0; disks", "m0@3 a.0> b.1 new.1; m1@1 c.0 d.0"},
			{trim, "primary cn0; disks dn0", "m0@4 a.1-> b.1 new.1; m1@1 c.0 d.0"}}},
		{"data are given up", []step{lostB,
			{func(tx store.Tx) (array.Plan, error) { return array.Recover(tx, "m", "b") }, "primary cn0; disks dn0 dn1",
				"m0@3(recovered 3) a.1- b.2; m1@1 c.0 d.0"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			c.update(insertMirrored)
			for i, s := range tt.steps {
				var plan array.Plan
				var r *storetest.Recorder
				c.update(func(tx store.Tx) (err error) {
					r = storetest.Record(tx)
					plan, err = s.do(r)
					return err
				})
				if len(r.Wrong) > 0 {
					t.Errorf("step %d: out of the lock order:\n%s", i+1, strings.Join(r.Wrong, "\n"))
				}
				if got := planText(plan); got != s.plan {
					t.Errorf("step %d: plan %q, want %q", i+1, got, s.plan)
				}
				c.update(func(tx store.Tx) error {
					got, err := legsText(tx)
					if got != s.want {
						t.Errorf("step %d:\n got %s\nwant %s", i+1, got, s.want)
					}
					return err
				})
			}
		})
	}
}

// TestLegsAreStale: a decision is void when the leg is not what it was.
func TestLegsAreStale(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(store.Tx) (array.Plan, error)
	}{
		{"admit a member", func(tx store.Tx) (array.Plan, error) { return array.AdmitLeg(tx, "m", "a", 0) }},
		{"admit an epoch before", func(tx store.Tx) (array.Plan, error) {
			if _, err := array.ChangeLegs(tx, said(5, [2]uint64{1, 1}, "ac bl cc dc")); err != nil {
				return nil, err
			}
			return array.AdmitLeg(tx, "m", "b", 0)
		}},
		{"expel a member as a target", func(tx store.Tx) (array.Plan, error) { return array.ExpelTarget(tx, "m", "a", 0) }},
		{"a leg that is gone", func(tx store.Tx) (array.Plan, error) { return array.AdmitLeg(tx, "m", "z", 0) }},
		{"a second leg on one dn", func(tx store.Tx) (array.Plan, error) {
			return array.AddLeg(tx, newLeg("b", 0, 2))
		}},
		{"a leg instead of one that is leaving", func(tx store.Tx) (array.Plan, error) {
			if _, err := array.AddLeg(tx, newLeg("d", 3, 2)); err != nil {
				return nil, err
			}
			return array.AddLeg(tx, newLeg("d", 0, 2))
		}},
		{"admit a leg that its column does not need any more", func(tx store.Tx) (array.Plan, error) {
			v, err := tx.VD("d")
			if err != nil {
				return nil, err
			}
			extra := *v
			extra.ID, extra.Role, extra.Epoch, extra.DNID, extra.PDID = "e", vda.Stale, 1, dn(3), pd(3)
			if err := tx.InsertVD(&extra); err != nil {
				return nil, err
			}
			return array.AdmitLeg(tx, "m", "e", 1)
		}},
		{"a leg without room for its tail", func(tx store.Tx) (array.Plan, error) {
			return array.AddLeg(tx, newLeg("b", 3, 1))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			c.update(insertMirrored)
			err := c.Update(t.Context(), func(tx store.Tx) error { _, err := tt.do(tx); return err })
			if !errors.Is(err, array.ErrStale) {
				t.Errorf("%v, want ErrStale", err)
			}
		})
	}
}
