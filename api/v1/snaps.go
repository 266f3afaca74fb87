package apiv1

import "github.com/virtual-disk-array/vda"

// NewSnapRollback is the state of a rollback as it is sent.
func NewSnapRollback(r vda.SnapRollback) SnapRollback {
	switch r {
	case vda.RollbackAsked:
		return SnapRollback_SNAP_ROLLBACK_ASKED
	case vda.RollbackDone:
		return SnapRollback_SNAP_ROLLBACK_DONE
	default:
		return SnapRollback_SNAP_ROLLBACK_UNSPECIFIED
	}
}

// Rollback is the state that is sent as r.
func (r SnapRollback) Rollback() vda.SnapRollback {
	switch r {
	case SnapRollback_SNAP_ROLLBACK_ASKED:
		return vda.RollbackAsked
	case SnapRollback_SNAP_ROLLBACK_DONE:
		return vda.RollbackDone
	default:
		return vda.RollbackNone
	}
}

// NewSnapSpec is a snapshot as it is sent.
func NewSnapSpec(s *vda.Snap) *SnapSpec {
	spec := &SnapSpec{Id: s.ID, Name: s.Name, State: NewSnapState(s.State), Rollback: NewSnapRollback(s.Rollback)}
	if s.Writable() {
		spec.State, spec.Clone = SnapState_SNAP_STATE_UNSPECIFIED, &SnapClone{Of: s.CloneOf, State: spec.State}
	}
	return spec
}

// Stage is the state of a snapshot, writable or not.
func (s *SnapSpec) Stage() SnapState {
	if s.Clone != nil {
		return s.Clone.State
	}
	return s.State
}

// NewSnapState is a snapshot's state as it is sent.
func NewSnapState(s vda.SnapState) SnapState {
	switch s {
	case vda.SnapAsked:
		return SnapState_SNAP_STATE_ASKED
	case vda.SnapTaken:
		return SnapState_SNAP_STATE_TAKEN
	case vda.SnapTogether:
		return SnapState_SNAP_STATE_TOGETHER
	case vda.SnapDeleting:
		return SnapState_SNAP_STATE_DELETING
	}
	return SnapState_SNAP_STATE_UNSPECIFIED
}
