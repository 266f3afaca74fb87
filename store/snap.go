package store

import "github.com/virtual-disk-array/vda"

var snapTable = table[vda.Snap]{
	name: "vda_snap", noun: "snap",
	cols: []string{"id", "da_id", "name", "state", "size_bytes", "held_bytes", "asked_us", "taken_us", "rollback_state", "together",
		"clone_of", "h_error", "h_msg", "h_since_us"},
	keys:  []string{"live_name"},
	fixed: []string{"da_id", "asked_us", "together", "clone_of", "h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.Snap) []any {
		return []any{&v.ID, &v.DAID, &v.Name, &v.State, &v.Size, &v.Held, us{&v.Asked}, us{&v.Taken}, &v.Rollback, &v.Together, &v.CloneOf,
			&v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
	},
	values: func(v *vda.Snap) []any {
		return []any{v.ID, v.DAID, v.Name, v.State, v.Size, v.Held, us{&v.Asked}, us{&v.Taken}, v.Rollback, v.Together, v.CloneOf, v.Health.Error,
			CleanMsg(v.Health.Msg), us{&v.Health.Since}, orNull(v.Name, !v.Live())}
	},
	label:  func(v *vda.Snap) string { return v.Name },
	tagged: true,
}

func (t *sqlTx) InsertSnap(v *vda.Snap) error { return insertRow(t, &snapTable, v) }

func (t *sqlTx) UpdateSnap(v *vda.Snap) error {
	ok, err := updateRow(t, &snapTable, v, " AND state <= ?", v.State)
	if err != nil || ok {
		return err
	}
	old, err := t.Snap(v.ID)
	if err != nil {
		return err
	}
	return &vda.Error{Kind: vda.FailedPrecondition, Object: "snap " + v.Name,
		Msg: "it is " + old.State.String() + " and cannot become " + v.State.String() + " again"}
}

func (t *sqlTx) DeleteSnap(id string) error { return deleteRow(t, &snapTable, id) }
func (t *sqlReader) Snap(id string) (*vda.Snap, error) {
	return getRow(t, &snapTable, id, "id = ?", id)
}

func (t *sqlReader) SnapByName(daID, name string) (*vda.Snap, error) {
	return getRow(t, &snapTable, name, "da_id = ? AND live_name = ?", daID, name)
}

func (t *sqlReader) ListSnap(f SnapFilter, p Page) ([]vda.Snap, string, error) {
	var c cond
	c.and("live_name IS NOT NULL")
	if f.DAID != nil {
		c.and("da_id = ?", *f.DAID)
	}
	if f.Error != nil {
		c.and("h_error = ?", *f.Error)
	}
	c.labels(f.Labels)
	return pageRows(t, &snapTable, c, p, func(v *vda.Snap) (string, string) { return v.Name, v.ID })
}

func (t *sqlReader) SnapsOfDA(daID string) ([]vda.Snap, error) {
	return listRows(t, &snapTable, "da_id = ? ORDER BY id", daID)
}

func (t *sqlReader) TogetherSnaps() ([]vda.Snap, error) {
	return listRows(t, &snapTable, "state = ? ORDER BY id", vda.SnapTogether)
}
