package store

import (
	"time"

	"github.com/virtual-disk-array/vda"
)

var alertTable = table[vda.Alert]{
	name: "vda_alert", noun: "alert",
	cols: []string{"code", "object", "name", "msg", "since_us"},
	dest: func(v *vda.Alert) []any { return []any{&v.Code, &v.Object, &v.Name, &v.Text, us{&v.Since}} },
}

func (t *sqlReader) Alerts() ([]vda.Alert, error) {
	return listRows(t.unlocked(), &alertTable, "TRUE ORDER BY code, object, name")
}

func (t *sqlTx) UpsertAlert(a vda.Alert) (bool, error) {
	all, err := listRows(t.unlocked(), &alertTable, "code = ? AND object = ? AND name = ?", string(a.Code), a.Object, a.Name)
	if err != nil {
		return false, err
	}
	if len(all) > 0 {
		if all[0].Text == CleanMsg(a.Text) {
			return false, nil
		}
		_, err = t.exec("UPDATE vda_alert SET msg = ? WHERE code = ? AND object = ? AND name = ?", CleanMsg(a.Text), string(a.Code), a.Object,
			a.Name)
		return false, err
	}
	_, err = t.exec("INSERT INTO vda_alert (code, object, name, msg, since_us) VALUES (?, ?, ?, ?, ?)", string(a.Code), a.Object, a.Name,
		CleanMsg(a.Text), us{&a.Since})
	return true, err
}

func (t *sqlTx) DeleteAlert(a vda.Alert) (bool, error) {
	n, err := t.exec("DELETE FROM vda_alert WHERE code = ? AND object = ? AND name = ?", string(a.Code), a.Object, a.Name)
	return n > 0, err
}

func (t *sqlReader) LastBeat() (last time.Time, err error) {
	err = t.scanOne("SELECT COALESCE(MAX(beat_us), 0) FROM vda_monitor", nil, us{&last})
	return last, err
}
