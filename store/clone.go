package store

import "github.com/virtual-disk-array/vda"

func (t *sqlReader) CopyingDAs() ([]vda.DA, error) {
	return listRows(t, &daTable, "clone_source <> '{}' ORDER BY id")
}

func (t *sqlReader) AutoGrowDAs() ([]vda.DA, error) {
	return listRows(t, &daTable, "auto_limit > 0 ORDER BY id")
}

func (t *sqlReader) CloneExps() ([]vda.Exp, error) {
	return listRows(t, &expTable, "live_name LIKE '"+vda.ClonePrefix+"%' ORDER BY id")
}

func (t *sqlReader) CloneSnaps() ([]vda.Snap, error) {
	return listRows(t, &snapTable, "live_name LIKE '"+vda.ClonePrefix+"%' ORDER BY id")
}
