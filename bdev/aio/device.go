// Package aio is the block device on a file or a block device of the host
// (SPDK's bdev_aio).
package aio

import (
	"github.com/google/uuid"

	"vda/bdev"
)

// Config of a device.
type Config struct {
	Name      string
	Filename  string    // regular file or block device
	UUID      uuid.UUID // zero: a random one
	BlockSize uint32    // bytes; 0: what the file system or device asks for
	ReadOnly  bool      // open for reading only; writes are refused
	Fallocate bool      // unmap and write zeroes of a regular file punch holes (always on for block devices)
}

// Device is a file as a block device.
type Device struct{ bdev.Device }

// New opens the file; the caller registers the device.
func New(c Config) (*Device, error) { return nil, nil }

// Rescan looks at the file's size again and tells reg when it has changed.
func (d *Device) Rescan(reg *bdev.Registry) error { return nil }
