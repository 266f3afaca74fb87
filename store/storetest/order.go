package storetest

import (
	"context"
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// The levels of the lock order; see package array.
const (
	levelCluster = iota
	levelDA
	levelPD
	levelCN
	levelDN
)

// Recorder is a transaction that notes which rows it locks, and what of it is
// not in the lock order of package array: the cluster, arrays, pds, cns, dns, each by
// id; rows of an array behind its lock.
type Recorder struct {
	store.Tx
	Wrong []string // one sentence each
	held  map[string]bool
	last  string // the highest
}

// Record records a transaction.
func Record(tx store.Tx) *Recorder { return &Recorder{Tx: tx, held: map[string]bool{}} }

// Ordered returns a store that fails the test for each Update that is not in
// the lock order.
func Ordered(t testing.TB, s store.Store) store.Store { return ordered{s, t} }

type ordered struct {
	store.Store
	t testing.TB
}

func (s ordered) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		r := Record(tx)
		err := fn(r)
		for _, w := range r.Wrong {
			s.t.Errorf("out of the lock order: %s\n%s", w, debug.Stack())
		}
		return err
	})
}

func (r *Recorder) take(level int, ids ...string) {
	for _, id := range ids {
		key := fmt.Sprint(level, " ", id)
		if !r.held[key] && key < r.last {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s is locked after %s", key, r.last))
		}
		r.fresh(level, id)
	}
}

// fresh notes a row that has just been made: nobody waits for it.
func (r *Recorder) fresh(level int, id string) {
	key := fmt.Sprint(level, " ", id)
	r.held[key], r.last = true, max(r.last, key)
}

// guard checks that the array of a row is locked.
func (r *Recorder) guard(what string, daIDs ...string) {
	for _, id := range daIDs {
		if !r.held[fmt.Sprint(levelDA, " ", id)] {
			r.Wrong = append(r.Wrong, what+" while array "+id+" is not locked")
		}
	}
}

func (r *Recorder) guardCntlr(what, id string) {
	if c, err := r.Tx.Cntlr(id); err == nil {
		r.guard(what, c.DAID)
	}
}

func (r *Recorder) guardExp(what, id string) {
	if e, err := r.Tx.Exp(id); err == nil {
		r.guard(what, e.DAID)
	}
}

func ids[T any](rows []T, id func(*T) string) (all []string) {
	for i := range rows {
		all = append(all, id(&rows[i]))
	}
	return all
}

func daOfVD(v *vda.VD) string       { return v.DAID }
func daOfCntlr(c *vda.Cntlr) string { return c.DAID }
func idOfPD(p *vda.PD) string       { return p.ID }
func idOfDN(n *vda.DN) string       { return n.ID }
func idOfCN(n *vda.CN) string       { return n.ID }
func idOfDA(d *vda.DA) string       { return d.ID }

func (r *Recorder) ClusterID() (string, error) {
	r.take(levelCluster, "")
	return r.Tx.ClusterID()
}

func (r *Recorder) DA(id string) (*vda.DA, error) { r.take(levelDA, id); return r.Tx.DA(id) }
func (r *Recorder) DAByName(name string) (*vda.DA, error) {
	d, err := r.Tx.DAByName(name)
	if err == nil {
		r.take(levelDA, d.ID)
	}
	return d, err
}
func (r *Recorder) ListDA(f store.DAFilter, p store.Page) ([]vda.DA, string, error) {
	rows, next, err := r.Tx.ListDA(f, p)
	r.take(levelDA, ids(rows, idOfDA)...)
	return rows, next, err
}
func (r *Recorder) CopyingDAs() ([]vda.DA, error) {
	rows, err := r.Tx.CopyingDAs()
	for i := range rows {
		r.take(levelDA, rows[i].ID)
	}
	return rows, err
}

func (r *Recorder) AutoGrowDAs() ([]vda.DA, error) {
	rows, err := r.Tx.AutoGrowDAs()
	for i := range rows {
		r.take(levelDA, rows[i].ID)
	}
	return rows, err
}

func (r *Recorder) CloneExps() ([]vda.Exp, error) {
	rows, err := r.Tx.CloneExps()
	for i := range rows {
		r.guard("CloneExps", rows[i].DAID)
	}
	return rows, err
}

func (r *Recorder) TogetherSnaps() ([]vda.Snap, error) {
	rows, err := r.Tx.TogetherSnaps()
	for i := range rows {
		r.guard("TogetherSnaps", rows[i].DAID)
	}
	return rows, err
}

func (r *Recorder) CloneSnaps() ([]vda.Snap, error) {
	rows, err := r.Tx.CloneSnaps()
	for i := range rows {
		r.guard("CloneSnaps", rows[i].DAID)
	}
	return rows, err
}

// DAs locks in the order of ids.
func (r *Recorder) DAs(ids []string) ([]vda.DA, error) {
	rows, err := r.Tx.DAs(ids)
	for i := range rows {
		r.take(levelDA, rows[i].ID)
	}
	return rows, err
}

func (r *Recorder) VDsOf(daIDs []string) ([]vda.VD, error) {
	r.guard("VDsOf", daIDs...)
	return r.Tx.VDsOf(daIDs)
}

func (r *Recorder) GrpsOf(daIDs []string) ([]vda.Grp, error) {
	r.guard("GrpsOf", daIDs...)
	return r.Tx.GrpsOf(daIDs)
}

func (r *Recorder) CntlrsOf(daIDs []string) ([]vda.Cntlr, error) {
	r.guard("CntlrsOf", daIDs...)
	return r.Tx.CntlrsOf(daIDs)
}

func (r *Recorder) MirrorsOf(daIDs []string) ([]vda.Mirror, error) {
	r.guard("MirrorsOf", daIDs...)
	return r.Tx.MirrorsOf(daIDs)
}

func (r *Recorder) VDsByID(of []string) ([]vda.VD, error) {
	rows, err := r.Tx.VDsByID(of)
	r.guard("VDsByID", ids(rows, daOfVD)...)
	return rows, err
}

func (r *Recorder) CntlrsByID(of []string) ([]vda.Cntlr, error) {
	rows, err := r.Tx.CntlrsByID(of)
	r.guard("CntlrsByID", ids(rows, daOfCntlr)...)
	return rows, err
}

func (r *Recorder) ESsOfCntlrs(of []string) ([]vda.ES, error) {
	for _, id := range of {
		r.guardCntlr("ESsOfCntlrs", id)
	}
	return r.Tx.ESsOfCntlrs(of)
}

func (r *Recorder) SetLegs(ids []string, s store.LegState) error {
	r.guardVDs("SetLegs", ids)
	return r.Tx.SetLegs(ids, s)
}

func (r *Recorder) SetVDLacks(ids []string, bytes, rate uint64) error {
	r.guardVDs("SetVDLacks", ids)
	return r.Tx.SetVDLacks(ids, bytes, rate)
}

func (r *Recorder) guardVDs(what string, ids []string) {
	for _, id := range ids {
		if v, err := r.Tx.VD(id); err == nil {
			r.guard(what, v.DAID)
		}
	}
}

func (r *Recorder) SetMirrorGens(ids []string, gen uint64) error {
	return r.Tx.SetMirrorGens(ids, gen) // found by MirrorsOf
}

func (r *Recorder) SetCntlrVersions(ids []string, version uint64) error {
	for _, id := range ids {
		r.guardCntlr("SetCntlrVersions", id)
	}
	return r.Tx.SetCntlrVersions(ids, version)
}

func (r *Recorder) SetApplied(o store.Object, ids []string, upTo uint64) error {
	if o == store.ObjVD {
		r.guardVDs("SetApplied", ids)
	} else {
		for _, id := range ids {
			r.guardCntlr("SetApplied", id)
		}
	}
	return r.Tx.SetApplied(o, ids, upTo)
}

func (r *Recorder) DeletedDAs() ([]vda.DA, error) {
	rows, err := r.Tx.DeletedDAs()
	r.take(levelDA, ids(rows, idOfDA)...)
	return rows, err
}
func (r *Recorder) InsertDA(d *vda.DA) error { r.fresh(levelDA, d.ID); return r.Tx.InsertDA(d) }
func (r *Recorder) UpdateDA(d *vda.DA) error { r.take(levelDA, d.ID); return r.Tx.UpdateDA(d) }
func (r *Recorder) SetDASpace(id string, s vda.Space) error {
	r.take(levelDA, id)
	return r.Tx.SetDASpace(id, s)
}
func (r *Recorder) DeleteDA(id string) error { r.take(levelDA, id); return r.Tx.DeleteDA(id) }

func (r *Recorder) GrpsOfDA(id string) ([]vda.Grp, error) {
	r.guard("GrpsOfDA", id)
	return r.Tx.GrpsOfDA(id)
}
func (r *Recorder) UpdateGrp(g *vda.Grp) error {
	r.guard("UpdateGrp", g.DAID)
	return r.Tx.UpdateGrp(g)
}
func (r *Recorder) InsertGrp(g *vda.Grp) error {
	r.guard("InsertGrp", g.DAID)
	return r.Tx.InsertGrp(g)
}
func (r *Recorder) DeleteGrp(id string) error { return r.Tx.DeleteGrp(id) } // found by GrpsOfDA

func (r *Recorder) MirrorsOfDA(id string) ([]vda.Mirror, error) {
	r.guard("MirrorsOfDA", id)
	return r.Tx.MirrorsOfDA(id)
}
func (r *Recorder) InsertMirror(m *vda.Mirror) error {
	r.guard("InsertMirror", m.DAID)
	return r.Tx.InsertMirror(m)
}
func (r *Recorder) UpdateMirror(m *vda.Mirror) error {
	r.guard("UpdateMirror", m.DAID)
	return r.Tx.UpdateMirror(m)
}
func (r *Recorder) SetMirrorScrub(id string, s vda.Scrub) error {
	return r.Tx.SetMirrorScrub(id, s) // found by MirrorsOfDA
}
func (r *Recorder) DeleteMirror(id string) error { return r.Tx.DeleteMirror(id) } // found by MirrorsOfDA

func (r *Recorder) PD(id string) (*vda.PD, error) { r.take(levelPD, id); return r.Tx.PD(id) }
func (r *Recorder) PDByName(dnID, name string) (*vda.PD, error) {
	p, err := r.Tx.PDByName(dnID, name)
	if err == nil {
		r.take(levelPD, p.ID)
	}
	return p, err
}
func (r *Recorder) ListPD(f store.PDFilter, p store.Page) ([]vda.PD, string, error) {
	rows, next, err := r.Tx.ListPD(f, p)
	r.take(levelPD, ids(rows, idOfPD)...)
	return rows, next, err
}
func (r *Recorder) InsertPD(p *vda.PD) error {
	r.take(levelDN, p.DNID)
	r.fresh(levelPD, p.ID)
	return r.Tx.InsertPD(p)
}
func (r *Recorder) UpdatePD(p *vda.PD) error { r.take(levelPD, p.ID); return r.Tx.UpdatePD(p) }
func (r *Recorder) DeletePD(id string) error { r.take(levelPD, id); return r.Tx.DeletePD(id) }
func (r *Recorder) TakePD(id string, n uint64) error {
	r.take(levelPD, id)
	return r.Tx.TakePD(id, n)
}
func (r *Recorder) GivePD(id string, n uint64) error {
	r.take(levelPD, id)
	return r.Tx.GivePD(id, n)
}
func (r *Recorder) SetPDUsed(id string, n uint64) error {
	r.take(levelPD, id)
	return r.Tx.SetPDUsed(id, n)
}
func (r *Recorder) TakeOrphan(id string, n uint64) error {
	r.take(levelPD, id)
	return r.Tx.TakeOrphan(id, n)
}

func (r *Recorder) InsertVD(v *vda.VD) error { // its foreign keys share-lock
	r.guard("InsertVD", v.DAID)
	r.take(levelPD, v.PDID)
	r.take(levelDN, v.DNID)
	return r.Tx.InsertVD(v)
}
func (r *Recorder) UpdateVD(v *vda.VD) error { r.guard("UpdateVD", v.DAID); return r.Tx.UpdateVD(v) }
func (r *Recorder) SetVDLack(id string, bytes, rate uint64) error {
	v, err := r.Tx.VD(id)
	if err != nil {
		return err
	}
	r.guard("SetVDLack", v.DAID)
	return r.Tx.SetVDLack(id, bytes, rate)
}
func (r *Recorder) DeleteVD(id string) error {
	if v, err := r.Tx.VD(id); err == nil {
		r.guard("DeleteVD", v.DAID)
	}
	return r.Tx.DeleteVD(id)
}
func (r *Recorder) VD(id string) (*vda.VD, error) {
	v, err := r.Tx.VD(id)
	if err == nil {
		r.guard("VD", v.DAID)
	}
	return v, err
}
func (r *Recorder) VDsOfDA(id string) ([]vda.VD, error) {
	r.guard("VDsOfDA", id)
	return r.Tx.VDsOfDA(id)
}
func (r *Recorder) VDsOfPD(id string) ([]vda.VD, error) {
	rows, err := r.Tx.VDsOfPD(id)
	r.guard("VDsOfPD", ids(rows, daOfVD)...)
	return rows, err
}
func (r *Recorder) DNObjects(id string, since uint64) ([]vda.PD, []vda.VD, error) {
	pds, vds, err := r.Tx.DNObjects(id, since)
	r.take(levelPD, ids(pds, idOfPD)...)
	r.guard("DNObjects", ids(vds, daOfVD)...)
	return pds, vds, err
}

func (r *Recorder) InsertCntlr(c *vda.Cntlr) error {
	r.guard("InsertCntlr", c.DAID)
	r.take(levelCN, c.CNID)
	return r.Tx.InsertCntlr(c)
}
func (r *Recorder) UpdateCntlr(c *vda.Cntlr) error {
	r.guard("UpdateCntlr", c.DAID)
	r.take(levelCN, c.CNID)
	return r.Tx.UpdateCntlr(c)
}
func (r *Recorder) DeleteCntlr(id string) error {
	if c, err := r.Tx.Cntlr(id); err == nil {
		r.guard("DeleteCntlr", c.DAID)
		r.take(levelCN, c.CNID)
	}
	return r.Tx.DeleteCntlr(id)
}
func (r *Recorder) Cntlr(id string) (*vda.Cntlr, error) {
	r.guardCntlr("Cntlr", id)
	return r.Tx.Cntlr(id)
}
func (r *Recorder) CntlrsOfDA(id string) ([]vda.Cntlr, error) {
	r.guard("CntlrsOfDA", id)
	return r.Tx.CntlrsOfDA(id)
}
func (r *Recorder) CntlrsOfCN(id string) ([]vda.Cntlr, error) {
	rows, err := r.Tx.CntlrsOfCN(id)
	r.guard("CntlrsOfCN", ids(rows, daOfCntlr)...)
	return rows, err
}
func (r *Recorder) CNObjects(id string, since uint64) ([]vda.Cntlr, error) {
	rows, err := r.Tx.CNObjects(id, since)
	r.guard("CNObjects", ids(rows, daOfCntlr)...)
	return rows, err
}
