package store_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestRestoredTrashIsKept: an array that was in the trash when a backup was made may have
// been brought back since, and be in use: it is not purged when the backup is restored.
func TestRestoredTrashIsKept(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), filepath.Join(t.TempDir(), "backup")
	uri, other := dbtest.SQLite(t), dbtest.SQLite(t)
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	far := time.Now().Add(1000 * time.Hour).Truncate(time.Microsecond)
	purges := map[string]time.Time{"past": time.Now().Add(-time.Hour), "far": far, "live": {}}
	das := func(uri string, f func(tx store.Tx, name string) error) {
		t.Helper()
		s, err := store.Open(ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Update(ctx, func(tx store.Tx) error {
			for name := range purges {
				if err := f(tx, name); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	das(uri, func(tx store.Tx, name string) error {
		return tx.InsertDA(&vda.DA{ID: name, Name: name, Size: 1 << 20, PhysicalSize: 1 << 20, CntlrCnt: 1, StripeCount: 1,
			StripeSizeKB: 64, ClusterSize: 1 << 20, Conf: "{}", MinLegs: 1, Term: 1, Created: true, Purge: purges[name]})
	})
	kept := func(how, uri string) {
		t.Helper()
		das(uri, func(tx store.Tx, name string) error {
			da, err := tx.DA(name)
			if err != nil {
				return err
			}
			if good := map[string]bool{"past": time.Until(da.Purge) > 6*24*time.Hour, "far": da.Purge.Equal(far),
				"live": da.Purge.IsZero()}; !good[name] {
				t.Errorf("%s: array %s is purged at %v", how, name, da.Purge)
			}
			return nil
		})
	}
	if _, err := store.Backup(ctx, uri, file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Restore(ctx, other, file); err != nil {
		t.Fatal(err)
	}
	kept("restored by vda_db", other)
	if _, err := store.Supersede(ctx, uri); err != nil { // put back by another program
		t.Fatal(err)
	}
	kept("said to be restored", uri)
}

// TestRestoredTokensAreVoid: a token to enrol with serves once, and may have served since
// a backup was made that is restored. Those of users stay.
func TestRestoredTokensAreVoid(t *testing.T) {
	t.Parallel()
	ctx, uri := t.Context(), dbtest.SQLite(t)
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(ctx, func(tx store.Tx) error {
		return errors.Join(tx.InsertToken(&store.Token{Hash: "1", Kind: pki.User, Name: "u", Role: "admin", Expires: time.Now()}),
			tx.InsertToken(&store.Token{Hash: "3", Kind: "session", Name: "u", Role: "admin", Expires: time.Now()}),
			tx.InsertToken(&store.Token{Hash: "2", Kind: "dn", Name: "dn0:9720", Expires: time.Now()}))
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Supersede(ctx, uri); err != nil {
		t.Fatal(err)
	}
	if err := s.View(ctx, func(tx store.Reader) error {
		left, err := tx.Tokens()
		if len(left) != 1 || left[0].Kind != pki.User {
			t.Errorf("left: %+v", left)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsFencedOnceRestored: a vd that its dn had fenced, and a controller that had let go of legs, did so for
// terms before those that come with a restored database.
func TestNothingIsFencedOnceRestored(t *testing.T) {
	t.Parallel()
	ctx, uri := t.Context(), dbtest.SQLite(t)
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	carriedOut := func(when string, want bool) {
		t.Helper()
		if err := s.View(ctx, func(tx store.Reader) error {
			dn, err := tx.DN("dn")
			cn, err2 := tx.CN("cn")
			vd, err3 := tx.VD("vd")
			c, err4 := tx.Cntlr("cntlr")
			if err := errors.Join(err, err2, err3, err4); err != nil {
				return err
			}
			if v, c := vd.CarriedOut(dn.Applied), c.CarriedOut(cn.Applied); v != want || c != want {
				t.Errorf("%s: what is desired of the vd is carried out: %t, and of the controller: %t; want %t", when, v, c, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Update(ctx, func(tx store.Tx) error {
		return errors.Join(
			tx.InsertNode(vda.DiskNode, &vda.Node{ID: "dn", Name: "dn", Version: 9, Applied: 3}),
			tx.InsertNode(vda.ControllerNode, &vda.Node{ID: "cn", Name: "cn", Version: 9, Applied: 3}),
			tx.InsertPD(&vda.PD{ID: "pd", DNID: "dn", Name: "pd", Conf: "{}", ClusterSize: 1 << 20, TotalClusters: 9, FreeClusters: 9, Version: 1}),
			tx.InsertDA(&vda.DA{ID: "da", Name: "da", Size: 1 << 20, PhysicalSize: 1 << 20, CntlrCnt: 1, StripeCount: 1,
				StripeSizeKB: 64, ClusterSize: 1 << 20, Conf: "{}", MinLegs: 1, Term: 2, Created: true}),
			tx.InsertVD(&vda.VD{ID: "vd", DAID: "da", PDID: "pd", DNID: "dn", Clusters: 1, Size: 1 << 20, MirrorID: "m", Version: 7}),
			tx.InsertCntlr(&vda.Cntlr{ID: "cntlr", DAID: "da", CNID: "cn", Primary: true, Version: 7}),
			tx.SetApplied(store.ObjVD, []string{"vd"}, 9), tx.SetApplied(store.ObjCntlr, []string{"cntlr"}, 9))
	}); err != nil {
		t.Fatal(err)
	}
	carriedOut("before", true)
	if _, err := store.Supersede(ctx, uri); err != nil {
		t.Fatal(err)
	}
	carriedOut("restored", false)
}

// TestRestoredRollbackIsNotRepeated: a rollback that a backup has as ordered was carried out
// since, and hosts have written: the order is not there when the backup is restored.
func TestRestoredRollbackIsNotRepeated(t *testing.T) {
	t.Parallel()
	ctx, uri := t.Context(), dbtest.SQLite(t)
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	was := map[string]vda.SnapRollback{"ordered": vda.RollbackAsked, "none": vda.RollbackNone, "done": vda.RollbackDone}
	if err := s.Update(ctx, func(tx store.Tx) error {
		err := tx.InsertDA(&vda.DA{ID: "d", Name: "d", Size: 1 << 20, PhysicalSize: 1 << 20, CntlrCnt: 1, StripeCount: 1, StripeSizeKB: 64,
			ClusterSize: 1 << 20, Conf: "{}", MinLegs: 1, Term: 1, Created: true})
		for name, state := range was {
			err = errors.Join(err, tx.InsertSnap(&vda.Snap{ID: name, DAID: "d", Name: name, State: vda.SnapTaken, Rollback: state}))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Supersede(ctx, uri); err != nil {
		t.Fatal(err)
	}
	if err := s.View(ctx, func(tx store.Reader) error {
		snaps, err := tx.SnapsOfDA("d")
		want := map[string]vda.SnapRollback{"ordered": vda.RollbackDone, "none": vda.RollbackNone, "done": vda.RollbackDone}
		for i := range snaps {
			if sn := &snaps[i]; sn.Rollback != want[sn.Name] {
				t.Errorf("the rollback to %s is in state %d, want %d", sn.Name, sn.Rollback, want[sn.Name])
			}
		}
		if len(snaps) != len(was) {
			t.Errorf("%d snapshots", len(snaps))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
