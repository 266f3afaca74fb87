package storetest

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Schema checks create, migrate, status and drop on the empty database that
// uri names, and leaves it empty. raw runs SQL in it beside the store.
func Schema(t *testing.T, uri string, raw func(q string)) {
	ctx := t.Context()
	refused := func(what string, err error, kind vda.Kind, words string) {
		t.Helper()
		if err == nil || vda.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", what, err, words)
		}
	}
	open := func() error {
		s, err := store.Open(ctx, uri)
		if err == nil {
			s.Close()
		}
		return err
	}
	refused("open an empty database", open(), vda.FailedPrecondition, "vda_db --action create")
	_, _, err := store.Migrate(ctx, uri)
	refused("migrate an empty database", err, vda.FailedPrecondition, "no VDA schema")
	_, err = store.Drop(ctx, uri)
	refused("drop in an empty database", err, vda.FailedPrecondition, "nothing was dropped")

	// A table that is not VDA's is not one of its business.
	raw("CREATE TABLE somebody_elses (id BIGINT)")
	_, err = store.Drop(ctx, uri)
	refused("drop in a foreign database", err, vda.FailedPrecondition, "nothing was dropped")

	st, made, err := store.Create(ctx, uri)
	if err != nil || !made || len(st.ClusterID) != 32 {
		t.Fatalf("create: %+v, %v, %v", st, made, err)
	}
	again, made, err := store.Create(ctx, uri)
	if err != nil || made || again != st {
		t.Errorf("create again: %+v, %v, %v", again, made, err)
	}
	if got, err := store.Status(ctx, uri); err != nil || got != st {
		t.Errorf("status: %+v, %v", got, err)
	}
	if err := open(); err != nil {
		t.Errorf("open: %v", err)
	}

	raw("UPDATE vda_schema_version SET version_id = version_id + 100 WHERE version_id > 0")
	refused("open a newer schema", open(), vda.FailedPrecondition, "newer than this program's")
	_, _, err = store.Create(ctx, uri)
	refused("create over a newer schema", err, vda.FailedPrecondition, "newer than this program's")
	_, _, err = store.Migrate(ctx, uri)
	refused("migrate a newer schema", err, vda.FailedPrecondition, "newer than this program's")
	_, err = store.Drop(ctx, uri)
	refused("drop a newer schema", err, vda.FailedPrecondition, "newer than this program's")
	raw("UPDATE vda_schema_version SET version_id = version_id - 100 WHERE version_id > 0")

	// A create that was cut off between schema and cluster id is completed.
	raw("DELETE FROM vda_cluster")
	refused("open without a cluster id", open(), vda.FailedPrecondition, "vda_db --action create")
	fixed, made, err := store.Create(ctx, uri)
	if err != nil || !made || fixed.ClusterID == "" || fixed.ClusterID == st.ClusterID {
		t.Errorf("create of what is left: %+v, %v, %v", fixed, made, err)
	}

	migrateColumns(t, uri, raw)
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := store.Drop(ctx, uri); err != nil {
		t.Fatalf("drop: %v", err)
	}
	refused("a view after the drop", s.View(ctx, func(tx store.Reader) error { _, err := tx.ClusterID(); return err }), vda.FailedPrecondition,
		"vda_db --action create")
	refused("open after the drop", open(), vda.FailedPrecondition, "vda_db --action create")
	raw("INSERT INTO somebody_elses (id) VALUES (1)")
	raw("DROP TABLE somebody_elses")

	// After a drop it is another cluster. Two creates at once make one.
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { store.Create(ctx, uri) }) // one may fail, but then says why
	}
	wg.Wait()
	last, _, err := store.Create(ctx, uri)
	if err != nil || last.ClusterID == st.ClusterID || last.ClusterID == fixed.ClusterID {
		t.Errorf("create after drop: %+v, %v", last, err)
	}
	if _, err := store.Drop(ctx, uri); err != nil {
		t.Fatalf("drop: %v", err)
	}
}

// migrateColumns checks that a striped array of schema 7, whose vds stand alone, has
// a mirror of one leg per column from schema 8 on, and that a mirrored one stays.
func migrateColumns(t *testing.T, uri string, raw func(q string)) {
	var old, moved *vda.VD
	in := func(f func(tx store.Tx) error) {
		t.Helper()
		s, err := store.Open(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Update(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	in(func(tx store.Tx) error {
		dn, da := newDN(), newDA()
		pd := newPD(dn)
		old, moved = newVD(da, pd), newVD(da, pd)
		old.MirrorID, moved.Idx = "", 2
		return errors.Join(tx.InsertNode(vda.DiskNode, &dn.Node), tx.InsertPD(pd), tx.InsertDA(da), tx.InsertVD(old), tx.InsertVD(moved),
			tx.InsertMirror(&vda.Mirror{ID: "m", DAID: da.ID, Idx: 2, Size: 6 << 20, Gen: 9}))
	})
	whole, short := newDA(), newDA()
	in(func(tx store.Tx) error {
		dn := newDN()
		pd := newPD(dn)
		errs := []error{tx.InsertNode(vda.DiskNode, &dn.Node), tx.InsertPD(pd)}
		for legs, da := range map[int]*vda.DA{2: whole, 1: short} {
			da.Redundancy, da.Health, da.Space = vda.Mirror2, vda.Health{}, vda.Space{}
			m := &vda.Mirror{ID: store.NewID(), DAID: da.ID, Idx: 1, Size: 7 << 20, Gen: 1}
			errs = append(errs, tx.InsertDA(da), tx.InsertMirror(m))
			for range legs {
				v := newVD(da, pd)
				v.MirrorID, v.Role, v.Leaving, v.Health = m.ID, vda.Member, false, vda.Health{}
				errs = append(errs, tx.InsertVD(v))
			}
		}
		return errors.Join(errs...)
	})
	// What later migrations have made is undone.
	for _, of := range [][2]string{{"vda_vd_leaving", "vda_vd"}, {"vda_vd_ill", "vda_vd"}, {"vda_es_ill", "vda_es"},
		{"vda_da_purge", "vda_da"}, {"vda_da_ill", "vda_da"}, {"vda_pd_drain", "vda_pd"}, {"vda_dn_drain", "vda_dn"},
		{"vda_pd_spread", "vda_pd"}, {"vda_cn_spread", "vda_cn"}, {"vda_da_copying", "vda_da"}, {"vda_da_auto", "vda_da"},
		{"vda_da_live", "vda_da"}, {"vda_exp_live", "vda_exp"}, {"vda_da_crowded", "vda_da"}, {"vda_mirror_missing", "vda_mirror"}} {
		on := ""
		if strings.HasPrefix(uri, "mysql") {
			on = " ON " + of[1]
		}
		raw("DROP INDEX " + of[0] + on)
	}
	raw("ALTER TABLE vda_pd DROP COLUMN spread")
	raw("ALTER TABLE vda_pd DROP COLUMN write_cache")
	raw("ALTER TABLE vda_cn DROP COLUMN spread")
	raw("ALTER TABLE vda_cn DROP COLUMN drain")
	raw("ALTER TABLE vda_cn DROP COLUMN auth")
	raw("ALTER TABLE vda_cn DROP COLUMN backend")
	raw("ALTER TABLE vda_cn DROP COLUMN addr")
	raw("ALTER TABLE vda_dn DROP COLUMN addr")
	raw("ALTER TABLE vda_cn DROP COLUMN agent_version")
	raw("ALTER TABLE vda_dn DROP COLUMN agent_version")
	raw("ALTER TABLE vda_exp DROP COLUMN dhchap_keys")
	raw("ALTER TABLE vda_exp DROP COLUMN more_hosts")
	raw("DROP TABLE vda_exp_host")
	raw("ALTER TABLE vda_da DROP COLUMN purge_us")
	raw("DROP TABLE vda_label")
	raw("DROP TABLE vda_description")
	raw("DROP TABLE vda_snap")
	raw("DROP TABLE vda_event")
	raw("DROP TABLE vda_alert")
	raw("ALTER TABLE vda_da DROP COLUMN moving_us")
	raw("ALTER TABLE vda_da DROP COLUMN rebuild_mb")
	raw("ALTER TABLE vda_da DROP COLUMN space_bytes")
	raw("ALTER TABLE vda_da DROP COLUMN used_bytes")
	raw("ALTER TABLE vda_da DROP COLUMN copying")
	raw("ALTER TABLE vda_da DROP COLUMN thin")
	raw("ALTER TABLE vda_da DROP COLUMN crowded")
	raw("ALTER TABLE vda_mirror DROP COLUMN missing")
	raw("ALTER TABLE vda_mirror DROP COLUMN recovered")
	raw("ALTER TABLE vda_da DROP COLUMN clone_source")
	raw("ALTER TABLE vda_da DROP COLUMN stays_thin")
	raw("ALTER TABLE vda_da DROP COLUMN auto_limit")
	raw("ALTER TABLE vda_da DROP COLUMN auto_low")
	raw("ALTER TABLE vda_da DROP COLUMN reservations")
	raw("ALTER TABLE vda_cn DROP COLUMN reserves")
	raw("ALTER TABLE vda_grp DROP COLUMN joining")
	raw("ALTER TABLE vda_grp DROP COLUMN adds_bytes")
	raw("ALTER TABLE vda_vd DROP COLUMN copy_rate")
	raw("ALTER TABLE vda_vd DROP COLUMN applied")
	raw("ALTER TABLE vda_cntlr DROP COLUMN applied")
	raw("ALTER TABLE vda_monitor DROP COLUMN halvings")
	for _, table := range []string{"vda_user", "vda_token", "vda_member", "vda_security"} {
		raw("DROP TABLE " + table)
	}
	raw("DELETE FROM vda_schema_version WHERE version_id >= 8")
	if _, _, err := store.Migrate(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	in(func(tx store.Tx) error {
		mirrors, err := tx.MirrorsOfDA(old.DAID)
		if err != nil {
			return err
		}
		vds, err := tx.VDsOfDA(old.DAID)
		want := []vda.Mirror{{ID: old.ID, DAID: old.DAID, Idx: 1, Size: old.Size, Gen: 1, Recovered: 1},
			{ID: "m", DAID: old.DAID, Idx: 2, Size: 6 << 20, Gen: 9, Recovered: 9}}
		same(t, "mirrors", mirrors, want)
		same(t, "mirrors of the vds", []string{vds[0].MirrorID, vds[1].MirrorID}, []string{old.ID, "m"})
		if err != nil {
			return err
		}
		das, err := tx.SuspectDAs()
		is := func(id string) bool { return slices.ContainsFunc(das, func(da vda.DA) bool { return da.ID == id }) }
		if !is(short.ID) || is(whole.ID) {
			t.Errorf("suspect is the array that lacks a leg: %t, and the whole one: %t", is(short.ID), is(whole.ID))
		}
		return err
	})
}

// Exec returns a function that runs SQL on a database and fails the test.
func Exec(t *testing.T, db *sql.DB) func(q string) {
	t.Cleanup(func() { db.Close() })
	return func(q string) {
		t.Helper()
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}
