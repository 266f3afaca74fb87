package store

import "github.com/virtual-disk-array/vda"

var dnTable = table[vda.DN]{
	name: "vda_dn", noun: "dn",
	cols:  []string{"id", "name", "listener", "location", "online", "version", "applied", "data_plane_version", "h_error", "h_msg", "h_since_us"},
	fixed: []string{"version", "applied", "h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.DN) []any {
		return []any{&v.ID, &v.Name, asJSON{&v.Listener}, &v.Location, &v.Online, &v.Version, &v.Applied, &v.DataPlaneVersion,
			&v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
	},
	values: func(v *vda.DN) []any {
		return []any{v.ID, v.Name, asJSON{&v.Listener}, v.Location, v.Online, v.Version, v.Applied, v.DataPlaneVersion,
			v.Health.Error, CleanMsg(v.Health.Msg), us{&v.Health.Since}}
	},
	label: func(v *vda.DN) string { return v.Name },
}

var cnTable = table[vda.CN]{
	name: "vda_cn", noun: "cn",
	cols:  []string{"id", "name", "listener", "location", "online", "version", "applied", "cntlr_count", "primary_count", "data_plane_version", "h_error", "h_msg", "h_since_us"},
	fixed: []string{"version", "applied", "cntlr_count", "primary_count", "h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.CN) []any {
		return []any{&v.ID, &v.Name, asJSON{&v.Listener}, &v.Location, &v.Online, &v.Version, &v.Applied, &v.CntlrCount, &v.PrimaryCount, &v.DataPlaneVersion,
			&v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
	},
	values: func(v *vda.CN) []any {
		return []any{v.ID, v.Name, asJSON{&v.Listener}, v.Location, v.Online, v.Version, v.Applied, v.CntlrCount, v.PrimaryCount, v.DataPlaneVersion,
			v.Health.Error, CleanMsg(v.Health.Msg), us{&v.Health.Since}}
	},
	label: func(v *vda.CN) string { return v.Name },
}

func (t *sqlTx) ClusterID() (string, error) {
	rows, err := t.query("SELECT id FROM vda_cluster")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return "", t.fault(err)
		}
		return "", t.store.noSchema()
	}
	var id string
	if err := rows.Scan(&id); err != nil {
		return "", t.fault(err)
	}
	return id, nil
}

func (t *sqlTx) InsertDN(v *vda.DN) error { return insertRow(t, &dnTable, v) }

func (t *sqlTx) UpdateDN(v *vda.DN) error {
	ok, err := updateRow(t, &dnTable, v, "")
	return orNotFound(ok, err, "dn", v.ID)
}

func (t *sqlTx) DeleteDN(id string) error      { return deleteRow(t, &dnTable, id) }
func (t *sqlTx) DN(id string) (*vda.DN, error) { return getRow(t, &dnTable, id, "id = ?", id) }
func (t *sqlTx) DNByName(n string) (*vda.DN, error) {
	return getRow(t, &dnTable, n, "name = ?", n)
}

func (t *sqlTx) ListDN(f NodeFilter, p Page) ([]vda.DN, string, error) {
	return pageRows(t, &dnTable, f.cond(), p, func(v *vda.DN) (string, string) { return v.Name, v.ID })
}

func (t *sqlTx) BumpDN(id string) (uint64, error) { return t.bump(dnTable.name, "dn", id) }

func (t *sqlTx) RaiseDN(id string, above uint64) error { return t.raise(dnTable.name, "dn", id, above) }

func (t *sqlTx) SetDNApplied(id string, version uint64) error {
	return t.setApplied(dnTable.name, "dn", id, version)
}

func (t *sqlTx) InsertCN(v *vda.CN) error { return insertRow(t, &cnTable, v) }

func (t *sqlTx) UpdateCN(v *vda.CN) error {
	ok, err := updateRow(t, &cnTable, v, "")
	return orNotFound(ok, err, "cn", v.ID)
}

func (t *sqlTx) DeleteCN(id string) error      { return deleteRow(t, &cnTable, id) }
func (t *sqlTx) CN(id string) (*vda.CN, error) { return getRow(t, &cnTable, id, "id = ?", id) }
func (t *sqlTx) CNByName(n string) (*vda.CN, error) {
	return getRow(t, &cnTable, n, "name = ?", n)
}

func (t *sqlTx) ListCN(f NodeFilter, p Page) ([]vda.CN, string, error) {
	return pageRows(t, &cnTable, f.cond(), p, func(v *vda.CN) (string, string) { return v.Name, v.ID })
}

func (t *sqlTx) BumpCN(id string) (uint64, error) { return t.bump(cnTable.name, "cn", id) }

func (t *sqlTx) RaiseCN(id string, above uint64) error { return t.raise(cnTable.name, "cn", id, above) }

func (t *sqlTx) SetCNApplied(id string, version uint64) error {
	return t.setApplied(cnTable.name, "cn", id, version)
}

func (f NodeFilter) cond() cond {
	var c cond
	if f.Location != nil {
		c.and("location = ?", *f.Location)
	}
	if f.Online != nil {
		c.and("online = ?", *f.Online)
	}
	if f.Error != nil {
		c.and("h_error = ?", *f.Error)
	}
	return c
}

func orNotFound(ok bool, err error, noun, id string) error {
	if err == nil && !ok {
		return notFound(noun, id)
	}
	return err
}

func (t *sqlTx) bump(table, noun, id string) (uint64, error) {
	n, err := t.exec("UPDATE "+table+" SET version = version + 1 WHERE id = ?", id)
	if err := orNotFound(n > 0, err, noun, id); err != nil {
		return 0, err
	}
	var version uint64
	err = t.scanOne("SELECT version FROM "+table+" WHERE id = ?", []any{id}, &version)
	return version, err
}

// raise never takes a version back.
func (t *sqlTx) raise(table, noun, id string, above uint64) error {
	n, err := t.exec("UPDATE "+table+" SET version = CASE WHEN version <= ? THEN ? ELSE version + 1 END WHERE id = ?", above, above+1, id)
	return orNotFound(n > 0, err, noun, id)
}

// setApplied never takes an applied version back: replies may overtake each
// other.
func (t *sqlTx) setApplied(table, noun, id string, version uint64) error {
	n, err := t.exec("UPDATE "+table+" SET applied = CASE WHEN applied < ? THEN ? ELSE applied END WHERE id = ?", version, version, id)
	return orNotFound(n > 0, err, noun, id)
}

// scanOne reads one row that must be there.
func (t *sqlTx) scanOne(q string, args []any, dest ...any) error {
	err := t.tx.QueryRowContext(t.ctx, t.store.target.dialect.rebind(q), args...).Scan(dest...)
	if err != nil {
		return t.fault(err)
	}
	return nil
}
