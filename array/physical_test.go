package array_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// insertJoining has array m get a group of one more mirror, m2 with the legs x and y, which
// is not part of it yet.
func insertJoining(tx store.Tx) error {
	errs := []error{
		tx.InsertGrp(&vda.Grp{ID: "m-grp1", DAID: "m", Idx: 1, Joining: true, Adds: 1 << 20}),
		tx.InsertMirror(&vda.Mirror{ID: "m2", DAID: "m", GrpIdx: 1, Size: 1 << 20, Gen: 1}),
	}
	for i, id := range []string{"x", "y"} {
		errs = append(errs, tx.TakePD(pd(i), 2), tx.InsertVD(&vda.VD{ID: id, DAID: "m", GrpIdx: 1, MirrorID: "m2", PDID: pd(i), DNID: dn(i),
			Clusters: 2, Size: 2 << 20, Version: 10}))
	}
	return errors.Join(errs...)
}

// TestLegsGoWhileAGroupJoins: a leg that is lost goes, and I/O goes on, although a group that
// is to be part of the array is not there: the array is usable without it.
func TestLegsGoWhileAGroupJoins(t *testing.T) {
	c := newCluster(t)
	c.update(insertMirrored)
	c.update(insertJoining)
	c.update(func(tx store.Tx) error {
		_, err := array.ChangeLegs(tx, said(5, [2]uint64{1, 1}, "ac bl cc dc"))
		return err
	})
	c.update(func(tx store.Tx) error {
		if got, err := legsText(tx); err != nil || got != "m0@2 a.0 b.1-; m1@1 c.0 d.0; m2@1 x.0 y.0" {
			t.Errorf("legs are %q, %v", got, err)
		}
		return nil
	})
}

// wide is an array of so many groups, bytes each, whose first is of so many clusters of 1 MiB.
func wide(tx store.Tx, id string, groups int, clusters, each uint64) error {
	size := placement.VDSize(clusters<<20, 1<<20, 1, 64<<10)
	errs := []error{tx.InsertDA(&vda.DA{ID: id, Name: id, Size: 4 << 20, PhysicalSize: clusters<<20 + uint64(groups-1)*each, StripeCount: 1,
		StripeSizeKB: 64, ClusterSize: 1 << 20, CntlrCnt: 1, Term: 1, Created: true})}
	for i := range groups {
		errs = append(errs, tx.InsertGrp(&vda.Grp{ID: fmt.Sprint(id, "-grp", i), DAID: id, Idx: uint32(i), Size: size}))
		size = each
	}
	return errors.Join(errs...)
}

// TestGroupsAreBounded: an array gets groups until it has 64.
func TestGroupsAreBounded(t *testing.T) {
	c := newCluster(t)
	c.update(func(tx store.Tx) error {
		return errors.Join(wide(tx, "w63", 63, 16, 1<<20), wide(tx, "w64", 64, 16, 1<<20))
	})
	for id, want := range map[string]string{"w63": "", "w64": "it has grown 63 times, and has 64 groups of vds, the most there are"} {
		c.update(func(tx store.Tx) error {
			da, err := tx.DA(id)
			if err != nil {
				return err
			}
			_, _, err = array.PlacePhysical(tx, da, da.PhysicalSize+1<<20, placement.BestEffort)
			if (err == nil) != (want == "") || err != nil && (vda.KindOf(err) != vda.FailedPrecondition || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s gets another group: %v, want %q", id, err, want)
			}
			return nil
		})
	}
}

// TestMaxSnaps: an array has a snapshot for each four clusters, 255 at most, and fewer when it
// has got more physical size than its metadata can tell of for so many.
func TestMaxSnaps(t *testing.T) {
	c := newCluster(t)
	c.update(func(tx store.Tx) error {
		return errors.Join(wide(tx, "small", 1, 16, 0), wide(tx, "large", 1, 4096, 0), wide(tx, "grown", 2, 4, 3580<<20))
	})
	for id, want := range map[string]int{"small": 4, "large": 255, "grown": 1} {
		c.update(func(tx store.Tx) error {
			da, err := tx.DA(id)
			if err != nil {
				return err
			}
			if n, err := array.MaxSnaps(tx, da); err != nil || n != want {
				t.Errorf("array %s of %d bytes may have %d snapshots, %v; want %d", id, da.PhysicalSize, n, err, want)
			}
			return nil
		})
	}
}

// TestAutoGrowStaysOnVDATgt: a controller of an array that grows by itself gets its successor
// on a cn whose data plane adds disks to an array in use, or none.
func TestAutoGrowStaysOnVDATgt(t *testing.T) {
	c := newCluster(t)
	to := func(grows, able bool) (cn string) {
		t.Helper()
		c.update(func(tx store.Tx) error {
			da, err := tx.DA("da0")
			if err != nil {
				return err
			}
			if da.AutoGrow = (vda.AutoGrow{}); grows {
				da.AutoGrow = vda.AutoGrow{Limit: 8 << 20, LowPercent: 20}
			}
			return errors.Join(tx.UpdateDA(da), tx.SetCNMirrors("cn3", able))
		})
		c.update(func(tx store.Tx) error {
			r, err := array.PlanReplacement(tx, "da0", cntlr("da0", 1), func(string) bool { return true })
			if cn = "none"; r != nil {
				cn = r.To
			}
			return err
		})
		return cn
	}
	for _, row := range []struct {
		grows, able bool
		want        string
	}{{false, false, "cn3"}, {true, false, "none"}, {true, true, "cn3"}} {
		if got := to(row.grows, row.able); got != row.want {
			t.Errorf("grows by itself %v, cn3 runs vda_tgt %v: the successor is on %s, want %s", row.grows, row.able, got, row.want)
		}
	}
}
