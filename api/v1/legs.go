package apiv1

import "github.com/virtual-disk-array/vda"

// NewLegRole is a role as it is sent.
func NewLegRole(r vda.LegRole) LegRole {
	switch r {
	case vda.Member:
		return LegRole_LEG_ROLE_MEMBER
	case vda.Target:
		return LegRole_LEG_ROLE_TARGET
	}
	return LegRole_LEG_ROLE_STALE
}
