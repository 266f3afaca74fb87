package store

import "github.com/virtual-disk-array/vda"

var expTable = table[vda.Exp]{
	name: "vda_exp", noun: "exp",
	cols: []string{"id", "da_id", "name", "nqn", "initiator_nqn", "more_hosts", "dhchap_keys", "snap_name", "serial", "ns_uuid",
		"version", "deleted"},
	keys:  []string{"live_name", "live_nqn"},
	fixed: []string{"da_id"},
	dest: func(v *vda.Exp) []any {
		return []any{&v.ID, &v.DAID, &v.Name, &v.NQN, &v.InitiatorNQN, lines{&v.MoreHosts}, keysJSON{&v.Keys}, &v.SnapName, &v.Serial,
			&v.NSUUID, &v.Version, &v.Deleted}
	},
	values: func(v *vda.Exp) []any {
		return []any{v.ID, v.DAID, v.Name, v.NQN, v.InitiatorNQN, lines{&v.MoreHosts}, keysJSON{&v.Keys}, v.SnapName, v.Serial, v.NSUUID,
			v.Version, v.Deleted,
			orNull(v.Name, v.Deleted), orNull(v.NQN, v.Deleted)}
	},
	label:  func(v *vda.Exp) string { return v.Name + " with NQN " + v.NQN },
	tagged: true,
}

var esTable = table[vda.ES]{
	name: "vda_es", noun: "es",
	cols: []string{"id", "exp_id", "cntlr_id", "h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.ES) []any {
		return []any{&v.ID, &v.ExpID, &v.CntlrID, &v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
	},
	values: func(v *vda.ES) []any {
		return []any{v.ID, v.ExpID, v.CntlrID, v.Health.Error, CleanMsg(v.Health.Msg), us{&v.Health.Since}}
	},
	label: func(v *vda.ES) string { return v.ID },
}

func (t *sqlTx) InsertExp(v *vda.Exp) error {
	if err := insertRow(t, &expTable, v); err != nil {
		return err
	}
	return t.findByHosts(v)
}

func (t *sqlTx) UpdateExp(v *vda.Exp) error {
	ok, err := updateRow(t, &expTable, v, "")
	if err := orNotFound(ok, err, "exp", v.ID); err != nil {
		return err
	}
	return t.findByHosts(v)
}

func (t *sqlTx) DeleteExp(id string) error {
	if err := t.forgetHosts(id); err != nil {
		return err
	}
	return deleteRow(t, &expTable, id)
}

// findByHosts has an exporter be found by the hosts of its more_hosts, which are
// rows of vda_exp_host for that.
func (t *sqlTx) findByHosts(v *vda.Exp) error {
	if err := t.forgetHosts(v.ID); err != nil {
		return err
	}
	for _, nqn := range v.MoreHosts {
		if _, err := t.exec("INSERT INTO vda_exp_host (exp_id, nqn) VALUES (?, ?)", v.ID, nqn); err != nil {
			return err
		}
	}
	return nil
}

func (t *sqlTx) forgetHosts(expID string) error {
	_, err := t.exec("DELETE FROM vda_exp_host WHERE exp_id = ?", expID)
	return err
}

func (t *sqlReader) Exp(id string) (*vda.Exp, error) { return getRow(t, &expTable, id, "id = ?", id) }

func (t *sqlReader) ExpByName(daID, name string) (*vda.Exp, error) {
	return getRow(t, &expTable, name, "da_id = ? AND live_name = ?", daID, name)
}

func (t *sqlReader) ExpByNQN(nqn string) (*vda.Exp, error) {
	return getRow(t, &expTable, nqn, "live_nqn = ?", nqn)
}

func (t *sqlReader) ListExp(f ExpFilter, p Page) ([]vda.Exp, string, error) {
	var c cond
	c.and("deleted = FALSE")
	if f.DAID != nil {
		c.and("da_id = ?", *f.DAID)
	}
	if f.InitiatorNQN != nil {
		c.and("(initiator_nqn = ? OR id IN (SELECT exp_id FROM vda_exp_host WHERE nqn = ?))", *f.InitiatorNQN, *f.InitiatorNQN)
	}
	if f.Error != nil {
		is := ""
		if !*f.Error {
			is = "NOT "
		}
		c.and(is + "(id IN (SELECT exp_id FROM vda_es WHERE h_error = TRUE) OR " +
			"da_id IN (SELECT da_id FROM vda_vd WHERE h_error = TRUE AND deleted = FALSE))")
	}
	c.labels(f.Labels)
	return pageRows(t, &expTable, c, p, func(v *vda.Exp) (string, string) { return v.Name, v.ID })
}

func (t *sqlReader) ExpsOfDA(daID string) ([]vda.Exp, error) {
	return listRows(t, &expTable, "da_id = ? ORDER BY name, id", daID)
}

func (t *sqlTx) InsertES(v *vda.ES) error { return insertRow(t, &esTable, v) }
func (t *sqlTx) DeleteES(id string) error { return deleteRow(t, &esTable, id) }

func (t *sqlReader) ESsOfExp(expID string) ([]vda.ES, error) {
	return listRows(t, &esTable, "exp_id = ? ORDER BY id", expID)
}

func (t *sqlReader) ESsOfCntlr(cntlrID string) ([]vda.ES, error) {
	return listRows(t, &esTable, "cntlr_id = ? ORDER BY id", cntlrID)
}

var healthTables = map[Object]struct{ table, noun string }{
	ObjDN: {"vda_dn", "dn"}, ObjPD: {"vda_pd", "pd"}, ObjVD: {"vda_vd", "vd"}, ObjCN: {"vda_cn", "cn"},
	ObjCntlr: {"vda_cntlr", "cntlr"}, ObjDA: {"vda_da", "da"}, ObjES: {"vda_es", "es"},
	ObjSnap: {"vda_snap", "snap"},
}

func (t *sqlTx) SetHealth(o Object, id string, h vda.Health) error {
	n, err := t.setHealth(o, "id = ?", h, id)
	return orNotFound(n > 0, err, healthTables[o].noun, id)
}
