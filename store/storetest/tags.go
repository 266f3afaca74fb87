package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// testTags: every kind of object has labels and a description, is found by them, and
// leaves none behind.
func testTags(t *testing.T, s *suite) {
	c := s.newCluster(t)
	snap := newSnap(c.da)
	s.update(t, func(tx store.Tx) error { return tx.InsertSnap(snap) })
	key := "example.com/k" + c.da.ID
	find := func(id string, texts ...string) map[string]bool {
		t.Helper()
		match, err := vda.ParseLabelMatches(texts)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		s.view(t, func(tx store.Reader) error {
			dns, _, err1 := tx.ListDN(store.NodeFilter{Labels: match}, store.Page{})
			cns, _, err2 := tx.ListCN(store.NodeFilter{Labels: match}, store.Page{})
			pds, _, err3 := tx.ListPD(store.PDFilter{Labels: match}, store.Page{})
			das, _, err4 := tx.ListDA(store.DAFilter{Labels: match}, store.Page{})
			snaps, _, err5 := tx.ListSnap(store.SnapFilter{Labels: match}, store.Page{})
			exps, _, err6 := tx.ListExp(store.ExpFilter{Labels: match}, store.Page{})
			for _, all := range [][]string{ids(dns, idOfDN), ids(cns, idOfCN), ids(pds, idOfPD), ids(das, idOfDA),
				ids(snaps, func(v *vda.Snap) string { return v.ID }), ids(exps, func(v *vda.Exp) string { return v.ID })} {
				for _, id := range all {
					found[id] = true
				}
			}
			for _, err := range []error{err1, err2, err3, err4, err5, err6} {
				if err != nil {
					return err
				}
			}
			return nil
		})
		return found
	}
	for _, id := range []string{c.dn.ID, c.cn.ID, c.pd.ID, c.da.ID, snap.ID, c.exp.ID} {
		tags := vda.Tags{Labels: map[string]string{key: "Prod", "team": ""},
			Description: "two\nlines, ünïcode \U0001F600 " + strings.Repeat("x", 900)}
		s.update(t, func(tx store.Tx) error { return tx.SetTags(id, tags) })
		var got map[string]vda.Tags
		read := func(tx store.Reader) (err error) { got, err = tx.Tags([]string{id, "none"}); return err }
		s.view(t, read)
		same(t, "tags", got, map[string]vda.Tags{id: tags})
		for text, want := range map[string]bool{key: true, key + "=Prod": true, key + "=prod": false, key + "!=Prod": false, key + "!=prod": true,
			"!" + key: false, key + "=": false, "team=": true, key + "x": false} {
			if got := find(id, text)[id]; got != want {
				t.Errorf("%s is found by %q: %v, want %v", id, text, got, want)
			}
		}
		if found := find(id, key, "team="); len(found) != 1 || !found[id] {
			t.Errorf("found by two labels: %v", found)
		}
		if find(id, key, "!team")[id] {
			t.Error("found although only one of two labels holds")
		}
		tags = vda.Tags{Labels: map[string]string{"other": "1"}}
		s.update(t, func(tx store.Tx) error {
			if err := tx.SetTags(id, tags); err != nil {
				return err
			}
			return read(tx) // a transaction sees what it wrote
		})
		same(t, "replaced", got, map[string]vda.Tags{id: tags})
	}
	all := []string{snap.ID, c.exp.ID, c.da.ID, c.pd.ID, c.dn.ID, c.cn.ID}
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.DeleteSnap(snap.ID), tx.DeleteES(c.es.ID), tx.DeleteExp(c.exp.ID), tx.DeleteCntlr(c.cntlr.ID), tx.DeleteVD(c.vd.ID),
			tx.DeleteDA(c.da.ID), tx.DeletePD(c.pd.ID), tx.DeleteNode(vda.DiskNode, c.dn.ID), tx.DeleteNode(vda.ControllerNode, c.cn.ID))
	})
	s.view(t, func(tx store.Reader) error {
		left, err := tx.Tags(all)
		same(t, "left of what was deleted", left, map[string]vda.Tags{})
		return err
	})
}
