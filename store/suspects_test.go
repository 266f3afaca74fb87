package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// mirroredArrays adds arrays with two legs each, all well, and the disk for them.
func mirroredArrays(t *testing.T, uri string, from, to int) {
	t.Helper()
	s, err := store.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Update(t.Context(), func(tx store.Tx) error {
		var errs []error
		if from == 0 {
			errs = append(errs, tx.InsertNode(vda.DiskNode, &vda.Node{ID: "dn", Name: "dn:9720"}),
				tx.InsertPD(&vda.PD{ID: "pd", DNID: "dn", Name: "pd", TotalClusters: 1 << 20, FreeClusters: 1 << 20, ClusterSize: 1 << 20}))
		}
		for i := from; i < to; i++ {
			da := vda.DA{ID: fmt.Sprintf("da%06d", i), Name: fmt.Sprintf("da%06d", i), Size: 1 << 20, PhysicalSize: 1 << 20, Redundancy: vda.Mirror2,
				Space: vda.Space{Total: 1 << 20, Used: 1 << 20}}
			mirror := vda.Mirror{ID: "m" + da.ID, DAID: da.ID, Size: 1 << 20, Gen: 1}
			errs = append(errs, tx.InsertDA(&da), tx.InsertMirror(&mirror))
			for j := range 2 {
				errs = append(errs, tx.InsertVD(&vda.VD{ID: fmt.Sprintf("v%d%s", j, da.ID), DAID: da.ID, PDID: "pd", DNID: "dn", Clusters: 1,
					Size: 1 << 20, MirrorID: mirror.ID, Role: vda.Member}))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSuspectsAreFoundByWhatChanged: to find the arrays with which something may be wrong,
// PostgreSQL looks at as many rows with a thousand healthy mirrored arrays as with ten. One
// of them lacks a leg.
func TestSuspectsAreFoundByWhatChanged(t *testing.T) {
	_, uri := dbtest.Postgres(t)
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	mirroredArrays(t, uri, 0, 10)
	s, err := store.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.DeleteVD("v1da000003") }); err != nil {
		t.Fatal(err)
	}
	few := rowsLookedAt(t, uri)
	for from := 10; from < 1000; from += 90 { // a transaction has its time
		mirroredArrays(t, uri, from, from+90)
	}
	many := rowsLookedAt(t, uri)
	t.Logf("%.0f rows with 10 arrays, %.0f with 1,000", few, many)
	if few == 0 || many > few {
		t.Errorf("%.0f rows are looked at with 10 arrays, %.0f with 1,000", few, many)
	}
	err = s.View(t.Context(), func(tx store.Reader) error {
		das, err := tx.SuspectDAs()
		if len(das) != 1 || das[0].ID != "da000003" {
			t.Errorf("suspect are %d arrays, want the one that lacks a leg", len(das))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// rowsLookedAt is how many rows, of tables and of indexes, PostgreSQL reads to find suspects.
func rowsLookedAt(t *testing.T, uri string) (rows float64) {
	t.Helper()
	db, err := store.Raw(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, table := range []string{"vda_da", "vda_vd", "vda_mirror"} {
		if _, err := db.ExecContext(t.Context(), "VACUUM ANALYZE "+table); err != nil {
			t.Fatal(err)
		}
	}
	var text string
	q := "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM vda_da WHERE deleted = FALSE AND purge_us = 0 AND id IN (" + store.SuspectSQL + ")"
	if err := db.QueryRowContext(context.WithoutCancel(t.Context()), q).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan map[string]any }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("a plan that is not understood (%v): %s", err, text)
	}
	var walk func(p map[string]any)
	walk = func(p map[string]any) {
		if strings.Contains(p["Node Type"].(string), "Scan") {
			loops, _ := p["Actual Loops"].(float64)
			for _, key := range []string{"Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"} {
				n, _ := p[key].(float64)
				rows += n * loops
			}
		}
		under, _ := p["Plans"].([]any)
		for _, p := range under {
			walk(p.(map[string]any))
		}
	}
	walk(plans[0].Plan)
	return rows
}

// TestSuspectsAreFoundByIndexes: SQLite looks through no table for them.
func TestSuspectsAreFoundByIndexes(t *testing.T) {
	uri := storetest.SQLite(t)
	mirroredArrays(t, uri, 0, 10)
	db, err := store.Raw(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+store.SuspectSQL)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	steps := 0
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps++
		if strings.HasPrefix(step, "SCAN") {
			t.Errorf("a table is looked through: %s", step)
		}
	}
	if err := rows.Err(); err != nil || steps < 4 {
		t.Errorf("%d steps, %v", steps, err)
	}
}
