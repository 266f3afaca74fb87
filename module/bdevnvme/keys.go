package bdevnvme

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// Keys are what the connections of an attachment authenticate by, and the names
// that they go by.
type Keys struct {
	dhchap.Keys
	Name           string // of Host
	ControllerName string // of Controller
}

// SetKeys replaces what a controller's paths authenticate by, and has those that
// are connected do so; bdev_nvme_set_keys. Errors are of type *Error: ENODEV
// when there is no such controller, EACCES when the other side does not take the
// new keys, or cannot prove itself by them: that path connects again.
func (m *Module) SetKeys(ctx context.Context, name string, keys Keys) error {
	paths, err := m.paths(name, 0)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range paths {
		p.keys.Store(&keys)
		if err := p.ctl.SetKeys(ctx, keys.Keys); err != nil {
			errs = append(errs, fmt.Errorf("%s at %s:%s: %w", p.cfg.SubNQN, p.cfg.Traddr, p.cfg.Trsvcid, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		no := syscall.EIO
		if errors.As(err, new(*dhchap.Error)) {
			no = syscall.EACCES
		}
		return &Error{Errno: no, Msg: no.Error(), Cause: err}
	}
	return nil
}
