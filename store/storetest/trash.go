package storetest

import (
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// testTrash: an array with a Purge is found in the trash alone, and its name is free.
func testTrash(t *testing.T, s *suite) {
	c := s.newCluster(t)
	kept := *c.da
	kept.Purge = noon
	s.update(t, func(tx store.Tx) error { return tx.UpdateDA(&kept) })
	listed := func(trash bool) (in bool) {
		s.view(t, func(tx store.Reader) error {
			rows, _, err := tx.ListDA(store.DAFilter{Trash: trash}, store.Page{})
			in = slices.ContainsFunc(rows, func(d vda.DA) bool { return d.ID == kept.ID })
			return err
		})
		return in
	}
	if listed(false) || !listed(true) {
		t.Errorf("live: %v, in the trash: %v", listed(false), listed(true))
	}
	held := func() (has bool) {
		s.view(t, func(tx store.Reader) error {
			vds, err := tx.TrashedVDs()
			has = slices.ContainsFunc(vds, func(v vda.VD) bool { return v.ID == c.vd.ID })
			if err != nil {
				return err
			}
			sizes, err := tx.TrashedSizes()
			want := uint64(0)
			for i := range vds {
				if vds[i].DNID == c.vd.DNID {
					want += vds[i].Size
				}
			}
			if got := sizes[c.vd.DNID]; got != want || has != (got >= c.vd.Size) {
				t.Errorf("%d bytes of the trash are on its dn, want %d; its vd of %d is among them: %v", got, want, c.vd.Size, has)
			}
			return err
		})
		return has
	}
	if !held() {
		t.Error("its vd is not in the trash")
	}
	s.refused(t, vda.NotFound, func(tx store.Tx) error { _, err := tx.DAByName(kept.Name); return err })
	s.view(t, func(tx store.Reader) error {
		got, err := tx.DA(kept.ID)
		same(t, "by id", got, &kept)
		return err
	})
	other := newDA()
	other.Name = kept.Name
	s.update(t, func(tx store.Tx) error { return tx.InsertDA(other) })
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error { return tx.UpdateDA(c.da) })
	s.update(t, func(tx store.Tx) error {
		if err := tx.DeleteDA(other.ID); err != nil {
			return err
		}
		return tx.UpdateDA(c.da)
	})
	if !listed(false) || listed(true) || held() {
		t.Errorf("brought back: live %v, in the trash %v, with its vd %v", listed(false), listed(true), held())
	}
}
