package apiv1

import "github.com/virtual-disk-array/vda"

// NewSnapState is a snapshot's state as it is sent.
func NewSnapState(s vda.SnapState) SnapState {
	switch s {
	case vda.SnapAsked:
		return SnapState_SNAP_STATE_ASKED
	case vda.SnapTaken:
		return SnapState_SNAP_STATE_TAKEN
	case vda.SnapDeleting:
		return SnapState_SNAP_STATE_DELETING
	}
	return SnapState_SNAP_STATE_UNSPECIFIED
}
