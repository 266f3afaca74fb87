package apiv1

import "github.com/virtual-disk-array/vda"

// NewLimits puts limits on the wire; nil when there are none.
func NewLimits(l vda.Limits) *Limits {
	if l == (vda.Limits{}) {
		return nil
	}
	return &Limits{RwIosPerSec: l.RWIOs, RwMbytesPerSec: l.RWMB, RMbytesPerSec: l.RMB, WMbytesPerSec: l.WMB, RebuildMbps: l.RebuildMB}
}

// Limits reads them; there are none in nil.
func (l *Limits) Limits() vda.Limits {
	return vda.Limits{RWIOs: l.GetRwIosPerSec(), RWMB: l.GetRwMbytesPerSec(), RMB: l.GetRMbytesPerSec(), WMB: l.GetWMbytesPerSec(),
		RebuildMB: l.GetRebuildMbps()}
}
