package store

import "github.com/virtual-disk-array/vda"

// What a node is told of is read with one statement per table, however many objects it has.

// ofCN are the arrays that have a controller on a cn, of a version above the second parameter.
const ofCN = "SELECT da_id FROM vda_cntlr WHERE cn_id = ? AND version > ?"

// onCN lists rows of arrays that ofCN finds.
func onCN[T any](t *sqlReader, tb *table[T], col, and, order, cnID string, since uint64) ([]T, error) {
	return listRows(t.unlocked(), tb, col+" IN ("+ofCN+and+") ORDER BY "+order, cnID, since)
}

const ofPrimary = " AND is_primary = TRUE"

func (t *sqlReader) DAsOnCN(cnID string, since uint64) ([]vda.DA, error) {
	return onCN(t, &daTable, "id", "", "id", cnID, since)
}

func (t *sqlReader) PeersOnCN(cnID string, since uint64) ([]vda.Cntlr, error) {
	return onCN(t, &cntlrTable, "da_id", "", "da_id, idx", cnID, since)
}

func (t *sqlReader) SnapsOnCN(cnID string, since uint64) ([]vda.Snap, error) {
	return onCN(t, &snapTable, "da_id", "", "id", cnID, since)
}

func (t *sqlReader) ExpsOnCN(cnID string, since uint64) ([]vda.Exp, error) {
	return onCN(t, &expTable, "da_id", "", "name, id", cnID, since)
}

func (t *sqlReader) GrpsOnCN(cnID string, since uint64) ([]vda.Grp, error) {
	return onCN(t, &grpTable, "da_id", ofPrimary, "da_id, idx", cnID, since)
}

func (t *sqlReader) VDsOnCN(cnID string, since uint64) ([]vda.VD, error) {
	return onCN(t, &vdTable, "da_id", ofPrimary, "da_id, grp_idx, idx, id", cnID, since)
}

func (t *sqlReader) MirrorsOnCN(cnID string, since uint64) ([]vda.Mirror, error) {
	return onCN(t, &mirrorTable, "da_id", ofPrimary, "da_id, grp_idx, idx", cnID, since)
}

func (t *sqlReader) ESsOnCN(cnID string, since uint64) ([]vda.ES, error) {
	return listRows(t.unlocked(), &esTable, "cntlr_id IN (SELECT id FROM vda_cntlr WHERE cn_id = ? AND version > ?) ORDER BY id", cnID, since)
}

var termTable = table[vda.DA]{
	name: "vda_da", noun: "da",
	cols: []string{"id", "term"},
	dest: func(v *vda.DA) []any { return []any{&v.ID, &v.Term} },
}

func (t *sqlReader) TermsOnDN(dnID string, since uint64) (map[string]uint64, error) {
	rows, err := listRows(t.unlocked(), &termTable, "id IN (SELECT da_id FROM vda_vd WHERE dn_id = ? AND version > ?)", dnID, since)
	terms := map[string]uint64{}
	for i := range rows {
		terms[rows[i].ID] = rows[i].Term
	}
	return terms, err
}
