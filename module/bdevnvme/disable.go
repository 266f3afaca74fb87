package bdevnvme

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/virtual-disk-array/vda/nvmf/host"
)

// Disable disconnects a controller, or its path with the controller id, 0 for
// all, and fails what waits for a path if there is no other, and whatever
// comes; the bdevs stay. It returns when that is so. ENODEV without the
// controller, EALREADY when one of its paths is disabled.
func (m *Module) Disable(ctx context.Context, name string, cntlid uint16) error {
	return m.each(name, cntlid, func(p *path) error { return p.ctl.Disable(ctx) })
}

// Enable has disabled paths connected again; it returns after the first
// attempt, with EPERM when that failed, as SPDK's does: more follow, as after any
// loss of a connection. EALREADY when one of them is not disabled.
func (m *Module) Enable(ctx context.Context, name string, cntlid uint16) error {
	return m.each(name, cntlid, func(p *path) error { return p.ctl.Enable(ctx) })
}

// each carries out f on the paths of a controller at once and returns the
// error of the first.
func (m *Module) each(name string, cntlid uint16, f func(*path) error) error {
	paths, err := m.paths(name, cntlid)
	if err != nil {
		return err
	}
	errs := make([]error, len(paths))
	var wg sync.WaitGroup
	for i, p := range paths {
		wg.Go(func() { errs[i] = f(p) })
	}
	wg.Wait()
	for _, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, host.ErrNoSession): // before what may be its reason
			return &Error{Errno: syscall.EPERM, Msg: "Operation not permitted", Cause: fmt.Errorf("%s: %w", name, err)}
		case errors.Is(err, host.ErrNotDisabled), errors.Is(err, host.ErrDisabled):
			return &Error{Errno: syscall.EALREADY, Msg: "Operation already in progress", Cause: fmt.Errorf("%s: %w", name, err)}
		case errors.Is(err, host.ErrClosed):
			return &Error{Errno: syscall.ENXIO, Msg: "No such device or address", Cause: fmt.Errorf("%s: %w", name, err)}
		default:
			return &Error{Errno: syscall.ECANCELED, Msg: "Operation canceled", Cause: err}
		}
	}
	return nil
}

// IOPath is one element of bdev_nvme_get_io_paths: a path to a namespace.
type IOPath struct {
	BdevName   string      `json:"bdev_name"`
	CNTLID     uint16      `json:"cntlid"`
	Current    bool        `json:"current"` // the next request would take it
	Connected  bool        `json:"connected"`
	Accessible bool        `json:"accessible"` // by its ANA state
	Transport  PathAddress `json:"transport"`
}

// PathAddress is where an IOPath leads.
type PathAddress struct {
	TrType  string `json:"trtype"`
	Traddr  string `json:"traddr"`
	Trsvcid string `json:"trsvcid"`
	AdrFam  string `json:"adrfam"`
}

// IOPaths lists the paths of the bdev called name, "" for all bdevs, in the order
// that the controllers were attached.
func (m *Module) IOPaths(name string) []IOPath {
	m.mu.Lock()
	order := append([]*controller(nil), m.order...)
	m.mu.Unlock()
	var out []IOPath
	for _, ctrl := range order {
		for _, d := range ctrl.diskList() {
			if name != "" && name != d.name {
				continue
			}
			active := d.policy.Load() != nil
			current := d.first()
			for _, io := range d.ioPaths() {
				t := io.path.trid(io.path.ctl.Addresses()[0])
				out = append(out, IOPath{BdevName: d.name, CNTLID: io.path.ctl.CNTLID(), Current: io == current || active &&
					current != nil && io.peer(current),
					Connected: io.path.ctl.State() == host.Enabled, Accessible: io.ns.ANA().Accessible(),
					Transport: PathAddress{TrType: t.TrType, Traddr: t.Traddr, Trsvcid: t.Trsvcid, AdrFam: t.AdrFam}})
			}
		}
	}
	return out
}

// peer reports that a policy of active paths uses io as it does o.
func (io *ioPath) peer(o *ioPath) bool {
	return io.usable() && (io.ns.ANA() == host.ANAOptimized) == (o.ns.ANA() == host.ANAOptimized)
}
