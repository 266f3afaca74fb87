package planetest

import (
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// hold is of an lvol, by UUID, for a snapshot. On a cluster that is not live there is no I/O to be
// held: the model knows whether vda_tgt would.
type hold struct {
	snapshot   string
	begun, end time.Time
	release    func() // has I/O go on
}

func (p *Plane) snapshotHoldLvol(a *params) (any, error) {
	_, l := p.lvol(a.LvolName)
	if l == nil {
		return nil, errNoDev
	}
	if h := p.holds[l.uuid]; h != nil && time.Now().Before(h.end) {
		return nil, jsonrpc.Errno(syscall.EBUSY, "")
	}
	id, release, err := p.takeSnapshot(a)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	h := &hold{a.SnapshotName, now, now.Add(time.Duration(a.LimitMS) * time.Millisecond), sync.OnceFunc(release)}
	p.holds[l.uuid] = h
	if p.c.live != nil {
		if p.c.live.NoHold {
			h.release()
		}
		go func() { // it ends by itself
			p.c.mu.Lock()
			defer p.c.mu.Unlock()
			p.c.sleep(time.Until(h.end))
			h.release()
		}()
	}
	return id, nil
}

func (p *Plane) releaseLvol(a *params) (any, error) {
	_, l := p.lvol(a.LvolName)
	if l == nil {
		return nil, errNoDev
	}
	h := p.holds[l.uuid]
	if h == nil || h.snapshot != a.SnapshotName {
		return map[string]any{"in_force": false, "held_us": 0}, nil
	}
	delete(p.holds, l.uuid)
	h.release()
	now := time.Now()
	return map[string]any{"in_force": now.Before(h.end), "held_us": now.Sub(h.begun).Microseconds()}, nil
}
