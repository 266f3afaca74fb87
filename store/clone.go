package store

import "github.com/virtual-disk-array/vda"

func (t *sqlReader) CopyingDAs() ([]vda.DA, error) {
	return listRows(t, &daTable, "copying = TRUE ORDER BY id")
}

func (t *sqlReader) AutoGrowDAs() ([]vda.DA, error) {
	return listRows(t, &daTable, "auto_limit > 0 ORDER BY id")
}

// forClones are the names that begin with vda.ClonePrefix, as a range: of databases only some
// find a LIKE by an index.
const forClones = "live_name >= '" + vda.ClonePrefix + "' AND live_name < 'vda-clone.' ORDER BY id"

func (t *sqlReader) CloneExps() ([]vda.Exp, error) { return listRows(t, &expTable, forClones) }

func (t *sqlReader) CloneSnaps() ([]vda.Snap, error) { return listRows(t, &snapTable, forClones) }
