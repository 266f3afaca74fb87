package bdevnvme

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// Policy says which of the paths that ANA allows carries a request
// (bdev_nvme_set_multipath_policy). Without one it is always the first,
// optimized before non-optimized: SPDK's active_passive.
type Policy struct {
	ActiveActive bool   // use all paths of the best ANA state
	QueueDepth   bool   // the one with the fewest requests under way; otherwise in turn
	MinIO        uint32 // in turn: requests that one path gets before the next
}

// validate returns an *Error, EINVAL, about a policy that makes no sense.
func (p Policy) validate() error {
	if !p.ActiveActive {
		if p.QueueDepth || p.MinIO != 0 {
			return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument", Cause: fmt.Errorf("selector and rr_min_io are for active_active")}
		}
	} else if p.QueueDepth == (p.MinIO != 0) {
		return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument",
			Cause: fmt.Errorf("rr_min_io %d: round_robin wants at least 1, queue_depth none", p.MinIO)}
	}
	return nil
}

// SetPolicy sets the policy of the bdev called name, and of requests that are
// submitted from now on. ENODEV when it is not a bdev of this module, EINVAL for a
// policy that makes no sense.
func (m *Module) SetPolicy(name string, p Policy) error {
	if err := p.validate(); err != nil {
		return err
	}
	dev, _ := m.reg.Get(name)
	d, ok := dev.(*disk)
	if !ok || d.ctrl.m != m {
		return refuse(syscall.ENODEV, "No such device")
	}
	d.setPolicy(p)
	return nil
}

// PolicyOf returns the policy of the bdev called name; false when it is not one of
// this module.
func (m *Module) PolicyOf(name string) (Policy, bool) {
	dev, _ := m.reg.Get(name)
	d, ok := dev.(*disk)
	if !ok || d.ctrl.m != m {
		return Policy{}, false
	}
	if p := d.policy.Load(); p != nil {
		return *p, true
	}
	return Policy{}, true
}

func (d *disk) setPolicy(p Policy) {
	if p.ActiveActive {
		d.policy.Store(&p)
	} else {
		d.policy.Store(nil)
	}
}

// pickActive is pick under a policy of active paths.
func (d *disk) pickActive(p *Policy) *ioPath {
	list := *d.list.Load()
	best, count := host.ANANonOptimized, uint32(0)
	for _, io := range list {
		if !io.usable() {
			continue
		}
		if io.ns.ANA() == host.ANAOptimized && best != host.ANAOptimized {
			best, count = host.ANAOptimized, 0
		}
		if (io.ns.ANA() == host.ANAOptimized) == (best == host.ANAOptimized) {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	skip := uint32(0)
	if !p.QueueDepth {
		skip = (d.turn.Add(1) - 1) / p.MinIO % count
	}
	var found *ioPath
	for _, io := range list {
		if !io.usable() || (io.ns.ANA() == host.ANAOptimized) != (best == host.ANAOptimized) {
			continue // or it has just become so: any usable path is right
		}
		switch {
		case p.QueueDepth:
			if found == nil || io.busy.Load() < found.busy.Load() {
				found = io
			}
		case skip == 0:
			return io
		default:
			found = io
			skip--
		}
	}
	return found
}

// send sends r over io.
func (d *disk) send(io *ioPath, r *bdev.Request, b *bdev.Batch) {
	if p := d.policy.Load(); p != nil && p.QueueDepth {
		io.busy.Add(1)
		io.ns.Submit(r, (*countedIOPath)(io), b)
		return
	}
	io.ns.Submit(r, io, b)
}

// countedIOPath takes the end of requests that count as under way.
type countedIOPath ioPath

// CompleteIO takes the end of a request on the way.
func (c *countedIOPath) CompleteIO(r *bdev.Request, s nvme.Status, b *bdev.Batch) {
	c.busy.Add(-1)
	(*ioPath)(c).CompleteIO(r, s, b)
}
