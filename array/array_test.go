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

// cluster is a database with nodes n0 to n3 of each kind, a pd on each dn and
// two arrays. The arrays' rows come in the opposite order of their nodes'.
type cluster struct {
	*testing.T
	store.Store
}

const nodes = 4

func cn(i int) string { return fmt.Sprint("cn", i) }
func dn(i int) string { return fmt.Sprint("dn", i) }
func pd(i int) string { return fmt.Sprint("pd", i) }

func newCluster(t *testing.T) *cluster {
	t.Helper()
	uri := storetest.SQLite(t)
	st, err := store.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := &cluster{t, st}
	c.update(func(tx store.Tx) error {
		if err := insertNodes(tx); err != nil {
			return err
		}
		for _, da := range []string{"da1", "da0"} {
			if err := insertArray(tx, da); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// insertNodes makes the nodes, and a pd on each dn.
func insertNodes(tx store.Tx) error {
	for i := range nodes {
		for _, err := range []error{
			tx.InsertNode(vda.DiskNode, &vda.Node{ID: dn(i), Name: dn(i), Online: true, Version: 10}),
			tx.InsertNode(vda.ControllerNode, &vda.Node{ID: cn(i), Name: cn(i), Online: true, Version: 20}),
			tx.SetCNMirrors(cn(i), true),
			tx.InsertPD(&vda.PD{ID: pd(i), DNID: dn(i), Name: "pd", Online: true, Version: 10, ClusterSize: 1 << 20, TotalClusters: 100,
				FreeClusters: 100}),
		} {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// insertArray makes an array with vds on dn2, dn1 and dn0, controllers on cn2, which
// is primary, cn1 and cn0, and an exporter.
func insertArray(tx store.Tx, id string) error {
	errs := []error{
		tx.InsertDA(&vda.DA{ID: id, Name: id, Size: 3 << 20, PhysicalSize: 3 << 20, CntlrCnt: 3, Term: 1, Created: true}),
		tx.InsertGrp(&vda.Grp{ID: id + "-grp", DAID: id}),
		tx.InsertExp(&vda.Exp{ID: id + "-exp", DAID: id, Name: "exp", NQN: id + "-nqn"}),
	}
	for i := range 3 {
		at := 2 - i
		errs = append(errs,
			tx.InsertVD(&vda.VD{ID: fmt.Sprint(id, "-vd", i), DAID: id, Idx: uint32(i), PDID: pd(at), DNID: dn(at), Clusters: 1, Size: 1 << 20,
				MirrorID: fmt.Sprint(id, "-m", i), Version: 10}),
			tx.InsertMirror(&vda.Mirror{ID: fmt.Sprint(id, "-m", i), DAID: id, Idx: uint32(i), Size: 1 << 20, Gen: 1}),
			tx.TakePD(pd(at), 1),
			tx.InsertCntlr(&vda.Cntlr{ID: cntlr(id, i), DAID: id, CNID: cn(at), Idx: uint32(i), Primary: i == 0, Version: 20}),
			tx.InsertES(&vda.ES{ID: fmt.Sprint(id, "-es", i), ExpID: id + "-exp", CntlrID: cntlr(id, i)}))
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func cntlr(da string, i int) string { return fmt.Sprint(da, "-cntlr", i) }

func (c *cluster) update(fn func(store.Tx) error) {
	c.Helper()
	if err := c.Update(c.Context(), fn); err != nil {
		c.Fatal(err)
	}
}

// versions has all nodes and their objects with their versions: "dn0:11 pd0:10 …".
func (c *cluster) versions() string {
	c.Helper()
	var out []string
	err := c.View(c.Context(), func(tx store.Reader) error {
		cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
		if err != nil {
			return err
		}
		for _, n := range cns {
			out = append(out, fmt.Sprint(n.ID, ":", n.Version))
			cntlrs, err := tx.CNObjects(n.ID, 20)
			if err != nil {
				return err
			}
			for _, v := range cntlrs {
				out = append(out, label(v.ID, v.DAID, v.Idx, v.Version, v.Deleted))
			}
		}
		dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
		if err != nil {
			return err
		}
		for _, n := range dns {
			out = append(out, fmt.Sprint(n.ID, ":", n.Version))
			pds, vds, err := tx.DNObjects(n.ID, 10)
			if err != nil {
				return err
			}
			for _, v := range pds {
				out = append(out, label(v.ID, "", 0, v.Version, v.Deleted))
			}
			for _, v := range vds {
				out = append(out, label(v.ID, v.DAID, v.Idx, v.Version, v.Deleted))
			}
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	return strings.Join(out, " ")
}

// label is a row's id with its version; rows that have been made carry their array
// and index for an id.
func label(id, daID string, idx uint32, version uint64, deleted bool) string {
	if len(id) == 32 {
		id = fmt.Sprint(daID, "/", idx)
	}
	return fmt.Sprint(id, ":", version, map[bool]string{true: "†"}[deleted])
}

// planText is "disks dn0 dn1; primary cn2".
func planText(p array.Plan) string {
	names := map[array.Role]string{array.StandBy: "stand by", array.Retire: "retire", array.Disks: "disks", array.Primary: "primary",
		array.Secondaries: "secondaries"}
	var out []string
	for _, s := range p {
		line := []string{names[s.Role]}
		for _, n := range s.Nodes {
			line = append(line, n.ID)
		}
		slices.Sort(line[1:])
		out = append(out, strings.Join(line, " "))
	}
	return strings.Join(out, "; ")
}

// places are columns of a vd of one cluster each on the pds.
func places(pds ...int) []placement.Column { return placement.Columns(1<<20, vdsOn(1, pds...)) }

func vdsOn(clusters uint64, pds ...int) (vds []placement.VD) {
	for _, i := range pds {
		vds = append(vds, placement.VD{PDID: pd(i), DNID: dn(i), Clusters: clusters, Size: clusters << 20})
	}
	return vds
}

// mirrored is a column of 1 MiB of data with legs on the pds.
func mirrored(pds ...int) placement.Column {
	return placement.Column{Data: 1 << 20, Legs: vdsOn(2, pds...)}
}

// untouched are the versions of nodes that a transition leaves alone.
const (
	untouchedCNs = "cn0:20 cn1:20 cn2:20 cn3:20"
	untouchedDNs = "dn0:10 dn1:10 dn2:10 dn3:10"
)

// TestTransitions runs each transition on a cluster of its own: it locks in the
// one order, raises the versions of the nodes that have to know, and of no other,
// stamps the rows and returns the plan.
func TestTransitions(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(tx store.Tx) (array.Plan, error)
		plan string
		want string // versions
	}{
		{"delete", func(tx store.Tx) (array.Plan, error) {
			da, err := tx.DA("da0")
			if err != nil {
				return nil, err
			}
			return array.Delete(tx, da)
		}, "secondaries cn0 cn1; primary cn2; disks dn0 dn1 dn2",
			"cn0:21 da0-cntlr2:21† cn1:21 da0-cntlr1:21† cn2:21 da0-cntlr0:21† cn3:20 " + untouchedDNs},
		{"delete vds", func(tx store.Tx) (array.Plan, error) { return nil, array.DeleteVDs(tx, "da0") }, "",
			untouchedCNs + " dn0:11 da0-vd2:11† dn1:11 da0-vd1:11† dn2:11 da0-vd0:11† dn3:10"},
		{"create exporter", func(tx store.Tx) (array.Plan, error) {
			return array.CreateExp(tx, &vda.Exp{ID: "e", DAID: "da0", Name: "e", NQN: "nqn"})
		}, "primary cn2; secondaries cn0 cn1",
			"cn0:21 da0-cntlr2:21 cn1:21 da0-cntlr1:21 cn2:21 da0-cntlr0:21 cn3:20 " + untouchedDNs},
		{"delete exporter", func(tx store.Tx) (array.Plan, error) {
			return array.DeleteExp(tx, &vda.Exp{ID: "da1-exp", DAID: "da1", Name: "exp"})
		}, "secondaries cn0 cn1; primary cn2",
			"cn0:21 da1-cntlr2:21 cn1:21 da1-cntlr1:21 cn2:21 da1-cntlr0:21 cn3:20 " + untouchedDNs},
		{"create snapshot", func(tx store.Tx) (array.Plan, error) {
			return array.CreateSnap(tx, &vda.Snap{ID: "s", DAID: "da0", Name: "s", State: vda.SnapAsked})
		}, "primary cn2", "cn0:20 cn1:20 cn2:21 da0-cntlr0:21 cn3:20 " + untouchedDNs},
		{"delete snapshot", func(tx store.Tx) (array.Plan, error) {
			s := &vda.Snap{ID: "s", DAID: "da1", Name: "s", State: vda.SnapTaken}
			if _, err := tx.DA("da1"); err != nil {
				return nil, err
			}
			if err := tx.InsertSnap(s); err != nil {
				return nil, err
			}
			return array.DeleteSnap(tx, s)
		}, "primary cn2", "cn0:20 cn1:20 cn2:21 da1-cntlr0:21 cn3:20 " + untouchedDNs},
		{"roll back", func(tx store.Tx) (array.Plan, error) {
			s := &vda.Snap{ID: "s", DAID: "da1", Name: "s", State: vda.SnapTaken}
			if _, err := tx.DA("da1"); err != nil {
				return nil, err
			}
			if err := tx.InsertSnap(s); err != nil {
				return nil, err
			}
			return array.RollBack(tx, s)
		}, "primary cn2", "cn0:20 cn1:20 cn2:21 da1-cntlr0:21 cn3:20 " + untouchedDNs},
		{"set limits", func(tx store.Tx) (array.Plan, error) {
			return array.Modify(tx, &vda.DA{ID: "da1", Name: "da1", Term: 1, Limits: vda.Limits{RWIOs: 1000}})
		}, "primary cn2", "cn0:20 cn1:20 cn2:21 da1-cntlr0:21 cn3:20 " + untouchedDNs},
		{"create", func(tx store.Tx) (array.Plan, error) {
			return array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1}, places(2, 3, 0),
				[]placement.Cntlr{{CNID: cn(3)}, {CNID: cn(1), Primary: true}})
		}, "disks dn0 dn2 dn3; primary cn1; secondaries cn3",
			"cn0:20 cn1:21 new/1:21 cn2:20 cn3:21 new/0:21 dn0:11 new/2:11 dn1:10 dn2:11 new/0:11 dn3:11 new/1:11"},
		{"create mirrored", func(tx store.Tx) (array.Plan, error) {
			return array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1, Redundancy: vda.Mirror2, MinLegs: 1},
				[]placement.Column{mirrored(2, 0), mirrored(0, 3)}, []placement.Cntlr{{CNID: cn(3)}, {CNID: cn(1), Primary: true}})
		}, "disks dn0 dn2 dn3; primary cn1; secondaries cn3",
			"cn0:20 cn1:21 new/1:21 cn2:20 cn3:21 new/0:21 dn0:11 new/0:11 new/1:11 dn1:10 dn2:11 new/0:11 dn3:11 new/1:11"},
		{"adopt", func(tx store.Tx) (array.Plan, error) {
			return array.Adopt(tx, &array.Adoption{DA: &vda.DA{ID: "new", Name: "new", Term: 1}, Grps: []*vda.Grp{{ID: "g", DAID: "new"}},
				VDs: []*vda.VD{{ID: "v0", DAID: "new", PDID: pd(3), DNID: dn(3), Size: 1 << 20},
					{ID: "v1", DAID: "new", PDID: pd(1), DNID: dn(1), Size: 1 << 20}},
				Cntlrs: []*vda.Cntlr{{ID: "c0", DAID: "new", CNID: cn(3), Primary: true}, {ID: "c1", DAID: "new", CNID: cn(0), Idx: 1}},
				Exps:   []*vda.Exp{{ID: "e", DAID: "new", Name: "e", NQN: "e"}}})
		}, "disks dn1 dn3; primary cn3; secondaries cn0",
			"cn0:21 c1:21 cn1:20 cn2:20 cn3:21 c0:21 dn0:10 dn1:11 v1:11 dn2:10 dn3:11 v0:11"},
		{"add pd", func(tx store.Tx) (array.Plan, error) {
			return nil, array.AddPD(tx, &vda.PD{ID: "p", DNID: dn(1), Name: "p"})
		}, "", untouchedCNs + " dn0:10 dn1:11 p:11 dn2:10 dn3:10"},
		{"remove pd", func(tx store.Tx) (array.Plan, error) {
			return nil, array.RemovePD(tx, &vda.PD{ID: pd(3), DNID: dn(3), Name: "pd", TotalClusters: 100})
		}, "", untouchedCNs + " dn0:10 dn1:10 dn2:10 dn3:11 pd3:11†"},
		{"another address", func(tx store.Tx) (array.Plan, error) {
			return nil, array.UpdateNode(tx, vda.ControllerNode, &vda.Node{ID: cn(3), Name: cn(3)}, true)
		}, "", "cn0:20 cn1:20 cn2:20 cn3:21 " + untouchedDNs},
		{"another location", func(tx store.Tx) (array.Plan, error) {
			return nil, array.UpdateNode(tx, vda.DiskNode, &vda.Node{ID: dn(3), Name: dn(3), Location: "r"}, false)
		}, "", untouchedCNs + " " + untouchedDNs},
		{"next version", func(tx store.Tx) (array.Plan, error) {
			v, err := array.NextVersion(tx, array.Node{Kind: vda.DiskNode, ID: dn(1)})
			if v != 11 {
				t.Errorf("the next version is %d, want 11", v)
			}
			return nil, err
		}, "", untouchedCNs + " dn0:10 dn1:11 dn2:10 dn3:10"},
		{"resume", func(tx store.Tx) (array.Plan, error) {
			did, err := array.Resume(tx, array.Node{Kind: vda.ControllerNode, ID: cn(3)}, 100)
			if !did {
				t.Error("versions of a new node do not continue from what its agent holds")
			}
			return nil, err
		}, "", "cn0:20 cn1:20 cn2:20 cn3:101 " + untouchedDNs},
		{"resume of one that has objects", func(tx store.Tx) (array.Plan, error) {
			did, err := array.Resume(tx, array.Node{Kind: vda.DiskNode, ID: dn(3)}, 100)
			if did {
				t.Error("a node that has objects is taken for a new one")
			}
			return nil, err
		}, "", untouchedCNs + " " + untouchedDNs},
		{"move", func(tx store.Tx) (array.Plan, error) {
			return array.MovePrimary(tx, array.Move{DAID: "da0", Term: 1, To: cntlr("da0", 1)})
		}, "stand by; retire; disks dn0 dn1 dn2; primary cn1; secondaries cn0",
			"cn0:21 da0-cntlr2:21 cn1:21 da0-cntlr1:21 cn2:21 da0-cntlr0:21 cn3:20 dn0:11 da0-vd2:11 dn1:11 da0-vd1:11 dn2:11 da0-vd0:11 dn3:10"},
		{"planned move", func(tx store.Tx) (array.Plan, error) {
			m, err := array.PlannedMove(tx.(*storetest.Recorder).Tx, "da1", cn(0)) // in a view
			if err != nil {
				return nil, err
			}
			return array.MovePrimary(tx, m)
		}, "stand by cn0 cn1; retire cn2; disks dn0 dn1 dn2; primary cn0; secondaries cn1 cn2",
			"cn0:21 da1-cntlr2:21 cn1:21 da1-cntlr1:21 cn2:21 da1-cntlr0:21 cn3:20 dn0:11 da1-vd2:11 dn1:11 da1-vd1:11 dn2:11 da1-vd0:11 dn3:10"},
		{"replace", func(tx store.Tx) (array.Plan, error) {
			return array.Replace(tx, &array.Replacement{DAID: "da0", CntlrID: cntlr("da0", 1), To: cn(3)})
		}, "primary cn2; secondaries cn3",
			"cn0:21 da0-cntlr2:21 cn1:21 da0-cntlr1:21† cn2:21 da0-cntlr0:21 cn3:21 da0/3:21 " + untouchedDNs},
		{"replace, whose successor is there", func(tx store.Tx) (array.Plan, error) {
			da, err := tx.DA("da0")
			if err != nil {
				return nil, err
			}
			da.CntlrCnt = 2
			if err := tx.UpdateDA(da); err != nil {
				return nil, err
			}
			return array.Replace(tx, &array.Replacement{DAID: "da0", CntlrID: cntlr("da0", 2)})
		}, "primary cn2; secondaries",
			"cn0:21 da0-cntlr2:21† cn1:21 da0-cntlr1:21 cn2:21 da0-cntlr0:21 cn3:20 " + untouchedDNs},
		{"forget a dn", func(tx store.Tx) (array.Plan, error) {
			inUse, err := array.ForgetDN(tx, dn(3))
			if inUse != nil {
				t.Errorf("a dn without vds is in use by %v", inUse)
			}
			return nil, err
		}, "", untouchedCNs + " dn0:10 dn1:10 dn2:10"},
		{"forget a dn with tombstones", func(tx store.Tx) (array.Plan, error) {
			for _, id := range []string{"da0", "da1"} { // not part of the transition
				vds, err := tx.(*storetest.Recorder).Tx.VDsOfDA(id)
				if err != nil {
					return nil, err
				}
				vds[2].Deleted = true
				if err := tx.(*storetest.Recorder).Tx.UpdateVD(&vds[2]); err != nil {
					return nil, err
				}
			}
			_, err := array.ForgetDN(tx, dn(0))
			return nil, err
		}, "", untouchedCNs + " dn1:10 dn2:10 dn3:10"},
		{"forget a dn in use", func(tx store.Tx) (array.Plan, error) {
			inUse, err := array.ForgetDN(tx, dn(0))
			if slices.Sort(inUse); !slices.Equal(inUse, []string{"da0", "da1"}) {
				t.Errorf("a dn is in use by %v, want da0 and da1", inUse)
			}
			return nil, err
		}, "", untouchedCNs + " " + untouchedDNs},
		{"forget the last cn of a deleted array", func(tx store.Tx) (array.Plan, error) {
			inner := tx.(*storetest.Recorder).Tx // not part of the transition
			for i := range 3 {
				for _, id := range []string{"da0", "da1"} {
					v, err := inner.Cntlr(cntlr(id, i))
					if err != nil {
						return nil, err
					}
					da, err := inner.DA(id)
					if err != nil {
						return nil, err
					}
					v.Deleted, da.Deleted = true, true
					if err := errors.Join(inner.UpdateCntlr(v), inner.UpdateDA(da)); err != nil {
						return nil, err
					}
					if i > 0 {
						if err := array.Begin(inner).DropCntlr(v); err != nil {
							return nil, err
						}
					}
				}
			}
			inUse, err := array.ForgetCN(tx, cn(2))
			if inUse != nil {
				t.Errorf("a cn with tombstones is in use by %v", inUse)
			}
			return nil, err
		}, "", "cn0:20 cn1:20 cn3:20 dn0:11 da0-vd2:11† da1-vd2:11† dn1:11 da0-vd1:11† da1-vd1:11† " +
			"dn2:11 da0-vd0:11† da1-vd0:11† dn3:10"},
		{"settle", func(tx store.Tx) (array.Plan, error) {
			// All controllers of both arrays are gone.
			c := array.Begin(tx)
			if err := c.LockArrays("da1", "da0"); err != nil {
				return nil, err
			}
			for _, id := range []string{"da1", "da0"} {
				da, err := tx.DA(id)
				if err != nil {
					return nil, err
				}
				da.Deleted = true
				if err := tx.UpdateDA(da); err != nil {
					return nil, err
				}
				for i := 2; i >= 0; i-- {
					v, err := tx.Cntlr(cntlr(id, i))
					if err != nil {
						return nil, err
					}
					if err := c.DropCntlr(v); err != nil {
						return nil, err
					}
				}
			}
			c.At(array.Node{Kind: vda.ControllerNode, ID: "cn3"}, func() error { return tx.SetNodeApplied(vda.ControllerNode, "cn3", 1) })
			if err := c.Settle("da1", "da0"); err != nil {
				return nil, err
			}
			return nil, c.Write()
		}, "", untouchedCNs + " dn0:11 da0-vd2:11† da1-vd2:11† dn1:11 da0-vd1:11† da1-vd1:11† dn2:11 da0-vd0:11† da1-vd0:11† dn3:10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			var r *storetest.Recorder
			var plan array.Plan
			c.update(func(tx store.Tx) (err error) {
				r = storetest.Record(tx)
				plan, err = tt.run(r)
				return err
			})
			if len(r.Wrong) > 0 {
				t.Errorf("out of the lock order:\n%s", strings.Join(r.Wrong, "\n"))
			}
			if got := planText(plan); got != tt.plan {
				t.Errorf("the plan is %q, want %q", got, tt.plan)
			}
			if got := c.versions(); got != tt.want {
				t.Errorf("versions are\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// TestCreateMirrored: each column has a mirror of its data bytes, whose legs are all
// members at its place in the stripe, and the group is as large as its data.
func TestCreateMirrored(t *testing.T) {
	c := newCluster(t)
	c.update(func(tx store.Tx) error {
		_, err := array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1, Redundancy: vda.Mirror3, MinLegs: 2},
			[]placement.Column{mirrored(2, 0, 1), mirrored(0, 3, 2)}, []placement.Cntlr{{CNID: cn(1), Primary: true}})
		return err
	})
	err := c.View(t.Context(), func(tx store.Reader) error {
		mirrors, err := tx.MirrorsOfDA("new")
		if err != nil || len(mirrors) != 2 {
			t.Fatalf("%d mirrors, %v; want one for each of 2 columns", len(mirrors), err)
		}
		grps, err := tx.GrpsOfDA("new")
		if err != nil || len(grps) != 1 || grps[0].Size != 2<<20 {
			t.Errorf("groups %+v, %v; want one of the 2 MiB that two columns have for data", grps, err)
		}
		vds, err := tx.VDsOfDA("new")
		columns := vda.Columns(vds)
		if err != nil || len(columns) != 2 {
			t.Fatalf("%d columns, %v", len(columns), err)
		}
		for i, want := range []string{"dn0 dn1 dn2", "dn0 dn2 dn3"} {
			m := mirrors[i]
			if m.GrpIdx != 0 || m.Idx != uint32(i) || m.Gen != 1 || m.Size != 1<<20 {
				t.Errorf("mirror %d is %+v", i, m)
			}
			var dns []string
			for _, v := range columns[i].Of(vda.Member) {
				dns = append(dns, v.DNID)
				if v.MirrorID != m.ID || v.Idx != m.Idx || v.Epoch != 0 || v.Size != 2<<20 {
					t.Errorf("leg %+v of mirror %s", v, m.ID)
				}
			}
			if slices.Sort(dns); strings.Join(dns, " ") != want {
				t.Errorf("the members of column %d are on %v, want %s", i, dns, want)
			}
		}
		p, err := tx.PD(pd(0))
		if err == nil && p.FreeClusters != 100-2-2*2 { // those of the other arrays, and a leg of each column
			t.Errorf("pd0 has %d clusters free", p.FreeClusters)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCreateStriped: each column of a striped array is a mirror of one leg, all of
// which is data.
func TestCreateStriped(t *testing.T) {
	c := newCluster(t)
	c.update(func(tx store.Tx) error {
		vds := []placement.VD{{PDID: pd(0), DNID: dn(0), Clusters: 2, Size: 2 << 20}, {PDID: pd(3), DNID: dn(3), Clusters: 3, Size: 3 << 20}}
		_, err := array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1, Redundancy: vda.Striped, MinLegs: 1},
			placement.Columns(2<<20-4096, vds), []placement.Cntlr{{CNID: cn(1), Primary: true}})
		return err
	})
	err := c.View(t.Context(), func(tx store.Reader) error {
		mirrors, err := tx.MirrorsOfDA("new")
		if err != nil {
			return err
		}
		vds, err := tx.VDsOfDA("new")
		if err != nil || len(vds) != 2 || len(mirrors) != 2 {
			t.Fatalf("%d vds and %d mirrors, %v; want 2 of each", len(vds), len(mirrors), err)
		}
		for i := range vds {
			m, v := &mirrors[i], &vds[i]
			if v.MirrorID != m.ID || m.Size != v.Size || v.Size != uint64(i+2)<<20 || m.Gen != 1 || !m.Bare(&vda.Columns(vds)[i]) || m.HasTail(v) {
				t.Errorf("column %d is %+v, its vd %+v", i, m, v)
			}
		}
		grps, err := tx.GrpsOfDA("new")
		if err == nil && grps[0].Size != 5<<20 {
			t.Errorf("the group has %d bytes", grps[0].Size)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCreateRefusesColumns: what would not be the redundancy that the array promises
// never gets into the database.
func TestCreateRefusesColumns(t *testing.T) {
	short := mirrored(0, 1)
	short.Data++
	for name, columns := range map[string][]placement.Column{
		"two legs on one dn":                  {mirrored(0, 1), mirrored(2, 2)},
		"a leg too few":                       {mirrored(0, 1), mirrored(2)},
		"a leg too many":                      {mirrored(0, 1, 2)},
		"no room for what is behind the data": {short},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			err := c.Update(t.Context(), func(tx store.Tx) error {
				_, err := array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1, Redundancy: vda.Mirror2, MinLegs: 1}, columns,
					[]placement.Cntlr{{CNID: cn(3), Primary: true}})
				return err
			})
			if err == nil || vda.KindOf(err) != vda.Internal {
				t.Errorf("create: %v", err)
			}
		})
	}
}

// TestStale: places that are no longer what they were when they were chosen are
// refused as stale, whatever has changed, so that the caller chooses again.
func TestStale(t *testing.T) {
	for name, change := range map[string]func(tx store.Tx) error{
		"nothing":       func(store.Tx) error { return nil },
		"cn offline":    func(tx store.Tx) error { return tx.UpdateNode(vda.ControllerNode, &vda.Node{ID: cn(3), Name: cn(3)}) },
		"dn offline":    func(tx store.Tx) error { return tx.UpdateNode(vda.DiskNode, &vda.Node{ID: dn(3), Name: dn(3)}) },
		"cn gone":       func(tx store.Tx) error { return tx.DeleteNode(vda.ControllerNode, cn(3)) },
		"pd gone":       func(tx store.Tx) error { return tx.DeletePD(pd(3)) },
		"no space":      func(tx store.Tx) error { return tx.TakePD(pd(3), 100) },
		"another disk":  func(tx store.Tx) error { return setPD(tx, func(p *vda.PD) { p.ClusterSize = 4 << 20 }) },
		"pd offline":    func(tx store.Tx) error { return setPD(tx, func(p *vda.PD) { p.Online = false }) },
		"pd is deleted": func(tx store.Tx) error { return setPD(tx, func(p *vda.PD) { p.Deleted = true }) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.update(change)
			before := c.versions()
			err := c.Update(t.Context(), func(tx store.Tx) error {
				_, err := array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1}, places(3), []placement.Cntlr{{CNID: cn(3), Primary: true}})
				return err
			})
			if stale := errors.Is(err, array.ErrStale); stale == (name == "nothing") || !stale && err != nil {
				t.Errorf("create: %v", err)
			}
			if name != "nothing" && c.versions() != before {
				t.Errorf("the refused create has left %s of %s", c.versions(), before)
			}
		})
	}
}

func setPD(tx store.Tx, change func(*vda.PD)) error {
	p, err := tx.PD(pd(3))
	if err != nil {
		return err
	}
	change(p)
	return tx.UpdatePD(p)
}

// TestReplacementIsStale: what was chosen for another state of the array is not done.
func TestReplacementIsStale(t *testing.T) {
	for name, r := range map[string]array.Replacement{
		"a primary that has secondaries": {DAID: "da0", CntlrID: cntlr("da0", 0), To: cn(3)},
		"a cn that has a controller":     {DAID: "da0", CntlrID: cntlr("da0", 1), To: cn(0)},
		"a successor that is not there":  {DAID: "da0", CntlrID: cntlr("da0", 1)},
		"a cn that is gone":              {DAID: "da0", CntlrID: cntlr("da0", 1), To: "cn9"},
		"a cn that is offline":           {DAID: "da1", CntlrID: cntlr("da1", 1), To: cn(3)},
		"a controller that is gone":      {DAID: "da0", CntlrID: "none", To: cn(3)},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			if r.DAID == "da1" {
				c.update(func(tx store.Tx) error { return tx.UpdateNode(vda.ControllerNode, &vda.Node{ID: cn(3), Name: cn(3)}) })
			}
			before := c.versions()
			err := c.Update(t.Context(), func(tx store.Tx) error {
				_, err := array.Replace(tx, &r)
				return err
			})
			if !errors.Is(err, array.ErrStale) || c.versions() != before {
				t.Errorf("replace: %v, versions %s of %s", err, c.versions(), before)
			}
		})
	}
}

// TestJoin: many moves are carried out stage after stage, not one after the
// other.
func TestJoin(t *testing.T) {
	c := newCluster(t)
	var plans []array.Plan
	c.update(func(tx store.Tx) error {
		plans = nil
		for _, m := range []array.Move{{DAID: "da0", Term: 1, To: cntlr("da0", 1), Planned: true}, {DAID: "da1", Term: 1, To: cntlr("da1", 2)}} {
			p, err := array.MovePrimary(tx, m)
			if err != nil {
				return err
			}
			plans = append(plans, p)
		}
		return nil
	})
	all := array.Join(plans[0], nil, plans[1])
	if got, want := planText(all), "stand by cn0 cn1; retire cn2; disks dn0 dn1 dn2; primary cn0 cn1; secondaries cn0 cn1 cn2"; got != want {
		t.Errorf("the plan is %q, want %q", got, want)
	}
	if das := all[0].Arrays[array.Node{Kind: vda.ControllerNode, ID: cn(1)}]; !slices.Equal(das, []string{"da0"}) {
		t.Errorf("cn1 stands by for %v, want da0", das)
	}
}
