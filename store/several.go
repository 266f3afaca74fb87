package store

import (
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
)

// What happens to a node happens to a thousand arrays at once. These methods are about many
// rows: as many statements for a thousand as for one.

// atOnce bounds the ids of a statement, far below what any database takes.
const atOnce = 1000

// several reads the rows of a table whose column is one of ids, and which end in an ORDER BY.
// The ids are asked for in their order, some at a time, so that rows are locked in it.
func several[T any](t *sqlReader, tb *table[T], col, order string, ids []string) (all []T, err error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	for some := range slices.Chunk(sorted, atOnce) {
		rows, err := listRows(t, tb, col+" IN ("+marks(len(some))+") ORDER BY "+order, anys(some)...)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

func (t *sqlReader) DAs(ids []string) ([]vda.DA, error) { return several(t, &daTable, "id", "id", ids) }

func (t *sqlReader) VDsOf(daIDs []string) ([]vda.VD, error) {
	return several(t.unlocked(), &vdTable, "da_id", "da_id, grp_idx, idx, id", daIDs)
}

func (t *sqlReader) GrpsOf(daIDs []string) ([]vda.Grp, error) {
	return several(t.unlocked(), &grpTable, "da_id", "da_id, idx", daIDs)
}

func (t *sqlReader) CntlrsOf(daIDs []string) ([]vda.Cntlr, error) {
	return several(t.unlocked(), &cntlrTable, "da_id", "da_id, idx", daIDs)
}

func (t *sqlReader) MirrorsOf(daIDs []string) ([]vda.Mirror, error) {
	return several(t.unlocked(), &mirrorTable, "da_id", "da_id, grp_idx, idx", daIDs)
}

func (t *sqlReader) VDsByID(ids []string) ([]vda.VD, error) {
	return several(t.unlocked(), &vdTable, "id", "id", ids)
}

func (t *sqlReader) CntlrsByID(ids []string) ([]vda.Cntlr, error) {
	return several(t.unlocked(), &cntlrTable, "id", "id", ids)
}

func (t *sqlReader) ESsOfCntlrs(cntlrIDs []string) ([]vda.ES, error) {
	return several(t.unlocked(), &esTable, "cntlr_id", "cntlr_id, id", cntlrIDs)
}

// LegState is what changes of a leg when it leaves its mirror or joins it.
type LegState struct {
	Role           vda.LegRole
	Leaving, Moved bool
	Epoch, Version uint64
}

// LegStateOf is a vd's.
func LegStateOf(v *vda.VD) LegState { return LegState{v.Role, v.Leaving, v.Moved, v.Epoch, v.Version} }

func (t *sqlTx) SetLegs(ids []string, s LegState) error {
	return t.setAll("vda_vd", "vd", "role = ?, leaving = ?, moved = ?, epoch = ?, version = ?", ids,
		s.Role, s.Leaving, s.Moved, s.Epoch, s.Version)
}

func (t *sqlTx) SetVDLacks(ids []string, bytes, rate uint64) error {
	return t.setAll("vda_vd", "vd", "lack_bytes = ?, copy_rate = ?", ids, bytes, rate)
}

func (t *sqlTx) SetMirrorGens(ids []string, gen uint64) error {
	return t.setAll("vda_mirror", "mirror", "gen = ?", ids, gen)
}

func (t *sqlTx) SetCntlrVersions(ids []string, version uint64) error {
	return t.setAll("vda_cntlr", "cntlr", "version = ?", ids, version)
}

func (t *sqlTx) SetApplied(o Object, ids []string, upTo uint64) error {
	tb, ok := map[Object]string{ObjVD: "vda_vd", ObjCntlr: "vda_cntlr"}[o]
	if !ok {
		return vda.Errorf(vda.Internal, "object kind %d has no version of its own that is carried out", o)
	}
	for some := range slices.Chunk(ids, atOnce) {
		_, err := t.exec("UPDATE "+tb+" SET applied = version WHERE version <= ? AND applied < version AND id IN ("+marks(len(some))+")",
			slices.Concat([]any{upTo}, anys(some))...)
		if err != nil {
			return err
		}
	}
	return nil
}

// setAll is an UPDATE of rows that are all there.
func (t *sqlTx) setAll(table, noun, set string, ids []string, args ...any) error {
	for some := range slices.Chunk(ids, atOnce) {
		n, err := t.exec("UPDATE "+table+" SET "+set+" WHERE id IN ("+marks(len(some))+")", slices.Concat(args, anys(some))...)
		if err != nil {
			return err
		}
		if n != int64(len(some)) {
			return &vda.Error{Kind: vda.NotFound, Object: noun + " " + some[0], Msg: "or one of " + itoa(uint64(len(some)-1)) +
				" more does not exist"}
		}
	}
	return nil
}

func (t *sqlTx) SetHealths(o Object, ids []string, h vda.Health) error {
	for some := range slices.Chunk(ids, atOnce) {
		if _, err := t.setHealth(o, "id IN ("+marks(len(some))+")", h, anys(some)...); err != nil {
			return err
		}
	}
	return nil
}

// setHealth keeps Since as long as an object stays in error, whatever the
// messages say meanwhile.
func (t *sqlTx) setHealth(o Object, where string, h vda.Health, args ...any) (rows int64, err error) {
	tb, ok := healthTables[o]
	if !ok {
		return 0, vda.Errorf(vda.Internal, "object kind %d has no health", o)
	}
	msg, since := "", time.Time{}
	if h.Error {
		msg, since = CleanMsg(h.Msg), h.Since
		if since.IsZero() {
			since = time.Now()
		}
	}
	// h_since_us first: MySQL evaluates assignments from left to right.
	return t.exec("UPDATE "+tb.table+" SET h_since_us = CASE WHEN h_error = TRUE AND ? > 0 THEN h_since_us ELSE ? END, "+
		"h_error = ?, h_msg = ? WHERE "+where,
		slices.Concat([]any{b2i(h.Error), us{&since}, h.Error, msg}, args)...)
}
