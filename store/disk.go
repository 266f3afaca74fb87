package store

import "github.com/virtual-disk-array/vda"

var pdTable = table[vda.PD]{
	name: "vda_pd", noun: "pd",
	cols: []string{"id", "dn_id", "name", "conf", "online", "cluster_size", "total_clusters", "free_clusters",
		"vd_count", "orphan_clusters", "write_cache", "drain", "version", "deleted",
		"h_error", "h_msg", "h_since_us"},
	keys: []string{"live_name", "spread"},
	fixed: []string{"dn_id", "total_clusters", "free_clusters", "vd_count", "orphan_clusters",
		"h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.PD) []any {
		return []any{&v.ID, &v.DNID, &v.Name, &v.Conf, &v.Online, &v.ClusterSize, &v.TotalClusters, &v.FreeClusters,
			&v.VDCount, &v.OrphanClusters, &v.WriteCache, &v.Drain, &v.Version, &v.Deleted, &v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
	},
	values: func(v *vda.PD) []any {
		return []any{v.ID, v.DNID, v.Name, v.Conf, v.Online, v.ClusterSize, v.TotalClusters, v.FreeClusters,
			v.VDCount, v.OrphanClusters, v.WriteCache, v.Drain, v.Version, v.Deleted, v.Health.Error,
			CleanMsg(v.Health.Msg), us{&v.Health.Since}, orNull(v.Name, v.Deleted), spreadOf(v.ID)}
	},
	label:  func(v *vda.PD) string { return v.Name },
	tagged: true,
}

var vdTable = table[vda.VD]{
	name: "vda_vd", noun: "vd",
	cols: []string{"id", "da_id", "grp_idx", "idx", "pd_id", "dn_id", "clusters", "size_bytes",
		"mirror_id", "role", "leaving", "moved", "epoch", "lack_bytes", "copy_rate", "version", "applied", "deleted",
		"h_error", "h_msg", "h_since_us"},
	fixed: []string{"da_id", "lack_bytes", "copy_rate", "applied", "h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.VD) []any {
		return []any{&v.ID, &v.DAID, &v.GrpIdx, &v.Idx, &v.PDID, &v.DNID, &v.Clusters, &v.Size,
			&v.MirrorID, &v.Role, &v.Leaving, &v.Moved, &v.Epoch, &v.Lack, &v.CopyRate, &v.Version, &v.Applied, &v.Deleted,
			&v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
	},
	values: func(v *vda.VD) []any {
		return []any{v.ID, v.DAID, v.GrpIdx, v.Idx, v.PDID, v.DNID, v.Clusters, v.Size,
			v.MirrorID, v.Role, v.Leaving, v.Moved, v.Epoch, v.Lack, v.CopyRate, v.Version, v.Applied, v.Deleted,
			v.Health.Error, CleanMsg(v.Health.Msg), us{&v.Health.Since}}
	},
	label: func(v *vda.VD) string { return v.ID },
}

func (t *sqlTx) InsertPD(v *vda.PD) error { return insertRow(t, &pdTable, v) }

// UpdatePD moves FreeClusters by as much as TotalClusters changes, so that a
// disk that has just been formatted, or has grown, has its room at once.
func (t *sqlTx) UpdatePD(v *vda.PD) error {
	ok, err := updateRow(t, &pdTable, v, "")
	if err := orNotFound(ok, err, "pd", v.ID); err != nil {
		return err
	}
	// free_clusters first: MySQL evaluates assignments from left to right.
	n, err := t.exec("UPDATE vda_pd SET free_clusters = free_clusters + ? - total_clusters, total_clusters = ? "+
		"WHERE id = ? AND free_clusters + ? >= total_clusters",
		v.TotalClusters, v.TotalClusters, v.ID, v.TotalClusters)
	if err == nil && n == 0 {
		return &vda.Error{Kind: vda.FailedPrecondition, Object: "pd " + v.Name,
			Msg: "would have " + itoa(v.TotalClusters) + " clusters, fewer than its vds hold"}
	}
	return err
}

func (t *sqlTx) DeletePD(id string) error          { return deleteRow(t, &pdTable, id) }
func (t *sqlReader) PD(id string) (*vda.PD, error) { return getRow(t, &pdTable, id, "id = ?", id) }

func (t *sqlReader) PDByName(dnID, name string) (*vda.PD, error) {
	return getRow(t, &pdTable, name, "dn_id = ? AND live_name = ?", dnID, name)
}

func (t *sqlReader) ListPD(f PDFilter, p Page) ([]vda.PD, string, error) {
	var c cond
	c.and("deleted = FALSE")
	if f.DNID != nil {
		c.and("dn_id = ?", *f.DNID)
	}
	if f.Online != nil {
		c.and("online = ?", *f.Online)
	}
	if f.Error != nil {
		c.and("h_error = ?", *f.Error)
	}
	c.labels(f.Labels)
	return pageRows(t, &pdTable, c, p, func(v *vda.PD) (string, string) { return v.Name, v.ID })
}

func (t *sqlTx) TakePD(id string, clusters uint64) error {
	n, err := t.exec("UPDATE vda_pd SET free_clusters = free_clusters - ?, vd_count = vd_count + 1 "+
		"WHERE id = ? AND deleted = FALSE AND free_clusters >= ?",
		clusters, id, clusters)
	if err != nil || n > 0 {
		return err
	}
	pd, err := t.PD(id)
	if err != nil {
		return err
	}
	if pd.Deleted {
		return notFound("pd", id)
	}
	return &vda.Error{Kind: vda.ResourceExhausted, Object: "pd " + pd.Name,
		Msg: itoa(clusters) + " clusters wanted, " + itoa(pd.FreeClusters) + " are free"}
}

func (t *sqlTx) GivePD(id string, clusters uint64) error {
	n, err := t.exec("UPDATE vda_pd SET free_clusters = free_clusters + ?, vd_count = vd_count - 1 "+
		"WHERE id = ? AND vd_count > 0 AND free_clusters + ? <= total_clusters",
		clusters, id, clusters)
	if err != nil || n > 0 {
		return err
	}
	pd, err := t.PD(id)
	if err != nil {
		return err
	}
	return &vda.Error{Kind: vda.Internal, Object: "pd " + pd.Name,
		Msg: itoa(clusters) + " clusters given back, but no vd holds so many"}
}

func (t *sqlTx) SetPDUsed(id string, clusters uint64) error {
	pd, err := t.PD(id)
	if err != nil {
		return err
	}
	free, orphans := pd.Used(clusters)
	if orphans == pd.OrphanClusters {
		return nil
	}
	_, err = t.exec("UPDATE vda_pd SET free_clusters = ?, orphan_clusters = ? WHERE id = ?", free, orphans, id)
	return err
}

func (t *sqlTx) TakeOrphan(id string, clusters uint64) error {
	pd, err := t.PD(id)
	if err != nil {
		return err
	}
	known := min(clusters, pd.OrphanClusters)
	if known > 0 {
		if _, err := t.exec("UPDATE vda_pd SET free_clusters = free_clusters + ?, orphan_clusters = orphan_clusters - ? WHERE id = ?",
			known, known, id); err != nil {
			return err
		}
	}
	return t.TakePD(id, clusters)
}

func (t *sqlTx) InsertVD(v *vda.VD) error {
	t.legsChanged(v.DAID)
	return insertRow(t, &vdTable, v)
}

func (t *sqlTx) UpdateVD(v *vda.VD) error {
	t.legsChanged(v.DAID)
	ok, err := updateRow(t, &vdTable, v, "")
	return orNotFound(ok, err, "vd", v.ID)
}

func (t *sqlTx) SetVDLack(id string, bytes, rate uint64) error {
	n, err := t.exec("UPDATE vda_vd SET lack_bytes = ?, copy_rate = ? WHERE id = ?", bytes, rate, id)
	return orNotFound(n > 0, err, "vd", id)
}

// DeleteVD notes the vd's array, as it may be a leg until now.
func (t *sqlTx) DeleteVD(id string) error {
	v, err := t.unlocked().VD(id)
	if err != nil {
		return err
	}
	t.legsChanged(v.DAID)
	return deleteRow(t, &vdTable, id)
}

func (t *sqlReader) VD(id string) (*vda.VD, error) { return getRow(t, &vdTable, id, "id = ?", id) }

func (t *sqlReader) VDsOfDA(daID string) ([]vda.VD, error) {
	return listRows(t, &vdTable, "da_id = ? ORDER BY grp_idx, idx, id", daID)
}

func (t *sqlReader) AilingVDs(daIDs []string) ([]vda.VD, error) {
	if len(daIDs) == 0 {
		return nil, nil
	}
	where := "h_error = TRUE AND deleted = FALSE AND da_id IN (" + marks(len(daIDs)) + ") ORDER BY da_id, grp_idx, idx, id"
	return listRows(t, &vdTable, where, anys(daIDs)...)
}

// trashed is a vd of an array in the trash.
const trashed = "deleted = FALSE AND da_id IN (SELECT id FROM vda_da WHERE deleted = FALSE AND purge_us > 0)"

func (t *sqlReader) TrashedVDs() ([]vda.VD, error) {
	return listRows(t, &vdTable, trashed+" ORDER BY da_id, id")
}

func (t *sqlReader) TrashedSizes() (map[string]uint64, error) {
	rows, err := t.query("SELECT dn_id, SUM(size_bytes) FROM vda_vd WHERE " + trashed + " GROUP BY dn_id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	sizes := map[string]uint64{}
	for rows.Next() {
		var id string
		var size uint64
		if err := rows.Scan(&id, &size); err != nil {
			return nil, t.fault(err)
		}
		sizes[id] = size
	}
	if err := rows.Err(); err != nil {
		return nil, t.fault(err)
	}
	return sizes, nil
}

// unsettled is a leg that UnsettledLegs returns.
const unsettled = "(role > 0 OR leaving = TRUE OR h_error = TRUE AND mirror_id <> '') AND deleted = FALSE"

func (t *sqlReader) UnsettledLegs() ([]vda.VD, error) {
	return listRows(t, &vdTable, unsettled+" ORDER BY da_id, grp_idx, idx, id")
}

func (t *sqlReader) BehindOnCN(cnID string) ([]vda.VD, error) {
	return listRows(t.unlocked(), &vdTable, "role = 0 AND lack_bytes > 0 AND deleted = FALSE AND da_id IN (SELECT da_id FROM vda_cntlr "+
		"WHERE cn_id = ? AND is_primary = TRUE AND deleted = FALSE) ORDER BY da_id, grp_idx, idx, id", cnID)
}

// onDraining is a vd on a dn or pd that is being drained. A UNION is found by indexes;
// an OR has every database read all vds.
const onDraining = "pd_id IN (SELECT id FROM vda_pd WHERE drain = TRUE UNION " +
	"SELECT p.id FROM vda_pd p JOIN vda_dn d ON d.id = p.dn_id WHERE d.drain = TRUE)"

func (t *sqlReader) DrainingVDs() ([]vda.VD, error) {
	return listRows(t, &vdTable, "deleted = FALSE AND "+onDraining+" ORDER BY da_id, grp_idx, idx, id")
}

func (t *sqlReader) LegsOf(daIDs []string) ([]vda.VD, error) {
	if len(daIDs) == 0 {
		return nil, nil
	}
	where := "mirror_id <> '' AND deleted = FALSE AND da_id IN (" + marks(len(daIDs)) + ") AND NOT EXISTS (SELECT 1 FROM vda_grp g " +
		"WHERE g.da_id = vda_vd.da_id AND g.idx = vda_vd.grp_idx AND g.joining = TRUE) ORDER BY da_id, grp_idx, idx, id"
	return listRows(t, &vdTable, where, anys(daIDs)...)
}

func (t *sqlReader) VDsOfPD(pdID string) ([]vda.VD, error) {
	return listRows(t, &vdTable, "pd_id = ? ORDER BY id", pdID)
}

func (t *sqlReader) DNObjects(dnID string, since uint64) ([]vda.PD, []vda.VD, error) {
	pds, err := listRows(t, &pdTable, "dn_id = ? AND version > ? ORDER BY id", dnID, since)
	if err != nil {
		return nil, nil, err
	}
	vds, err := listRows(t, &vdTable, "dn_id = ? AND version > ? ORDER BY id", dnID, since)
	return pds, vds, err
}
