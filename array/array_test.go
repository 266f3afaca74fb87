package array_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
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
	uri := dbtest.SQLite(t)
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := &cluster{t, st}
	c.update(func(tx store.Tx) error {
		for i := range nodes {
			for _, err := range []error{
				tx.InsertNode(vda.DiskNode, &vda.Node{ID: dn(i), Name: dn(i), Online: true, Version: 10}),
				tx.InsertNode(vda.ControllerNode, &vda.Node{ID: cn(i), Name: cn(i), Online: true, Version: 20}),
				tx.InsertPD(&vda.PD{ID: pd(i), DNID: dn(i), Name: "pd", Online: true, ClusterSize: 1 << 20, TotalClusters: 100, FreeClusters: 100}),
			} {
				if err != nil {
					return err
				}
			}
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
			tx.InsertVD(&vda.VD{ID: fmt.Sprint(id, "-vd", i), DAID: id, Idx: uint32(i), PDID: pd(at), DNID: dn(at), Clusters: 1, Size: 1 << 20, Version: 10}),
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
				out = append(out, fmt.Sprint(v.ID, ":", v.Version, map[bool]string{true: "†"}[v.Deleted]))
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
				out = append(out, fmt.Sprint(v.ID, ":", v.Version, map[bool]string{true: "†"}[v.Deleted]))
			}
			for _, v := range vds {
				out = append(out, fmt.Sprint(v.ID, ":", v.Version, map[bool]string{true: "†"}[v.Deleted]))
			}
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	return strings.Join(out, " ")
}

// planText is "disks dn0 dn1; primary cn2".
func planText(p array.Plan) string {
	names := map[array.Role]string{array.StandBy: "stand by", array.Retire: "retire", array.Disks: "disks", array.Primary: "primary", array.Secondaries: "secondaries"}
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
		{"bury", func(tx store.Tx) (array.Plan, error) { return nil, array.Bury(tx, "da0") }, "",
			untouchedCNs + " dn0:11 da0-vd2:11† dn1:11 da0-vd1:11† dn2:11 da0-vd0:11† dn3:10"},
		{"create exporter", func(tx store.Tx) (array.Plan, error) {
			return array.CreateExp(tx, &vda.Exp{ID: "e", DAID: "da0", Name: "e", NQN: "nqn"})
		}, "primary cn2; secondaries cn0 cn1",
			"cn0:21 da0-cntlr2:21 cn1:21 da0-cntlr1:21 cn2:21 da0-cntlr0:21 cn3:20 " + untouchedDNs},
		{"delete exporter", func(tx store.Tx) (array.Plan, error) {
			return array.DeleteExp(tx, &vda.Exp{ID: "da1-exp", DAID: "da1", Name: "exp"})
		}, "secondaries cn0 cn1; primary cn2",
			"cn0:21 da1-cntlr2:21 cn1:21 da1-cntlr1:21 cn2:21 da1-cntlr0:21 cn3:20 " + untouchedDNs},
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
			var r *recorder
			var plan array.Plan
			c.update(func(tx store.Tx) (err error) {
				r = record(tx)
				plan, err = tt.run(r)
				return err
			})
			if len(r.wrong) > 0 {
				t.Errorf("out of the lock order:\n%s", strings.Join(r.wrong, "\n"))
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
