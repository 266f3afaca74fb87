package storetest

import (
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func newSnap(da *vda.DA) *vda.Snap {
	id := store.NewID()
	return &vda.Snap{ID: id, DAID: da.ID, Name: "snap-" + id, State: vda.SnapAsked,
		Size: 1 << 40, Held: 1 << 20, Asked: noon, Taken: noon, Rollback: vda.RollbackAsked, Together: store.NewID(), CloneOf: store.NewID(),
		Health: vda.Health{Error: true, Msg: "new", Since: noon}}
}

func testSnap(t *testing.T, s *suite) {
	c := s.newCluster(t)
	older, snap := newSnap(c.da), newSnap(c.da)
	snap.State = vda.SnapTogether
	s.update(t, func(tx store.Tx) error {
		if err := tx.InsertSnap(older); err != nil {
			return err
		}
		return tx.InsertSnap(snap)
	})
	s.view(t, func(tx store.Reader) error {
		rows, err := tx.TogetherSnaps()
		same(t, "together", rows, []vda.Snap{*snap})
		return err
	})
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		again := newSnap(c.da)
		again.Name = snap.Name
		return tx.InsertSnap(again)
	})
	upd := *snap
	upd.State, upd.Name, upd.Held, upd.Taken, upd.Rollback = vda.SnapTaken, snap.Name+"-new", 2<<20, noon.Add(1000), vda.RollbackDone
	s.update(t, func(tx store.Tx) error { return tx.UpdateSnap(&upd) })
	s.refused(t, vda.FailedPrecondition, func(tx store.Tx) error { return tx.UpdateSnap(snap) }) // asked again
	s.update(t, func(tx store.Tx) error { return tx.UpdateSnap(&upd) })
	list := func(f store.SnapFilter) (rows []vda.Snap) {
		s.view(t, func(tx store.Reader) (err error) {
			rows, _, err = tx.ListSnap(f, store.Page{})
			return err
		})
		return rows
	}
	s.view(t, func(tx store.Reader) error {
		got, err := tx.SnapByName(c.da.ID, upd.Name)
		if err != nil {
			return err
		}
		same(t, "by name", got, &upd)
		if got, err = tx.Snap(upd.ID); err != nil {
			return err
		}
		same(t, "by id", got, &upd)
		of, err := tx.SnapsOfDA(c.da.ID)
		same(t, "of the array", of, []vda.Snap{*older, upd})
		return err
	})
	s.update(t, func(tx store.Tx) error { return tx.SetHealth(store.ObjSnap, upd.ID, vda.Health{}) })
	upd.Health = vda.Health{}
	same(t, "well", list(store.SnapFilter{DAID: &c.da.ID, Error: ptr(false)}), []vda.Snap{upd})
	same(t, "in error", list(store.SnapFilter{DAID: &c.da.ID, Error: ptr(true)}), []vda.Snap{*older})

	// A tombstone gives its name back, and goes nowhere but away.
	upd.State = vda.SnapDeleting
	s.update(t, func(tx store.Tx) error { return tx.UpdateSnap(&upd) })
	same(t, "without the tombstone", list(store.SnapFilter{DAID: &c.da.ID}), []vda.Snap{*older})
	s.refused(t, vda.NotFound, func(tx store.Tx) error { _, err := tx.SnapByName(c.da.ID, upd.Name); return err })
	back := upd
	back.State = vda.SnapTaken
	s.refused(t, vda.FailedPrecondition, func(tx store.Tx) error { return tx.UpdateSnap(&back) })
	again := newSnap(c.da)
	again.Name = upd.Name
	s.update(t, func(tx store.Tx) error { return tx.InsertSnap(again) })
	s.update(t, func(tx store.Tx) error { return tx.DeleteSnap(upd.ID) })
	for name, fn := range map[string]func(store.Tx) error{
		"Snap":       func(tx store.Tx) error { _, err := tx.Snap(upd.ID); return err },
		"SnapByName": func(tx store.Tx) error { _, err := tx.SnapByName(c.da.ID, "none"); return err },
		"UpdateSnap": func(tx store.Tx) error { return tx.UpdateSnap(&upd) },
		"DeleteSnap": func(tx store.Tx) error { return tx.DeleteSnap(upd.ID) },
		"SetHealth":  func(tx store.Tx) error { return tx.SetHealth(store.ObjSnap, upd.ID, vda.Health{}) },
	} {
		t.Run(name+" of none", func(t *testing.T) { s.refused(t, vda.NotFound, fn) })
	}
}
