package dn

import (
	"errors"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
)

// hold keeps a pd's disk from others for a data plane that doesn't do so
// itself, from before it gets the disk until it has let go of it, or the agent
// ends. A disk that is in the data plane already, as after a restart of the
// agent, is taken now; it is an error when somebody else has it meanwhile.
func (a *Agent) hold(spec *apiv1.PdSpec, c conf, dev disk.Device) error {
	if c.Type != "aio" || a.Plane.Able().HoldsDisks {
		return nil
	}
	// Passes over one pd don't overlap; an open may take its time.
	a.mu.Lock()
	held := a.held[spec.Id]
	a.mu.Unlock()
	if held != nil {
		return nil
	}
	if dev == nil {
		var err error
		if dev, err = a.Disks.Open(c.Filename); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held[spec.Id] = dev
	return nil
}

// unhold lets others have a pd's disk.
func (a *Agent) unhold(id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	dev := a.held[id]
	delete(a.held, id)
	if dev == nil {
		return nil
	}
	return dev.Close()
}

// Close ends passes, and lets go of the disks that are held; the data plane
// goes on with what it has.
func (a *Agent) Close() error {
	err := a.Node.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, dev := range a.held {
		err = errors.Join(err, dev.Close())
		delete(a.held, id)
	}
	return err
}
