package storetest

import (
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// What a Recorder notes of snapshots, exporters and tags.

func (r *Recorder) InsertSnap(s *vda.Snap) error {
	r.guard("InsertSnap", s.DAID)
	return r.Tx.InsertSnap(s)
}
func (r *Recorder) UpdateSnap(s *vda.Snap) error {
	r.guard("UpdateSnap", s.DAID)
	return r.Tx.UpdateSnap(s)
}
func (r *Recorder) DeleteSnap(id string) error {
	if s, err := r.Tx.Snap(id); err == nil {
		r.guard("DeleteSnap", s.DAID)
	}
	return r.Tx.DeleteSnap(id)
}
func (r *Recorder) Snap(id string) (*vda.Snap, error) {
	s, err := r.Tx.Snap(id)
	if err == nil {
		r.guard("Snap", s.DAID)
	}
	return s, err
}
func (r *Recorder) SnapByName(daID, name string) (*vda.Snap, error) {
	r.guard("SnapByName", daID)
	return r.Tx.SnapByName(daID, name)
}
func (r *Recorder) ListSnap(f store.SnapFilter, p store.Page) ([]vda.Snap, string, error) {
	rows, next, err := r.Tx.ListSnap(f, p)
	r.guard("ListSnap", ids(rows, func(s *vda.Snap) string { return s.DAID })...)
	return rows, next, err
}
func (r *Recorder) SnapsOfDA(id string) ([]vda.Snap, error) {
	r.guard("SnapsOfDA", id)
	return r.Tx.SnapsOfDA(id)
}

// SetTags wants the object's row to be locked, or that of its array.
func (r *Recorder) SetTags(id string, t vda.Tags) error {
	locked := false
	for level := levelDA; level <= levelDN; level++ {
		locked = locked || r.held[fmt.Sprint(level, " ", id)]
	}
	switch s, err := r.Tx.Snap(id); {
	case locked:
	case err == nil:
		r.guard("SetTags", s.DAID)
	default:
		r.guardExp("SetTags", id)
	}
	return r.Tx.SetTags(id, t)
}

func (r *Recorder) InsertExp(e *vda.Exp) error {
	r.guard("InsertExp", e.DAID)
	return r.Tx.InsertExp(e)
}
func (r *Recorder) UpdateExp(e *vda.Exp) error {
	r.guard("UpdateExp", e.DAID)
	return r.Tx.UpdateExp(e)
}
func (r *Recorder) DeleteExp(id string) error { r.guardExp("DeleteExp", id); return r.Tx.DeleteExp(id) }
func (r *Recorder) Exp(id string) (*vda.Exp, error) {
	r.guardExp("Exp", id)
	return r.Tx.Exp(id)
}
func (r *Recorder) ExpByName(daID, name string) (*vda.Exp, error) {
	r.guard("ExpByName", daID)
	return r.Tx.ExpByName(daID, name)
}
func (r *Recorder) ExpByNQN(nqn string) (*vda.Exp, error) {
	e, err := r.Tx.ExpByNQN(nqn)
	if err == nil {
		r.guard("ExpByNQN", e.DAID)
	}
	return e, err
}
func (r *Recorder) ListExp(f store.ExpFilter, p store.Page) ([]vda.Exp, string, error) {
	rows, next, err := r.Tx.ListExp(f, p)
	r.guard("ListExp", ids(rows, func(e *vda.Exp) string { return e.DAID })...)
	return rows, next, err
}
func (r *Recorder) ExpsOfDA(id string) ([]vda.Exp, error) {
	r.guard("ExpsOfDA", id)
	return r.Tx.ExpsOfDA(id)
}
func (r *Recorder) InsertES(e *vda.ES) error {
	r.guardExp("InsertES", e.ExpID)
	return r.Tx.InsertES(e)
}
func (r *Recorder) DeleteES(id string) error { return r.Tx.DeleteES(id) } // found by one of the next two
func (r *Recorder) ESsOfExp(id string) ([]vda.ES, error) {
	r.guardExp("ESsOfExp", id)
	return r.Tx.ESsOfExp(id)
}
func (r *Recorder) ESsOfCntlr(id string) ([]vda.ES, error) {
	r.guardCntlr("ESsOfCntlr", id)
	return r.Tx.ESsOfCntlr(id)
}
