package dn

import (
	"errors"
	"io"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
)

// hold keeps a pd's disk from others for a data plane that does not do so
// itself, from before it gets the disk until it has let go of it, or the agent
// ends. dev is the disk as this agent has opened it, nil for one that is in the
// data plane already, as after a restart of the agent: that one is taken now, and
// it is an error when somebody else has it meanwhile.
func (a *Agent) hold(spec *apiv1.PdSpec, c conf, dev disk.Device) error {
	if c.Type != "aio" {
		return nil
	}
	// Passes over one pd do not overlap; an open may take its time.
	a.mu.Lock()
	held := a.held[spec.Id]
	a.mu.Unlock()
	if held != nil {
		return nil
	}
	var have io.Closer
	if dev != nil {
		have = dev
	}
	guard, err := a.Plane.Driver().Guard(have, func() (io.Closer, error) { return a.Disks.Open(c.Filename) })
	if err != nil || guard == nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held[spec.Id] = guard
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
