package store

import (
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
)

var daTable = table[vda.DA]{
	name: "vda_da", noun: "da",
	cols: []string{"id", "name", "size_bytes", "physical_bytes", "cntlr_cnt", "stripe_count", "stripe_size_kb",
		"conf", "cluster_size", "redundancy", "min_legs",
		"rw_ios", "rw_mb", "r_mb", "w_mb", "rebuild_mb", "clone_source", "term", "moving_us", "created", "deleted", "purge_us",
		"stays_thin", "reservations", "auto_limit", "auto_low", "space_bytes", "used_bytes",
		"h_error", "h_msg", "h_since_us"},
	keys:  []string{"live_name", "copying", "thin", "crowded"},
	fixed: []string{"space_bytes", "used_bytes", "crowded", "h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.DA) []any {
		return []any{&v.ID, &v.Name, &v.Size, &v.PhysicalSize, &v.CntlrCnt, &v.StripeCount, &v.StripeSizeKB,
			&v.Conf, &v.ClusterSize, &v.Redundancy, &v.MinLegs,
			&v.Limits.RWIOs, &v.Limits.RWMB, &v.Limits.RMB, &v.Limits.WMB, &v.Limits.RebuildMB, asJSON{&v.Source},
			&v.Term, us{&v.Moving}, &v.Created, &v.Deleted, us{&v.Purge}, &v.StaysThin, &v.Reservations, &v.AutoGrow.Limit,
			&v.AutoGrow.LowPercent, &v.Space.Total, &v.Space.Used,
			&v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
	},
	values: func(v *vda.DA) []any {
		return []any{v.ID, v.Name, v.Size, v.PhysicalSize, v.CntlrCnt, v.StripeCount, v.StripeSizeKB,
			v.Conf, v.ClusterSize, v.Redundancy, v.MinLegs,
			v.Limits.RWIOs, v.Limits.RWMB, v.Limits.RMB, v.Limits.WMB, v.Limits.RebuildMB, asJSON{&v.Source}, v.Term, us{&v.Moving},
			v.Created, v.Deleted, us{&v.Purge}, v.StaysThin, v.Reservations, v.AutoGrow.Limit, v.AutoGrow.LowPercent, v.Space.Total,
			v.Space.Used, v.Health.Error, CleanMsg(v.Health.Msg),
			us{&v.Health.Since}, orNull(v.Name, v.Deleted || !v.Purge.IsZero()), v.Source.Copying(), v.Thin(), crowded(v.Space)}
	},
	label:  func(v *vda.DA) string { return v.Name },
	tagged: true,
}

var grpTable = table[vda.Grp]{
	name: "vda_grp", noun: "grp",
	cols:   []string{"id", "da_id", "idx", "size_bytes", "joining", "adds_bytes"},
	dest:   func(v *vda.Grp) []any { return []any{&v.ID, &v.DAID, &v.Idx, &v.Size, &v.Joining, &v.Adds} },
	values: func(v *vda.Grp) []any { return []any{v.ID, v.DAID, v.Idx, v.Size, v.Joining, v.Adds} },
	label:  func(v *vda.Grp) string { return v.ID },
}

var mirrorTable = table[vda.Mirror]{
	name: "vda_mirror", noun: "mirror",
	cols:  []string{"id", "da_id", "grp_idx", "idx", "size_bytes", "gen", "recovered", "scrub"},
	fixed: []string{"da_id", "grp_idx", "idx", "scrub"},
	dest: func(v *vda.Mirror) []any {
		return []any{&v.ID, &v.DAID, &v.GrpIdx, &v.Idx, &v.Size, &v.Gen, &v.Recovered, asJSON{&v.Scrub}}
	},
	values: func(v *vda.Mirror) []any {
		return []any{v.ID, v.DAID, v.GrpIdx, v.Idx, v.Size, v.Gen, v.Recovered, asJSON{&v.Scrub}}
	},
	label: func(v *vda.Mirror) string { return v.ID },
}

var cntlrTable = table[vda.Cntlr]{
	name: "vda_cntlr", noun: "cntlr",
	cols:  []string{"id", "da_id", "cn_id", "idx", "is_primary", "version", "applied", "deleted", "h_error", "h_msg", "h_since_us"},
	fixed: []string{"da_id", "cn_id", "idx", "applied", "h_error", "h_msg", "h_since_us"},
	dest: func(v *vda.Cntlr) []any {
		return []any{&v.ID, &v.DAID, &v.CNID, &v.Idx, &v.Primary, &v.Version, &v.Applied, &v.Deleted, &v.Health.Error, &v.Health.Msg,
			us{&v.Health.Since}}
	},
	values: func(v *vda.Cntlr) []any {
		return []any{v.ID, v.DAID, v.CNID, v.Idx, v.Primary, v.Version, v.Applied, v.Deleted, v.Health.Error, CleanMsg(v.Health.Msg),
			us{&v.Health.Since}}
	},
	label: func(v *vda.Cntlr) string { return v.ID },
}

func (t *sqlTx) InsertDA(v *vda.DA) error { return insertRow(t, &daTable, v) }

func (t *sqlTx) UpdateDA(v *vda.DA) error {
	if v.Redundancy.Mirrored() {
		t.legsChanged(v.ID)
	}
	ok, err := updateRow(t, &daTable, v, " AND term <= ?", v.Term)
	if err != nil || ok {
		return err
	}
	old, err := t.DA(v.ID)
	if err != nil {
		return err
	}
	return &vda.Error{Kind: vda.FailedPrecondition, Object: "da " + v.Name,
		Msg: "term " + itoa(v.Term) + " is below the current term " + itoa(old.Term)}
}

func (t *sqlTx) SetDASpace(id string, s vda.Space) error {
	n, err := t.exec("UPDATE vda_da SET space_bytes = ?, used_bytes = ?, crowded = ? WHERE id = ?", s.Total, s.Used, crowded(s), id)
	return orNotFound(n > 0, err, "da", id)
}

func (t *sqlTx) DeleteDA(id string) error          { return deleteRow(t, &daTable, id) }
func (t *sqlReader) DA(id string) (*vda.DA, error) { return getRow(t, &daTable, id, "id = ?", id) }

func (t *sqlReader) DAByName(name string) (*vda.DA, error) {
	return getRow(t, &daTable, name, "live_name = ?", name)
}

func (t *sqlReader) ListDA(f DAFilter, p Page) ([]vda.DA, string, error) {
	var c cond
	if f.Trash {
		c.and("deleted = FALSE AND purge_us > 0")
	} else {
		c.and("deleted = FALSE AND purge_us = 0")
	}
	if f.Error != nil {
		c.and("h_error = ?", *f.Error)
	}
	c.labels(f.Labels)
	return pageRows(t, &daTable, c, p, func(v *vda.DA) (string, string) { return v.Name, v.ID })
}

// crowded is a space that is used to vda.DASpaceLow, or a few bytes less. Products might
// not fit into 64 bits.
func crowded(s vda.Space) bool { return s.Total > 0 && s.Used/4+1 >= s.Total/5 }

// suspect finds arrays by indexes: with an OR, databases look at every one.
const suspect = "SELECT id FROM vda_da WHERE h_error = TRUE UNION ALL SELECT id FROM vda_da WHERE thin = TRUE AND crowded = TRUE" +
	" UNION ALL SELECT da_id FROM vda_vd WHERE " + unsettled +
	" UNION ALL SELECT m.da_id FROM vda_mirror m JOIN vda_da d ON d.id = m.da_id WHERE m.missing > 0 AND d.redundancy > 1"

func (t *sqlReader) SuspectDAs() ([]vda.DA, error) {
	return listRows(t.unlocked(), &daTable, "deleted = FALSE AND purge_us = 0 AND id IN ("+suspect+") ORDER BY name, id")
}

// SuspectDAs counts what the transaction has changed so far.
func (t *sqlTx) SuspectDAs() ([]vda.DA, error) {
	if err := t.countLegs(); err != nil {
		return nil, err
	}
	return t.sqlReader.SuspectDAs()
}

// legsChanged notes an array whose columns may have other legs than before, or are to have
// another number of them. Who changes them has locked the array.
func (t *sqlTx) legsChanged(daID string) {
	if t.recount == nil {
		t.recount = map[string]bool{}
	}
	t.recount[daID] = true
}

// countLegs writes how many legs columns lack whose legs the transaction has changed, once
// for all of them.
func (t *sqlTx) countLegs() error {
	const q = "UPDATE vda_mirror SET missing = (SELECT d.redundancy FROM vda_da d WHERE d.id = vda_mirror.da_id) - " +
		"(SELECT COUNT(*) FROM vda_vd v WHERE v.da_id = vda_mirror.da_id AND v.mirror_id = vda_mirror.id AND v.deleted = FALSE) WHERE da_id IN ("
	for some := range slices.Chunk(slices.Sorted(maps.Keys(t.recount)), atOnce) {
		if _, err := t.exec(q+marks(len(some))+")", anys(some)...); err != nil {
			return err
		}
	}
	t.recount = nil
	return nil
}

func (t *sqlReader) CountDAs() (n, size uint64, err error) {
	// Whole MiB are added: the bytes of many thin arrays might not fit into 63 bits.
	err = t.scanOne("SELECT COUNT(*), COALESCE(SUM(size_bytes >> 20), 0) FROM vda_da WHERE deleted = FALSE AND purge_us = 0", nil, &n, &size)
	return n, size << 20, err
}

func (t *sqlReader) DeletedDAs() ([]vda.DA, error) {
	return listRows(t, &daTable, "deleted = TRUE ORDER BY name, id")
}

func (t *sqlTx) InsertGrp(v *vda.Grp) error { return insertRow(t, &grpTable, v) }
func (t *sqlTx) UpdateGrp(v *vda.Grp) error {
	ok, err := updateRow(t, &grpTable, v, "")
	return orNotFound(ok, err, "grp", v.ID)
}
func (t *sqlTx) DeleteGrp(id string) error { return deleteRow(t, &grpTable, id) }

func (t *sqlReader) GrpsOfDA(daID string) ([]vda.Grp, error) {
	return listRows(t, &grpTable, "da_id = ? ORDER BY idx", daID)
}

func (t *sqlTx) InsertMirror(v *vda.Mirror) error {
	t.legsChanged(v.DAID)
	return insertRow(t, &mirrorTable, v)
}

func (t *sqlTx) DeleteMirror(id string) error { return deleteRow(t, &mirrorTable, id) }

func (t *sqlTx) UpdateMirror(v *vda.Mirror) error {
	ok, err := updateRow(t, &mirrorTable, v, "")
	return orNotFound(ok, err, "mirror", v.ID)
}

func (t *sqlTx) SetMirrorScrub(id string, s vda.Scrub) error {
	n, err := t.exec("UPDATE vda_mirror SET scrub = ? WHERE id = ?", asJSON{&s}, id)
	return orNotFound(n > 0, err, "mirror", id)
}

func (t *sqlReader) MirrorsOfDA(daID string) ([]vda.Mirror, error) {
	return listRows(t, &mirrorTable, "da_id = ? ORDER BY grp_idx, idx", daID)
}

func (t *sqlTx) InsertCntlr(v *vda.Cntlr) error {
	if err := t.countCntlr(v.CNID, 1, b2i(v.Primary)); err != nil {
		return err
	}
	return insertRow(t, &cntlrTable, v)
}

func (t *sqlTx) UpdateCntlr(v *vda.Cntlr) error {
	old, err := t.Cntlr(v.ID)
	if err != nil {
		return err
	}
	if d := b2i(v.Primary) - b2i(old.Primary); d != 0 {
		if err := t.countCntlr(old.CNID, 0, d); err != nil {
			return err
		}
	}
	ok, err := updateRow(t, &cntlrTable, v, "")
	return orNotFound(ok, err, "cntlr", v.ID)
}

func (t *sqlTx) DeleteCntlr(id string) error {
	old, err := t.Cntlr(id)
	if err != nil {
		return err
	}
	if err := deleteRow(t, &cntlrTable, id); err != nil {
		return err
	}
	return t.countCntlr(old.CNID, -1, -b2i(old.Primary))
}

func (t *sqlTx) countCntlr(cnID string, cntlrs, primaries int64) error {
	n, err := t.exec("UPDATE vda_cn SET cntlr_count = cntlr_count + ?, primary_count = primary_count + ? WHERE id = ?",
		cntlrs, primaries, cnID)
	return orNotFound(n > 0, err, "cn", cnID)
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (t *sqlReader) Cntlr(id string) (*vda.Cntlr, error) {
	return getRow(t, &cntlrTable, id, "id = ?", id)
}

func (t *sqlReader) CntlrsOfDA(daID string) ([]vda.Cntlr, error) {
	return listRows(t, &cntlrTable, "da_id = ? ORDER BY idx", daID)
}

func (t *sqlReader) CntlrsOfDAs(daIDs []string) ([]vda.Cntlr, error) {
	if len(daIDs) == 0 {
		return nil, nil
	}
	return listRows(t, &cntlrTable, "deleted = FALSE AND da_id IN ("+marks(len(daIDs))+") ORDER BY da_id, idx", anys(daIDs)...)
}

func (t *sqlReader) CntlrsOfCN(cnID string) ([]vda.Cntlr, error) {
	return listRows(t, &cntlrTable, "cn_id = ? ORDER BY id", cnID)
}

func (t *sqlReader) CNObjects(cnID string, since uint64) ([]vda.Cntlr, error) {
	return listRows(t, &cntlrTable, "cn_id = ? AND version > ? ORDER BY id", cnID, since)
}
