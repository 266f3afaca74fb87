package planetest

import (
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// hold is of an lvol, by UUID, for a snapshot. The model holds no I/O: it knows whether
// vda_tgt would.
type hold struct {
	snapshot   string
	begun, end time.Time
}

func (p *Plane) snapshotHoldLvol(a *params) (any, error) {
	_, l := p.lvol(a.LvolName)
	if l == nil {
		return nil, errNoDev
	}
	if h, held := p.holds[l.uuid]; held && time.Now().Before(h.end) {
		return nil, jsonrpc.Errno(syscall.EBUSY, "")
	}
	id, err := p.snapshotLvol(a)
	if err == nil {
		now := time.Now()
		p.holds[l.uuid] = hold{a.SnapshotName, now, now.Add(time.Duration(a.LimitMS) * time.Millisecond)}
	}
	return id, err
}

func (p *Plane) releaseLvol(a *params) (any, error) {
	_, l := p.lvol(a.LvolName)
	if l == nil {
		return nil, errNoDev
	}
	h := p.holds[l.uuid]
	if h.snapshot != a.SnapshotName {
		return map[string]any{"in_force": false, "held_us": 0}, nil
	}
	delete(p.holds, l.uuid)
	now := time.Now()
	return map[string]any{"in_force": now.Before(h.end), "held_us": now.Sub(h.begun).Microseconds()}, nil
}
