package store

import "time"

var monitorTable = table[Monitor]{
	name: "vda_monitor", noun: "monitor",
	cols: []string{"id", "name", "beat", "halvings"},
	dest: func(v *Monitor) []any { return []any{&v.ID, &v.Name, &v.Beat, &v.Halvings} },
}

// BeatMonitor also writes the time, for people who look at the table.
func (t *sqlTx) BeatMonitor(id, name string) (bool, error) {
	now := time.Now()
	n, err := t.exec("UPDATE vda_monitor SET beat = beat + 1, beat_us = ? WHERE id = ?", us{&now}, id)
	if err != nil || n > 0 {
		return false, err
	}
	_, err = t.exec("INSERT INTO vda_monitor (id, name, beat, beat_us) VALUES (?, ?, 1, ?)", id, name, us{&now})
	return true, err
}

func (t *sqlTx) SetMonitorHalvings(id string, n int) error {
	changed, err := t.exec("UPDATE vda_monitor SET halvings = ? WHERE id = ?", n, id)
	return orNotFound(changed > 0, err, "monitor", id)
}

func (t *sqlTx) DeleteMonitor(id string) error { return deleteRow(t, &monitorTable, id) }

func (t *sqlReader) Monitors() ([]Monitor, error) {
	return listRows(t, &monitorTable, "TRUE ORDER BY id")
}
